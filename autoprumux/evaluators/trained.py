"""The bridge to the trainers: runs them and maps their results and errors."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autoprumux.errors import EvaluationError, InputError, LostProcessError, TrialError
from autoprumux.evaluators.base import Remedy, Report
from autoprumux.hyperparameters import PHASES, with_values
from autoprumux.records import (
    Candidate,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    Structure,
    Throughput,
)
from autoprumux.timing import TimingSetting
from trainers import errors as trainer_errors
from trainers import pipeline, pretraining
from trainers.config import TrainerConfig, to_dict
from trainers.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ExportError,
    ShapeError,
    TrainerError,
    TrainingError,
)
from trainers.measure.environment import describe_environment
from trainers.processes import ALONE, Processes
from trainers.results import ExportResult, PhaseResult, TrainerResult

INPUT_CAUSES: dict[type[TrainerError], str] = {
    ConfigError: "config",
    DataError: "data",
    CheckpointError: "checkpoint",
    ShapeError: "checkpoint",
    ExportError: "export",
}
"""Errors that every trial would meet, and the word that is stored for each."""


def _options() -> frozenset[str]:
    """Yield options as the trainers name them, such as `prune.num_updates`."""
    sections = {k: v for k, v in to_dict(TrainerConfig()).items() if isinstance(v, dict)}
    return frozenset(f"{name}.{key}" for name, section in sections.items() for key in section)


_OPTION = re.compile(rf"`({'|'.join(map(re.escape, _options()))})`")


@dataclass(frozen=True)
class CheckTask:
    """What `TrainedEvaluator.check` has the other processes do."""

    config: TrainerConfig
    cache_dir: Path
    seed: int
    sparsities: tuple[float, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class TrainTask:
    """What `TrainedEvaluator.evaluate` has the other processes do."""

    candidate: Candidate
    seed: int
    remedy: Remedy | None


class TrainedEvaluator:
    """Trains candidates for real.

    Args:
        config: Recipe of one training.
        cache_dir: Folder of the phase cache; candidates of the same width share phases there.
        seed: Seed of the study, for the phases that candidates of a width share.
        sparsities: Those that will be asked for; `check` refuses what the gates cannot reach.
        widths: The N that will be asked for; `check` refuses those too large for the model.
        processes: Those that train together, None if this one is alone; the first one's evaluator
            tells the others', see `autoprumux.evaluators.together`.
    """

    def __init__(
        self,
        config: TrainerConfig,
        cache_dir: Path,
        seed: int,
        sparsities: Iterable[float] = (),
        widths: Iterable[int] = (),
        *,
        processes: Processes | None = None,
    ) -> None:
        self.trainer = pipeline.Trainer(
            config, shared_seed=seed, cache_dir=cache_dir, processes=processes or ALONE
        )
        self.sparsities = tuple(sparsities)
        self.widths = tuple(widths)
        self._fingerprint: str | None = None
        self._remedy: Remedy | None = None

    @property
    def data_fingerprint(self) -> str:
        """See `Evaluator.data_fingerprint`."""
        if self._fingerprint is None:
            self.check()
        assert self._fingerprint is not None
        return self._fingerprint

    def check(self) -> None:
        """See `Evaluator.check`; what was found right once is not loaded again."""
        if self._fingerprint is not None:
            return
        trainer = self.trainer
        try:
            asked = (self.sparsities, self.widths)
            self._tell(CheckTask(trainer.config, trainer.cache_dir, trainer.shared_seed, *asked))
            self._fingerprint = trainer.check(*asked)
        except TrainerError as error:
            raise map_error(error) from error

    def timing(self) -> TimingSetting:
        """See `Clock.timing`."""
        config, device = self.trainer.config, self.trainer.context.precision.device
        environment, is_cpu = describe_environment(device), device.type == "cpu"
        return TimingSetting(
            device=environment["device"],
            processor=environment["processor"] if is_cpu else "",
            num_threads=int(environment["num_threads"]) if is_cpu else 0,
            dtype="float32",
            batch_size=config.throughput.batch_size,
            length=config.throughput.length or config.data.max_length,
        )

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        """See `Evaluator.evaluate`."""
        started = time.perf_counter()
        try:
            self._tell(TrainTask(candidate, seed, self._remedy))
            result = self.trainer_of(candidate).train_and_measure(
                num_instances=candidate.num_instances,
                sparsity=candidate.sparsity,
                seed=seed,
                report=report,
            )
        except TrainerError as error:
            raise map_error(error) from error
        return to_measurement(result, seed=seed, elapsed_s=time.perf_counter() - started)

    def help_to_evaluate(self, task: "TrainTask") -> None:
        """Take a share of a training that the first process leads; see `evaluate`."""
        evaluator = self if task.remedy is None else self.with_remedy(task.remedy)
        evaluator.trainer_of(task.candidate).help_to_train(
            num_instances=task.candidate.num_instances,
            sparsity=task.candidate.sparsity,
            seed=task.seed,
        )

    def _tell(self, task: "CheckTask | TrainTask") -> None:
        """Have the other processes, which wait for it, do the same as this one."""
        self.trainer.processes.tell(task)

    def trainer_of(self, candidate: Candidate) -> pipeline.Trainer:
        """Yield a trainer with the candidate's hyperparameters, and the remedy on top of them."""
        config = with_values(self.trainer.config, candidate.hyperparameters)
        if self._remedy is not None:
            config = _remedied(config, self._remedy)
        return self.trainer if config == self.trainer.config else self.trainer.with_config(config)

    def with_remedy(self, remedy: Remedy) -> "TrainedEvaluator":
        """See `Remediable.with_remedy`; the data is not loaded again."""
        other = copy(self)
        other._remedy = remedy
        return other

    def cached_widths(self) -> frozenset[int]:
        """See `Evaluator.cached_widths`."""
        try:
            return self.trainer.cached_widths()
        except TrainerError as error:
            raise map_error(error) from error


