"""One configuration from checkpoint to measurement.

    prime -> pretrain -> finetune -> prune -> compaction -> finetune_pruned -> measure

The phases and their cache are in `trainers.stages`, those of pruning in `trainers.pruning`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from trainers.config import TrainerConfig, check_candidate
from trainers.context import TrainingContext
from trainers.dense import finetuned_stage, with_labels
from trainers.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    OutOfMemoryError,
    SparsityError,
)
from trainers.measure.accuracy import measure_accuracy
from trainers.measure.batching import check_groups
from trainers.measure.environment import describe_environment
from trainers.measure.throughput import measure_throughput
from trainers.models.blocks import check_blocks
from trainers.models.checkpoints import TOKENIZER_FILE
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.models.sources import load_source, load_tokenizer, source_fingerprint
from trainers.models.structure import check_reachable
from trainers.phase_config import PruneConfig
from trainers.phases.floors import schedule_mistake
from trainers.phases.loop import Report
from trainers.processes import ALONE, Processes
from trainers.pruning import pruned_stage
from trainers.results import PhaseResult, StructureResult, TrainerResult
from trainers.stages import RESULT_FILE, Stage


class Trainer:
    """Trains and measures the candidates of one recipe; the data is loaded and encoded once.

    Args:
        config: Recipe.
        shared_seed: Decides the phases that all candidates of a width share (the rungs of a
            ladder among them), new weights, and compositions.
        cache_dir: Folder of the phase cache.
        processes: Those that train together, each with a trainer of the same recipe.
    """

    def __init__(
        self,
        config: TrainerConfig,
        *,
        shared_seed: int,
        cache_dir: Path,
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.shared_seed, self.cache_dir = config, shared_seed, cache_dir
        self.processes = processes

    @cached_property
    def context(self) -> TrainingContext:
        """What all trainings share; data and tokenizer are loaded when it is first asked for."""
        return TrainingContext.open(
            self.config,
            seed=self.shared_seed,
            cache_dir=self.cache_dir,
            processes=self.processes,
        )

    def with_config(self, config: TrainerConfig) -> "Trainer":
        """Yield a trainer of another recipe for the same task, data and model, loaded once."""
        other = Trainer(
            config,
            shared_seed=self.shared_seed,
            cache_dir=self.cache_dir,
            processes=self.processes,
        )
        other.context = replace(self.context, config=config)
        if config.data == self.config.data:  # what is encoded stays so
            encoded = ("train", "held_out", "validation")
            known = {
                name: vars(self.context)[name] for name in encoded if name in vars(self.context)
            }
            vars(other.context).update(known)
        return other

    def check(self, sparsities: Iterable[float] = (), widths: Iterable[int] = ()) -> str:
        """Load data, tokenizer and checkpoint headers, and yield the fingerprint of the data.

        Processes that train together call it at once.

        Args:
            sparsities: Those that will be asked for.
            widths: The N that will be asked for.

        Raises:
            ConfigError: If options contradict each other, the machine lacks what they ask for,
                the gates cannot reach one of `sparsities` or close in time, or model or data are
                too small for one of `widths`.
            DataError: If data files are missing or malformed, or another process has others.
            CheckpointError: If weights or tokenizer are missing, or do not fit one of `widths`.
        """
        with self.processes.task():
            fingerprint = self._check(sparsities, widths)
            _require_same_data(self.processes.exchange(fingerprint))
            _require_same_precision(self.processes.exchange(self.context.precision.word))
        return fingerprint

    def _check(self, sparsities: Iterable[float], widths: Iterable[int]) -> str:
        _ = self.context.precision  # the device
        splits = self.context.splits  # wrong data before wrong weights: it is read first
        source_fingerprint(self.config.model, 1)
        _ = self.context.train  # tokenises, so that a wrong tokenizer shows now
        model = load_source(self.config.model, 1)
        _check_fit(self.context, model)
        for sparsity in sparsities:
            _check_gates(self.config.prune, model, sparsity)
            if mistake := _schedule_mistake(self.config.prune, sparsity):
                raise ConfigError(mistake)
        for num_instances in widths:
            _check_width(self.context, model, num_instances)
        return splits.fingerprint

    def cached_widths(self) -> frozenset[int]:
        """Yield the widths whose fine-tuned model is in the cache."""
        entries = self.cache_dir.glob(f"finetune-n*-*/{RESULT_FILE}")
        found = {int(path.parent.name.split("-")[1][1:]) for path in entries}
        return frozenset(n for n in found if finetuned_stage(self.context, n).is_complete)

    def train_and_measure(
        self, *, num_instances: int, sparsity: float, seed: int, report: Report
    ) -> TrainerResult:
        """Train one candidate, or take up where a killed process stopped, and measure it.

        Args:
            num_instances: N.
            sparsity: Requested sparsity in [0, 1).
            seed: Decides groups and gate noise of pruning, unless that climbs a ladder, and the
                groups of the training after it.
            report: Called with `PHASE/VALUE`, value, step.

        Raises:
            ConfigError: If the candidate, the device or a length is impossible, or the gates
                cannot reach the sparsity.
            DataError: If data files are missing or malformed.
            CheckpointError: If weights or tokenizer are missing or do not fit.
            TrainingError: If the run failed; its class says how.
        """
        stage, baseline, phases = self._train(num_instances, sparsity, seed, report)
        context, config = self.context, self.config
        device = context.precision.device
        with _out_of_memory_as_error():
            model = stage.load().to(device)
            report("measure/total", 2, 0)
            accuracy = measure_accuracy(
                model, context.validation, config.accuracy, seed=self.shared_seed, device=device
            )
            report("measure/step", 1, 1)
            throughput = measure_throughput(
                model,
                baseline.to(device),
                context.validation,
                config.throughput,
                length=config.throughput.length or config.data.max_length,
                device=device,
            )
            report("measure/step", 2, 2)
        return TrainerResult(
            accuracy=accuracy,
            throughput=throughput,
            sparsity=model.shape.sparsity,
            structure=_structure(model),
            phases=phases,
            checkpoint=str(stage.directory),
            environment={
                **describe_environment(device),
                "num_processes": str(self.processes.count),
                "precision": context.precision.word,
            },
        )

    def help_to_train(self, *, num_instances: int, sparsity: float, seed: int) -> None:
        """Take a share of what the first process trains by `train_and_measure`; same errors."""
        self._train(num_instances, sparsity, seed, lambda name, value, step: None)

    def _train(
        self, num_instances: int, sparsity: float, seed: int, report: Report
    ) -> tuple[Stage, MuxedBert, tuple[PhaseResult, ...]]:
        """Yield the last stage, the dense baseline and what all stages yielded."""
        with self.processes.task(), _out_of_memory_as_error():
            check_candidate(num_instances, sparsity)
            baseline = _dense_baseline(self.context)
            _check_fit(self.context, baseline)
            _check_gates(self.config.prune, baseline, sparsity)
            if mistake := _schedule_mistake(self.config.prune, sparsity):
                raise SparsityError(mistake)  # of this candidate: others may have other schedules
            _check_width(self.context, baseline, num_instances)
            stage = finetuned_stage(self.context, num_instances)
            if sparsity > 0:
                stage = pruned_stage(self.context, stage, sparsity, seed)
            return stage, baseline, tuple(stage.run_all(report))


def train_and_measure(
    config: TrainerConfig,
    *,
    num_instances: int,
    sparsity: float,
    seed: int,
    cache_dir: Path,
    report: Report,
) -> TrainerResult:
    """Train and measure a single candidate; see `Trainer.train_and_measure`, also for errors."""
    trainer = Trainer(config, shared_seed=seed, cache_dir=cache_dir)
    return trainer.train_and_measure(
        num_instances=num_instances, sparsity=sparsity, seed=seed, report=report
    )


def _require_same_data(fingerprints: list[str]) -> None:
    for rank, fingerprint in enumerate(fingerprints):
        if fingerprint != fingerprints[0]:
            raise DataError(
                f"Process {rank} reads other examples ({fingerprint}) than the first one "
                f"({fingerprints[0]}); give all of them the same files."
            )


def _require_same_precision(words: list[str]) -> None:
    for rank, word in enumerate(words):
        if word != words[0]:
            raise ConfigError(
                f"`precision` = `auto` means `{words[0]}` to the first process and `{word}` to "
                f"process {rank}; name one of them."
            )


def _dense_baseline(context: TrainingContext) -> MuxedBert:
    model = load_source(context.config.model, 1)
    return with_labels(model, context.task.labels).eval()


def _check_fit(context: TrainingContext, model: MuxedBert) -> None:
    """Refuse lengths and token ids that the model has no embeddings for, before any training."""
    config, shape = context.config, model.shape
    lengths = {
        "data.max_length": config.data.max_length,
        "throughput.length": config.throughput.length,
    }
    for name, length in lengths.items():
        if length > shape.max_positions:
            raise ConfigError(
                f"`{name}` must be at most {shape.max_positions}, the positions of the model, "
                f"got {length}."
            )
    num_tokens = context.tokenizer.get_vocab_size()
    if num_tokens > shape.vocab_size:
        width = "" if shape.num_instances == 1 else f" for N={shape.num_instances}"
        raise CheckpointError(
            f"The tokenizer of `{config.model.source}` has {num_tokens} tokens, but the model's "
            f"table{width} only {shape.vocab_size}; use those of the same checkpoint."
        )


def _check_width(context: TrainingContext, plain: MuxedBert, num_instances: int) -> None:
    """Refuse a width that the data or the models are too small for."""
    check_candidate(num_instances, 0.0)
    check_groups(len(context.splits.train), num_instances)
    config, labels = context.config.model, context.task.labels
    replace(plain.shape.dense(num_instances), num_classes=len(labels)).check()
    if config.widening == "blocks":
        check_blocks(plain.shape, num_instances)
    if config.has_wide_source(num_instances):
        wide = load_source(config, num_instances)
        _check_fit(context, wide)
        _check_likeness(context, plain.shape, wide.shape)


def _check_likeness(context: TrainingContext, plain: MuxedBertShape, wide: MuxedBertShape) -> None:
    """Refuse a wide model of another size or vocabulary: nothing of both would compare."""
    config, num_instances = context.config.model, wide.num_instances
    source = config.source_of(num_instances)
    for name in ("num_layers", "dense_hidden_size", "dense_num_heads", "dense_feedforward_size"):
        found, expected = getattr(wide, name), getattr(plain, name)
        if found != expected:
            raise CheckpointError(
                f"The model in `{source}` for N={num_instances} has `{name}` {found}, that in "
                f"`{config.source}` {expected}; use plain and wide models of one size."
            )
    has_own = (Path(source) / TOKENIZER_FILE).is_file()
    if has_own and load_tokenizer(source).get_vocab() != context.tokenizer.get_vocab():
        raise CheckpointError(
            f"The tokenizers of `{source}` and `{config.source}` have different tokens; use plain "
            "and wide models with one vocabulary."
        )


def _schedule_mistake(config: PruneConfig, sparsity: float) -> str:
    return schedule_mistake(config, sparsity) if sparsity > 0 else ""


def _check_gates(config: PruneConfig, model: MuxedBert, sparsity: float) -> None:
    """Refuse a sparsity, or one below it on the ladder, that the gates cannot reach."""
    for rung in config.rungs(sparsity) if sparsity > 0 else ():
        check_reachable(model.shape, config.gates, config.sparsity_convention, rung)


def _structure(model: MuxedBert) -> StructureResult:
    shape = model.shape
    return StructureResult(
        hidden_size=shape.hidden_size,
        head_counts=shape.head_counts,
        feedforward_sizes=shape.feedforward_sizes,
        num_encoder_parameters=shape.num_encoder_parameters,
        num_parameters=sum(p.numel() for p in model.parameters()),
    )


@contextmanager
def _out_of_memory_as_error() -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError("The device ran out of memory; lower `batch_size`.") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise OutOfMemoryError("Memory ran out; lower `max_sequences`.") from error
        raise
