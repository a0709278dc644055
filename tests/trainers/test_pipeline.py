from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import trainers.models.hugging_face  # noqa: F401, registers its classes
from trainers.data.encoding import encode
from trainers.data.load import load_splits
from trainers.data.tasks import find_task
from trainers.errors import (
    SparsityError,
)
from trainers.measure.accuracy import predict
from trainers.models.batch import Batch
from trainers.models.checkpoints import load_model
from trainers.models.sources import load_tokenizer

MUXED_PHASES = ("prime", "pretrain", "finetune", "finetune")
"""Those of N = 2: the second-last is the N = 1 teacher."""


def names(result, *, is_cached):
    return tuple(phase.name for phase in result.phases if phase.is_cached == is_cached)


def test_a_multiplexed_pruned_candidate_runs_all_phases_in_order(pruned):
    assert names(pruned, is_cached=False) == (*MUXED_PHASES, "prune", "finetune_pruned")
    assert [p.num_updates for p in pruned.phases] == [3, 3, 4, 4, 30, 4]
    assert all(p.duration_s > 0 and p.memory_mib > 1 for p in pruned.phases)


def test_every_phase_announces_itself_and_ticks(pruned, events):
    announced = [(name, value) for name, value, _ in events if name.endswith("/total")]

    assert announced == [
        ("prime/total", 3),
        ("pretrain/total", 3),
        ("finetune/total", 4),
        ("finetune/total", 4),
        ("prune/total", 30),
        ("finetune_pruned/total", 4),
        ("measure/total", 2),
    ]
    assert [e[2] for e in events if e[0] == "prune/step"] == list(range(1, 31))
    assert {"prune/sparsity", "finetune/held_out_accuracy"} <= {e[0] for e in events}


@pytest.mark.parametrize("sparsity", [0.6, 0.8])
def test_the_achieved_sparsity_is_the_requested_one_to_within_a_unit(
    train, config, cache_dir, pruned, sparsity
):
    result = train(config, cache_dir, 2, sparsity)

    structure = result.structure
    prunable = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    unit = 2 * structure.hidden_size / prunable
    assert 0 <= result.sparsity - sparsity <= 0.001 + unit
    assert result.sparsity == 1 - structure.num_encoder_parameters / prunable


def test_the_structure_is_that_of_the_stored_model(pruned):
    model = load_model(Path(pruned.checkpoint))

    structure = pruned.structure
    assert structure.hidden_size == model.shape.hidden_size
    assert structure.head_counts == model.shape.head_counts
    assert structure.feedforward_sizes == model.shape.feedforward_sizes
    matrices = [p for p in model.encoder.parameters() if p.ndim == 2]
    assert structure.num_encoder_parameters == sum(p.numel() for p in matrices)
    assert structure.num_parameters == sum(p.numel() for p in model.parameters())
    assert model.shape.num_instances == 2
    assert model.shape.labels == ("negative", "positive")


def test_the_checkpoint_holds_model_and_tokenizer_and_nothing_unfinished(pruned):
    found = {path.name for path in Path(pruned.checkpoint).iterdir()}

    assert found == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "result.json",
    }


def test_the_checkpoint_opens_in_transformers_with_its_labels(pruned, tokenizer):
    model = AutoModelForSequenceClassification.from_pretrained(pruned.checkpoint)
    rows = AutoTokenizer.from_pretrained(pruned.checkpoint)(
        ["the film was good", "a dull plot"], padding=True, return_tensors="pt"
    )

    with torch.no_grad():
        logits = model(**rows).logits
        batch = Batch(*(rows[k][None] for k in ("input_ids", "attention_mask", "token_type_ids")))
        expected = load_model(Path(pruned.checkpoint))(
            replace(batch, attention_mask=batch.attention_mask.bool())
        )
    assert torch.equal(logits, expected[0])
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_accuracy_is_measured_on_every_validation_example(config, pruned, tokenizer):
    accuracy, num_validation = pruned.accuracy, config.data.num_validation
    assert (accuracy.num_examples, accuracy.num_compositions) == (num_validation, 2)
    bits = np.unpackbits(
        np.frombuffer(accuracy.correctness, np.uint8), count=2 * num_validation
    ).reshape(2, num_validation)
    assert accuracy.accuracy == pytest.approx(bits.mean())
    validation = load_splits(config.data, find_task("sst2")).validation
    examples = encode(tokenizer, validation.texts, 32, validation.labels)
    model = load_model(Path(pruned.checkpoint))
    expected = predict(model, examples, torch.device("cpu"), seed=0) == validation.labels
    assert np.array_equal(bits[0], expected)


def test_throughput_is_measured_against_the_dense_baseline(pruned):
    throughput = pruned.throughput

    assert throughput.throughput_q1 <= throughput.throughput <= throughput.throughput_q3
    assert throughput.speedup_q1 <= throughput.speedup <= throughput.speedup_q3
    assert throughput.baseline_throughput > 0
    assert (throughput.num_repeats, throughput.batch_size, throughput.length) == (4, 4, 32)
    assert pruned.environment["device"] == "cpu"


def test_the_best_held_out_accuracy_is_that_of_the_stored_model(config, cache_dir, baseline):
    history = [p for p in baseline.phases[-1].history if p.name == "held_out_accuracy"]
    held_out = load_splits(config.data, find_task("sst2")).held_out
    examples = encode(load_tokenizer(baseline.checkpoint), held_out.texts, 32, held_out.labels)
    classes = predict(load_model(Path(baseline.checkpoint)), examples, torch.device("cpu"))

    assert len(history) == 2
    assert max(p.value for p in history) == (classes == held_out.labels).mean()


def test_pairs_of_texts_are_trained_like_single_ones(train, config, tmp_path):
    pairs = replace(config, task="qnli", prune=replace(config.prune, tolerance=0.5))

    result = train(pairs, tmp_path, 2, 0.6)

    model = load_model(Path(result.checkpoint))
    assert model.shape.labels == ("entailment", "not_entailment")
    assert names(result, is_cached=False) == (*MUXED_PHASES, "prune", "finetune_pruned")
    assert any(p.name == "detect_loss" and p.value > 0 for p in result.phases[1].history)


def test_too_few_updates_to_reach_the_sparsity_are_an_error(train, config, cache_dir, pruned):
    prune = replace(config.prune, num_updates=2, tolerance=0.01, allows_slow_gates=True)
    hasty = replace(config, prune=prune)

    with pytest.raises(SparsityError, match=r"expected sparsity of 0\.\d+ instead of 0\.600"):
        train(hasty, cache_dir, 2, 0.6)


def test_a_recipe_without_head_and_layer_gates_keeps_every_head(train, config, cache_dir, pruned):
    prune = replace(config.prune, gates=("intermediate", "hidden"), tolerance=0.5)
    others = {"sparsity_convention": "cofi", "layer_alignment": "fixed"}

    result = train(replace(config, prune=replace(prune, **others)), cache_dir, 2, 0.5)

    assert result.structure.head_counts == (4, 4)
    assert result.sparsity == pytest.approx(0.5, abs=2 * 32 / 16384 + 1e-3)
