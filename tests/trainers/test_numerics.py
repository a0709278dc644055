"""Gradients against finite differences, a pinned run, and how far bfloat16 is from float32."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainers.measure.accuracy import predict_logits
from trainers.models.heads import TokenHead
from trainers.models.masks import Gates
from trainers.models.muxed_bert import MuxedBert, initialise
from trainers.phase_config import FinetuneConfig, PretrainConfig, PrimeConfig, PruneConfig
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.precision import Precision
from trainers.phases.pretrain import PretrainProgram
from trainers.phases.prime import PrimeProgram
from trainers.phases.prune import PruneProgram
from trainers.phases.teachers import TeacherModels

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[1] / "golden" / "training_losses.json"
NUM_PINNED = 20


def gated_loss(model: MuxedBert, gates: Gates, batch, seed: int) -> torch.Tensor:
    masks = gates.sample(torch.Generator().manual_seed(seed))
    logits = model(batch, masks)
    assert logits.dtype == torch.float64  # `task_loss` would compute in single precision
    labels = torch.arange(logits.shape[0] * logits.shape[1]).view(logits.shape[:2]) % 2
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


@pytest.mark.parametrize("num_instances", [1, 2, 5])
@pytest.mark.parametrize("embed_mode", ["single_pass", "two_pass"])
def test_gradients_of_the_gated_model_are_those_of_finite_differences(
    make_model, make_groups, make_gates, num_instances, embed_mode
):
    """One random direction over all weights and gate parameters at once, float64."""
    model = make_model(num_instances, embed_mode=embed_mode).train()  # nothing folded, no dropout
    gates, batch = make_gates(0, 0.5).double(), make_groups(num_instances)
    parameters = [p for module in (model, gates) for p in module.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(1)
    direction = [
        torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters
    ]

    gradients = torch.autograd.grad(
        gated_loss(model, gates, batch, 3), parameters, allow_unused=True
    )
    slope = sum(
        float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None
    )

    def moved(distance: float) -> float:
        with torch.no_grad():
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.add_(way, alpha=distance)
            loss = float(gated_loss(model, gates, batch, 3))
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.add_(way, alpha=-distance)
        return loss

    step = 1e-6
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((moved(step) - moved(-step)) / (2 * step), rel=1e-4)


def make_program(kind, make_model, make_encoded, dtype=torch.float32):
    """Build a phase at N = 2 whose only randomness is that of its seed."""
    model = make_model(2, dtype=torch.float32, embed_mode="single_pass")
    shared = {"seed": 3, "precision": Precision(CPU, dtype)}
    size = {"num_updates": NUM_PINNED, "batch_size": 8, "learning_rate": 1e-3}
    train = make_encoded(64)
    if kind == "prime":
        torch.manual_seed(0)
        head = TokenHead(32, 100, 1e-12)
        return PrimeProgram(model, head, train, PrimeConfig(**size), **shared)
    if kind == "pretrain":
        torch.manual_seed(0)
        head = TokenHead(32, 100, 1e-12)
        plain = make_model(1, seed=9, dtype=torch.float32, embed_mode="single_pass")
        config = PretrainConfig(**size, detect_weight=0.5, retrieval_weight=0.1)
        return PretrainProgram(model, head, plain, train, (0, 1, 2, 3, 4), config, **shared)
    teacher = make_model(2, seed=9, dtype=torch.float32, embed_mode="single_pass")
    if kind == "finetune":
        config = FinetuneConfig(**size, distill_weight=0.5)
        return FinetuneProgram(model, teacher, train, train, config, **shared)
    return PruneProgram(
        model,
        TeacherModels(teacher),
        Gates(model.shape),
        train,
        0.5,
        PruneConfig(**size),
        **shared,
    )


def run_losses(program) -> list[float]:
    losses = []
    for step in range(NUM_PINNED):
        torch.manual_seed(step)
        losses.append(float(program.update(step)["loss"]))
    return losses


@pytest.mark.parametrize("kind", ["prime", "pretrain", "finetune", "prune"])
def test_losses_of_twenty_updates_are_the_pinned_ones(make_model, make_encoded, kind):
    """Within what another processor's order of sums changes; any other training is far off.

    With `AUTOPRUMUX_PIN=1` in the environment it writes the file anew and fails; a change that
    needs this alters trainings, so its commit says why.
    """
    pinned = json.loads(GOLDEN.read_text(encoding="utf-8"))

    losses = run_losses(make_program(kind, make_model, make_encoded))

    if os.environ.get("AUTOPRUMUX_PIN") == "1":
        GOLDEN.write_text(json.dumps({**pinned, kind: losses}, indent=1) + "\n", encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} has new losses of `{kind}`; look at the difference.")
    assert losses == pytest.approx(pinned[kind], rel=2e-3)


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "prune"])
def test_twenty_updates_in_bfloat16_stay_near_those_in_single_precision(
    make_model, make_encoded, kind
):
    """bfloat16 has 8 bits: single losses within 3 %, and the trained models alike."""
    programs = [
        make_program(kind, make_model, make_encoded, dtype)
        for dtype in (torch.float32, torch.bfloat16)
    ]

    exact, rounded = (run_losses(program) for program in programs)

    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.03, abs=0.01)
    logits = [predict_logits(program.model, make_encoded(64), CPU) for program in programs]
    assert np.abs(logits[0] - logits[1]).max() < 0.1 * np.abs(logits[0]).max()


@pytest.mark.slow
def test_a_partner_changes_logits_but_hardly_the_accuracy(make_model, make_encoded):
    """The accuracy of a trained model varies less over groupings than a coin of its mean would."""
    torch.manual_seed(0)
    model = make_model(2, dtype=torch.float32, embed_mode="single_pass")
    model.apply(initialise)
    train, validation = make_encoded(4000), make_encoded(600, seed=1)
    config = FinetuneConfig(num_updates=150, batch_size=32, learning_rate=2e-3)  # 88 % right
    program = FinetuneProgram(
        model, None, train, validation, config, seed=0, precision=Precision(CPU, torch.float32)
    )
    for step in range(config.num_updates):
        program.update(step)

    answers = [predict_logits(model, validation, CPU, seed=seed) for seed in range(8)]
    accuracies = [float((logits.argmax(1) == validation.labels).mean()) for logits in answers]

    assert np.abs(answers[0] - answers[1]).max() > 1e-3  # who shares a group matters
    mean = float(np.mean(accuracies))
    assert 0.6 < mean < 0.99  # who is always right cannot vary
    assert np.std(accuracies) < np.sqrt(mean * (1 - mean) / 600)