def _remedied(config: TrainerConfig, remedy: Remedy) -> TrainerConfig:
    phases = {
        name: replace(phase, learning_rate=phase.learning_rate * remedy.learning_rate_share)
        for name in PHASES
        for phase in (getattr(config, name),)
    }
    return replace(config, num_parts=config.num_parts * remedy.num_parts, **phases)


def pretrain_builtin(directory: Path, widths: Sequence[int], *, seed: int, report: Report) -> None:
    """Make the built-in model of each width in `directory`; finished widths are left alone.

    Raises:
        EvaluationError: If a training fails or a file cannot be written.
    """
    recipe = pretraining.BuiltinRecipe(seed=seed)
    try:
        pretraining.pretrain_builtin(directory, widths, recipe, report)
    except TrainerError as error:
        raise map_error(error) from error


def export_checkpoint(
    checkpoint: Path,
    directory: Path,
    config: TrainerConfig,
    *,
    fingerprint: str,
    with_onnx: bool,
    announce: Callable[[str], None],
) -> ExportResult:
    """Write a trained checkpoint for others into an empty folder; see `trainers.serving.export`.

    Raises:
        EvaluationError: If the checkpoint is damaged, or what was written computes something else.
    """
    from trainers.serving.export import export_model  # loads transformers

    try:
        return export_model(
            checkpoint,
            directory,
            config,
            fingerprint=fingerprint,
            with_onnx=with_onnx,
            announce=announce,
        )
    except TrainerError as error:
        raise map_error(error) from error


def map_error(error: TrainerError) -> EvaluationError:
    """Yield our error for one of the trainers', options named as in a study file."""
    message = _OPTION.sub(r"`trainer.\1`", str(error))
    if isinstance(error, trainer_errors.LostProcessError):
        return LostProcessError(message, cause="process")
    if isinstance(error, TrainingError):
        return TrialError(message, cause=error.cause)
    return InputError(message, cause=INPUT_CAUSES.get(type(error), "input"))


def to_measurement(result: TrainerResult, *, seed: int, elapsed_s: float) -> Measurement:
    """Yield the record of a trainers' result.

    Args:
        result: What the trainers measured.
        seed: Seed of the trial.
        elapsed_s: Seconds that this process spent on the trial; phases that an earlier process
            trained for it are added.
    """
    trained_s = sum(phase.duration_s for phase in result.phases if not phase.is_cached)
    return Measurement(
        accuracy=result.accuracy.accuracy,
        accuracy_std=result.accuracy.accuracy_std,
        num_examples=result.accuracy.num_examples,
        num_compositions=result.accuracy.num_compositions,
        correctness=result.accuracy.correctness,
        throughput=Throughput(**asdict(result.throughput)),
        sparsity=result.sparsity,
        structure=Structure(**asdict(result.structure)),
        phases=tuple(_phase_record(phase) for phase in result.phases),
        duration_s=max(elapsed_s, trained_s),
        checkpoint=result.checkpoint,
        seed=seed,
        environment=result.environment,
    )


def _phase_record(phase: PhaseResult) -> PhaseRecord:
    return PhaseRecord(
        name=phase.name,
        num_updates=phase.num_updates,
        duration_s=phase.duration_s,
        memory_mib=phase.memory_mib,
        is_cached=phase.is_cached,
        history=tuple(HistoryPoint(**asdict(point)) for point in phase.history),
    )
