"""One configuration from checkpoint to measurement: phases in order, each kept in a cache.

    prime -> pretrain -> finetune -> prune -> compaction -> finetune_pruned -> measure

A phase's result is stored under the hash of everything that decides it: its configuration, the
data, the seed, and the result it starts from. Candidates that share a beginning share its results,
and a killed run takes up at its last checkpoint.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import nn

from trainers.config import (
    FinetuneConfig,
    PhaseConfig,
    TrainerConfig,
    check_candidate,
    to_dict,
)
from trainers.data.encoding import Encoded, encode, special_ids
from trainers.data.examples import Examples, Splits
from trainers.data.load import load_splits
from trainers.data.tasks import Task, find_task
from trainers.errors import CheckpointError, ConfigError, OutOfMemoryError, SparsityError
from trainers.measure.accuracy import measure_accuracy
from trainers.measure.environment import describe_environment
from trainers.measure.throughput import measure_throughput
from trainers.models.checkpoints import (
    has_pretrained_width,
    load_model,
    load_source,
    load_tokenizer,
    read_tensors,
    save_model,
    save_tensors,
    save_text,
    source_fingerprint,
)
from trainers.models.compaction import compact
from trainers.models.heads import TokenHead
from trainers.models.masks import Gates, masks_to
from trainers.models.muxed_bert import MuxedBert, initialise
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.loop import LoopOptions, Program, Report, run_phase
from trainers.phases.precision import Precision
from trainers.phases.pretrain import PretrainProgram
from trainers.phases.prime import PrimeProgram
from trainers.phases.prune import PruneProgram
from trainers.results import HistoryPoint, PhaseResult, StructureResult, TrainerResult

logger = logging.getLogger(__name__)

FORMAT = 1
"""Part of every cache key; raised when a change makes older results unusable."""
RESULT_FILE = "result.json"
"""Written last into a cache entry, marks it as complete."""
HEAD_FILE = "token_head.safetensors"
"""The token head that priming hands on to pre-training."""


def check_inputs(config: TrainerConfig) -> str:
    """Load data, tokenizer and checkpoint headers, and yield the fingerprint of the data.

    Raises:
        ConfigError: If options contradict each other or the machine lacks what they ask for.
        DataError: If data files are missing or malformed.
        CheckpointError: If weights or tokenizer are missing.
    """
    _resolve_device(config.device)
    context = _Context.open(config, seed=0, cache_dir=Path())
    source_fingerprint(config.model, 1)
    _ = context.train  # tokenises, so that a wrong tokenizer shows now
    _check_fit(context, load_source(config.model, 1))
    return context.splits.fingerprint


def cached_widths(config: TrainerConfig, *, seed: int, cache_dir: Path) -> frozenset[int]:
    """Yield the widths whose fine-tuned model is in the cache."""
    context = _Context.open(config, seed=seed, cache_dir=cache_dir)
    entries = cache_dir.glob(f"finetune-n*-*/{RESULT_FILE}")
    found = {int(path.parent.name.split("-")[1][1:]) for path in entries}
    return frozenset(n for n in found if _finetuned_stage(context, n).is_complete)


def train_and_measure(
    config: TrainerConfig,
    *,
    num_instances: int,
    sparsity: float,
    seed: int,
    shared_seed: int | None = None,
    cache_dir: Path,
    report: Report,
) -> TrainerResult:
    """Train one candidate, or take up where a killed process stopped, and measure it.

    Args:
        config: Recipe.
        num_instances: N.
        sparsity: Requested sparsity in [0, 1).
        seed: Decides groups and gate noise of pruning and of the training after it.
        shared_seed: Decides the same of the phases that all candidates of a width share, new
            weights, and compositions; without it, `seed` does.
        cache_dir: Folder of the phase cache.
        report: Called with `PHASE/VALUE`, value, step.

    Raises:
        ConfigError: If the candidate, the device or a length is impossible.
        DataError: If data files are missing or malformed.
        CheckpointError: If weights or tokenizer are missing or do not fit.
        TrainingError: If the run failed; its class says how.
    """
    check_candidate(num_instances, sparsity)
    shared_seed = seed if shared_seed is None else shared_seed
    context = _Context.open(config, seed=shared_seed, cache_dir=cache_dir)
    baseline = _dense_baseline(context)
    _check_fit(context, baseline)
    with _out_of_memory_as_error():
        stage = _finetuned_stage(context, num_instances)
        if sparsity > 0:
            stage = _pruned_stage(context, stage, sparsity, seed)
        phases = tuple(stage.run_all(report))
        model = stage.load().to(context.precision.device)
        report("measure/total", 2, 0)
        accuracy = measure_accuracy(
            model,
            context.validation,
            config.accuracy,
            seed=shared_seed,
            device=context.precision.device,
        )
        report("measure/step", 1, 1)
        throughput = measure_throughput(
            model,
            baseline.to(context.precision.device),
            context.validation,
            config.throughput,
            length=config.throughput.length or config.data.max_length,
            device=context.precision.device,
        )
        report("measure/step", 2, 2)
    return TrainerResult(
        accuracy=accuracy,
        throughput=throughput,
        sparsity=model.shape.sparsity,
        structure=_structure(model),
        phases=phases,
        checkpoint=str(stage.directory),
        environment=describe_environment(context.precision.device),
    )


@dataclass(frozen=True)
class _Context:
    """What all phases of one training share; loaded on first use."""

    config: TrainerConfig
    seed: int
    cache_dir: Path
    task: Task
    tokenizer: Tokenizer
    splits: Splits

    @classmethod
    def open(cls, config: TrainerConfig, *, seed: int, cache_dir: Path) -> "_Context":
        task = find_task(config.task)
        tokenizer = load_tokenizer(config.model.source)
        return cls(config, seed, cache_dir, task, tokenizer, load_splits(config.data, task))

    @cached_property
    def precision(self) -> Precision:
        device = _resolve_device(self.config.device)
        return Precision(device, getattr(torch, self.config.precision))

    @cached_property
    def train(self) -> Encoded:
        return self._encode(self.splits.train)

    @cached_property
    def held_out(self) -> Encoded:
        return self._encode(self.splits.held_out)

    @cached_property
    def validation(self) -> Encoded:
        return self._encode(self.splits.validation)

    def _encode(self, examples: Examples) -> Encoded:
        length = self.config.data.max_length
        return encode(self.tokenizer, examples.texts, length, examples.labels)


@dataclass(frozen=True)
class _Stage:
    """One cached phase and the stages it needs."""

    context: _Context
    name: str
    num_instances: int
    seed: int
    key: dict[str, Any]
    """Everything that decides the result, beside what it needs."""
    needs: tuple["_Stage", ...]
    config: PhaseConfig
    start: Callable[[], tuple[Program, MuxedBert]]
    """Builds the program and names the model that is saved."""
    finish: Callable[[Program, MuxedBert], MuxedBert] = lambda _, model: model
    """Turns the trained model into the stored one."""

    @cached_property
    def digest(self) -> str:
        values = {
            "format": FORMAT,
            "phase": self.name,
            "num_instances": self.num_instances,
            "seed": self.seed,
            "data": self.context.splits.fingerprint,
            "max_length": self.context.config.data.max_length,
            "precision": self.context.config.precision,
            "config": to_dict(self.config),
            "needs": [stage.digest for stage in self.needs],
            **self.key,
        }
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def directory(self) -> Path:
        return self.context.cache_dir / f"{self.name}-n{self.num_instances}-{self.digest}"

    @property
    def is_complete(self) -> bool:
        return (self.directory / RESULT_FILE).is_file()

    def load(self) -> MuxedBert:
        return load_model(self.directory)

    def run_all(self, report: Report) -> Iterator[PhaseResult]:
        """Run what is missing, upstream first, and yield every phase once, in order."""
        seen = set[Path]()
        for stage in self._in_order():
            if stage.directory not in seen:
                seen.add(stage.directory)
                yield stage._cached_result() if stage.is_complete else stage._run(report)

    def _in_order(self) -> Iterator["_Stage"]:
        for stage in self.needs:
            yield from stage._in_order()
        yield self

    def _cached_result(self) -> PhaseResult:
        values = json.loads((self.directory / RESULT_FILE).read_text(encoding="utf-8"))
        history = tuple(HistoryPoint(**point) for point in values.pop("history"))
        return replace(PhaseResult(**values, history=history), is_cached=True)

    def _run(self, report: Report) -> PhaseResult:
        torch.manual_seed(self.seed)
        program, model = self.start()
        options = LoopOptions(
            num_updates=self.config.num_updates,
            num_evaluations=getattr(self.config, "num_evaluations", 1),
            seed=self.seed,
            progress_path=self.directory / "progress.safetensors",
            checkpoint_interval_s=self.context.config.checkpoint_interval_s,
        )
        result = run_phase(self.name, program, options, report)
        finished = self.finish(program, model)
        save_model(finished, self.directory, self.context.tokenizer)
        head = program.modules.get("token_head")
        if head is not None:
            save_tensors(head.state_dict(), self.directory / HEAD_FILE, {})
        save_text(json.dumps(asdict(result)), self.directory / RESULT_FILE)
        options.progress_path.unlink(missing_ok=True)
        logger.info("phase %s took %.1f s", self.name, result.duration_s)
        return result


def _finetuned_stage(context: _Context, num_instances: int) -> _Stage:
    config, model_config = context.config.finetune, context.config.model
    needs = tuple(_pretrained_stages(context, num_instances))
    teacher = None
    if num_instances > 1 and (config.distill_weight > 0 or config.state_distill_weight > 0):
        teacher = _finetuned_stage(context, 1)
    key: dict[str, Any] = {"model": to_dict(model_config), "task": context.task.labels}
    key["source"] = source_fingerprint(model_config, num_instances)

    def start() -> tuple[Program, MuxedBert]:
        model = needs[-1].load() if needs else load_source(model_config, num_instances)
        return _finetune_program(context, model, teacher, config, context.seed)

    stages = (*needs, teacher) if teacher is not None else needs
    return _Stage(context, "finetune", num_instances, context.seed, key, stages, config, start)


def _pruned_stage(context: _Context, dense: _Stage, sparsity: float, seed: int) -> _Stage:
    prune = context.config.prune
    key = {"sparsity": sparsity}

    def start() -> tuple[Program, MuxedBert]:
        device = context.precision.device
        model = dense.load().to(device)
        gates = Gates(model.shape).to(device)
        program = PruneProgram(
            model,
            dense.load().to(device),
            gates,
            context.train,
            sparsity,
            prune,
            seed=seed,
            precision=context.precision,
        )
        return program, model

    def finish(program: Program, model: MuxedBert) -> MuxedBert:
        gates = program.modules["gates"]
        assert isinstance(gates, Gates)
        return _compacted(model, gates, sparsity, prune.tolerance)

    pruned = _Stage(
        context, "prune", dense.num_instances, seed, key, (dense,), prune, start, finish
    )
    config = context.config.finetune_pruned
    if config.num_updates == 0:
        return pruned

    def start_finetune() -> tuple[Program, MuxedBert]:
        return _finetune_program(context, pruned.load(), dense, config, seed)

    return _Stage(
        context,
        "finetune_pruned",
        dense.num_instances,
        seed,
        key,
        (dense, pruned),
        config,
        start_finetune,
    )


def _pretrained_stages(context: _Context, num_instances: int) -> Iterator[_Stage]:
    model_config = context.config.model
    if has_pretrained_width(model_config, num_instances):
        return
    key: dict[str, Any] = {"model": to_dict(model_config)}
    key["source"] = source_fingerprint(model_config, num_instances)
    previous: _Stage | None = None
    phases: tuple[Literal["prime", "pretrain"], ...] = ("prime", "pretrain")
    for name in phases:
        config = getattr(context.config, name)
        if config.num_updates == 0:
            continue
        start = _pretraining_start(context, name, num_instances, previous)
        needs = () if previous is None else (previous,)
        previous = _Stage(context, name, num_instances, context.seed, key, needs, config, start)
        yield previous


def _pretraining_start(
    context: _Context,
    name: Literal["prime", "pretrain"],
    num_instances: int,
    previous: _Stage | None,
) -> Callable[[], tuple[Program, MuxedBert]]:
    def start() -> tuple[Program, MuxedBert]:
        device, model_config = context.precision.device, context.config.model
        source = load_source(model_config, num_instances) if previous is None else previous.load()
        model = source.to(device)
        shape = model.shape
        head = TokenHead(shape.dense_hidden_size, shape.vocab_size, shape.layer_norm_eps)
        head.apply(initialise)
        if previous is not None:
            head.load_state_dict(read_tensors(previous.directory / HEAD_FILE))
        head = head.to(device)
        shared: dict[str, Any] = {"seed": context.seed, "precision": context.precision}
        if name == "prime":
            config = context.config.prime
            return PrimeProgram(model, head, context.train, config, **shared), model
        teacher = load_source(model_config, 1).to(device)
        return PretrainProgram(
            model,
            head,
            teacher,
            context.train,
            special_ids(context.tokenizer),
            context.config.pretrain,
            **shared,
        ), model

    return start


def _finetune_program(
    context: _Context,
    model: MuxedBert,
    teacher: _Stage | None,
    config: FinetuneConfig,
    seed: int,
) -> tuple[Program, MuxedBert]:
    device = context.precision.device
    labels = context.task.labels
    if model.shape.labels != labels:
        model = _with_labels(model, labels)
    program = FinetuneProgram(
        model.to(device),
        None if teacher is None else teacher.load().to(device),
        context.train,
        context.held_out,
        config,
        seed=seed,
        precision=context.precision,
    )
    return program, model


def _with_labels(model: MuxedBert, labels: tuple[str, ...]) -> MuxedBert:
    """Yield the model with a new head for `labels`; the first training of a task starts so."""
    model.shape = replace(model.shape, labels=labels, num_classes=len(labels))
    model.sequence_head.output = nn.Linear(model.shape.dense_hidden_size, len(labels))
    model.sequence_head.apply(initialise)
    return model


def _compacted(model: MuxedBert, gates: Gates, sparsity: float, tolerance: float) -> MuxedBert:
    reached = float(gates.expected_sparsity().detach())
    if reached < sparsity - tolerance:
        raise SparsityError(
            f"Pruning ended at an expected sparsity of {reached:.3f} instead of {sparsity:.3f}; "
            "raise `prune.num_updates` or `prune.gate_learning_rate`."
        )
    masks = masks_to(gates.binary_masks(sparsity), model.embeddings.tokens.weight)
    return compact(model.eval(), masks)


def _dense_baseline(context: _Context) -> MuxedBert:
    model = load_source(context.config.model, 1)
    return _with_labels(model, context.task.labels).eval()


def _check_fit(context: _Context, model: MuxedBert) -> None:
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
        raise CheckpointError(
            f"The tokenizer of `{config.model.source}` has {num_tokens} tokens, but the model's "
            f"table only {shape.vocab_size}; use those of the same checkpoint."
        )


def _structure(model: MuxedBert) -> StructureResult:
    shape = model.shape
    return StructureResult(
        hidden_size=shape.hidden_size,
        head_counts=shape.head_counts,
        feedforward_sizes=shape.feedforward_sizes,
        num_encoder_parameters=shape.num_encoder_parameters,
        num_parameters=sum(p.numel() for p in model.parameters()),
    )


def _resolve_device(word: str) -> torch.device:
    if word == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "`device` is `cuda`, but torch sees no CUDA device; use `cpu` or `auto`."
        )
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(word)


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
