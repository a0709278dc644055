"""Pruning as cached stages: a run of its own for each sparsity, or rungs of a shared ladder.

    finetune -> prune 0.60 -> prune 0.65 -> prune 0.70 ...
                   |             |             |
               compaction    compaction    compaction -> finetune_pruned -> measure

Without a ladder every candidate has a `prune` stage that starts from the fine-tuned model. With
one, a rung starts from the weights and gates of the rung below; all candidates of a width share
the rungs, so those are trained with the shared seed and a candidate pays for the missing ones.
"""

import hashlib
from dataclasses import replace
from typing import Any

from trainers.context import TrainingContext
from trainers.dense import finetune_program
from trainers.errors import SparsityError
from trainers.models.checkpoints import read_tensors
from trainers.models.compaction import compact
from trainers.models.masks import Gates, masks_to
from trainers.models.muxed_bert import MuxedBert
from trainers.models.structure import choose_structure
from trainers.phase_config import PruneConfig
from trainers.phases.loop import Program
from trainers.phases.prune import PruneProgram
from trainers.stages import GATED_FILE, Stage


def pruned_stage(context: TrainingContext, dense: Stage, sparsity: float, seed: int) -> Stage:
    """Yield the last stage of a pruned model that starts from, and is taught by, `dense`.

    Args:
        context: What all phases share; its seed decides the rungs of a ladder.
        dense: Stage of the fine-tuned model of the same N.
        sparsity: Requested sparsity in (0, 1).
        seed: Decides the pruning without a ladder, and the training after it in any case.
    """
    pruned = _gated_stage(context, dense, sparsity, seed)
    config = context.config.finetune_pruned.at(sparsity)
    if config.num_updates == 0:
        return pruned

    def start() -> tuple[Program, MuxedBert]:
        return finetune_program(context, pruned.load(), dense, config, seed)

    name, needs = "finetune_pruned", (dense, pruned)
    return Stage(context, name, dense.num_instances, seed, pruned.key, needs, config, start)


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
    prune = context.config.prune
    is_rung = bool(prune.ladder)
    config = _own_config(prune, prune.num_updates if below is None else prune.rung_updates)

    def start() -> tuple[Program, MuxedBert]:
        device = context.precision.device
        model = dense.load().to(device)
        program = PruneProgram(
            model,
            dense.load().to(device),
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

    def finish(program: Program, model: MuxedBert) -> MuxedBert:
        assert isinstance(program, PruneProgram)
        option = "num_updates" if below is None else "rung_updates"
        return _compacted(model, program.gates, sparsity, prune.tolerance, option)

    key: dict[str, Any] = {"sparsity": sparsity}
    return Stage(
        context,
        "prune",
        dense.num_instances,
        seed,
        key,
        (dense,) if below is None else (dense, below),
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
    model: MuxedBert, gates: Gates, sparsity: float, tolerance: float, option: str
) -> MuxedBert:
    reached = float(gates.expected_sparsity().detach())
    if reached < sparsity - tolerance:
        raise SparsityError(
            f"Pruning ended at an expected sparsity of {reached:.3f} instead of {sparsity:.3f}; "
            f"raise `prune.{option}` or `prune.gate_learning_rate`."
        )
    masks = masks_to(choose_structure(gates, sparsity), model.embeddings.tokens.weight)
    return compact(model.eval(), masks)
