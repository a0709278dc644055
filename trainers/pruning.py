"""Pruning as cached stages: a run of its own for each sparsity, or rungs of a shared ladder.

    finetune -> prune 0.60 -> prune 0.65 -> prune 0.70 ...
                   |             |             |
               compaction    compaction    compaction -> finetune_pruned -> measure

Without a ladder every candidate has a `prune` stage that starts from the fine-tuned model. With
one, a rung starts from the weights and gates of the rung below; all candidates of a width share
the rungs, so those are trained with the shared seed and a candidate pays for the missing ones.
The fine-tuned N = 1 model is among what is needed if it teaches, in pruning or after it.
"""

import hashlib
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from trainers.context import TrainingContext
from trainers.dense import finetune_program, finetuned_stage
from trainers.errors import SparsityError
from trainers.models.checkpoints import read_tensors
from trainers.models.compaction import compact
from trainers.models.masks import Gates, masks_to
from trainers.models.muxed_bert import MuxedBert
from trainers.models.structure import choose_structure
from trainers.phase_config import PruneConfig, TaughtConfig
from trainers.phases.layers import LayerMatcher, compacted_map, load_map
from trainers.phases.loop import Program
from trainers.phases.prune import PruneProgram
from trainers.phases.teachers import TeacherModels
from trainers.stages import GATED_FILE, LAYER_MAP_FILE, Finished, Stage

C = TypeVar("C", PruneConfig, TaughtConfig)


def pruned_stage(context: TrainingContext, dense: Stage, sparsity: float, seed: int) -> Stage:
    """Yield the last stage of a pruned model that starts from `dense`.

    Args:
        context: What all phases share; its seed decides the rungs of a ladder.
        dense: Stage of the fine-tuned model of the same N.
        sparsity: Requested sparsity in (0, 1).
        seed: Decides the pruning without a ladder, and the training after it in any case.
    """
    config = _at_width(context.config.finetune_pruned.at(sparsity), dense.num_instances)
    matches_layers = config.layer_distill_weight > 0 and config.teacher != "plain"
    pruned = _gated_stage(context, dense, sparsity, seed)
    if config.num_updates == 0:
        return pruned
    if matches_layers:
        pruned = replace(pruned, required_files=(LAYER_MAP_FILE,))
    plain = _plain_stages(context, config)
    asks_same_width = matches_layers or not plain

    def start() -> tuple[Program, MuxedBert]:
        device = context.precision.device
        same_width = dense.load().to(device) if asks_same_width else None
        layers = None
        if matches_layers:
            assert same_width is not None
            layer_map = load_map(read_tensors(pruned.directory / LAYER_MAP_FILE)).to(device)
            shared: dict[str, Any] = {"seed": seed, "precision": context.precision}
            layers = LayerMatcher(same_width, layer_map, config, **shared)
        teacher = plain[0].load() if plain else same_width
        return finetune_program(context, pruned.load(), teacher, config, seed, layers)

    name, needs = "finetune_pruned", (dense, *plain, pruned)
    return Stage(context, name, dense.num_instances, seed, pruned.key, needs, config, start)


def _at_width(config: C, num_instances: int) -> C:
    """Yield what holds at a width: the unpruned model of N = 1 is the N = 1 teacher."""
    if num_instances > 1:
        return config
    return replace(config, teacher="same_width", state_distill_weight=0.0)


def _plain_stages(
    context: TrainingContext, config: PruneConfig | TaughtConfig
) -> tuple[Stage, ...]:
    """Yield the stage of the N = 1 model if it is a teacher of its own, in a tuple."""
    return () if config.teacher == "same_width" else (finetuned_stage(context, 1),)


def _gated_stage(context: TrainingContext, dense: Stage, sparsity: float, seed: int) -> Stage:
    """Yield the `prune` stage of a sparsity, the rungs below it among its needs."""
    prune = context.config.prune
    if not prune.ladder:
        return _prune_stage(context, dense, None, sparsity, seed)
    *lower, reached = prune.rungs(sparsity)
    below: Stage | None = None
    for rung in lower:
        below = _prune_stage(context, dense, below, rung, _rung_seed(context.seed, rung))
    return _prune_stage(context, dense, below, reached, _rung_seed(context.seed, reached))


def _prune_stage(
    context: TrainingContext, dense: Stage, below: Stage | None, sparsity: float, seed: int
) -> Stage:
    prune = _at_width(context.config.prune, dense.num_instances)
    is_rung = bool(prune.ladder)
    config = _own_config(prune, prune.num_updates if below is None else prune.rung_updates)
    plain = _plain_stages(context, config)

    def start() -> tuple[Program, MuxedBert]:
        device = context.precision.device
        model = dense.load().to(device)
        program = PruneProgram(
            model,
            TeacherModels(
                dense.load().to(device) if config.teacher != "plain" else None,
                plain[0].load().to(device) if plain else None,
            ),
            Gates(model.shape, config.gates, config.sparsity_convention).to(device),
            context.train,
            sparsity,
            config,
            seed=seed,
            precision=context.precision,
        )
        if below is not None:
            program.climb_from(read_tensors(below.directory / GATED_FILE))
        return program, model

    def finish(program: Program, model: MuxedBert) -> Finished:
        assert isinstance(program, PruneProgram)
        option = "num_updates" if below is None else "rung_updates"
        return _compacted(model, program, sparsity, prune.tolerance, option)

    key: dict[str, Any] = {"sparsity": sparsity}
    return Stage(
        context,
        "prune",
        dense.num_instances,
        seed,
        key,
        (dense, *plain) if below is None else (dense, *plain, below),
        config,
        start,
        finish,
        label=f"prune_{sparsity:g}" if is_rung else "",
        keeps_gated=is_rung,
    )


def _own_config(prune: PruneConfig, num_updates: int) -> PruneConfig:
    """Yield what decides one rung: not the other rungs, which are among what it needs."""
    default = PruneConfig()
    return replace(
        prune, num_updates=num_updates, ladder=default.ladder, rung_updates=default.rung_updates
    )


def _rung_seed(seed: int, sparsity: float) -> int:
    """Yield a seed of its own for each rung, or all would see the same first groups (31 bits)."""
    digest = hashlib.sha256(f"{seed}/{sparsity:.6f}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def _compacted(
    model: MuxedBert, program: PruneProgram, sparsity: float, tolerance: float, option: str
) -> Finished:
    gates, layer_map = program.gates, program.modules["layer_map"]
    reached = float(gates.expected_sparsity().detach())
    if reached < sparsity - tolerance:
        raise SparsityError(
            f"Pruning ended at an expected sparsity of {reached:.3f} instead of {sparsity:.3f}; "
            f"raise `prune.{option}` or `prune.gate_learning_rate`."
        )
    masks = masks_to(choose_structure(gates, sparsity), model.embeddings.tokens.weight)
    assert isinstance(layer_map, nn.Linear)
    files = {LAYER_MAP_FILE: compacted_map(layer_map, masks)}
    return Finished(compact(model.eval(), masks), files)
