"""The nouns of the project: frozen, plain, without behaviour that needs a library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Literal, get_args

from autoprumux.timing import TimingSetting

TrialState = Literal["complete", "failed", "running"]
"""`running` also covers a trial whose process was killed, until the next run takes it up."""

FailureCause = Literal[
    "hopeless",
    "out_of_memory",
    "nan",
    "sparsity_not_reached",
    "data_error",
    "disk_full",
    "timed_out",
    "killed",
    "error",
]
"""Why a trial yielded nothing.

`hopeless`: stopped, as it could not meet the loosest budget; `out_of_memory`: device or
machine; `nan`: a loss or a result is no finite number;
`sparsity_not_reached`: pruning ended short of its target; `data_error`: data or checkpoint could
not be read while it trained; `disk_full`: a checkpoint could not be written; `timed_out`: longer
than `search.trial_timeout_s`; `killed`: its process died as often as `search.max_attempts`;
`error`: anything else, a mistake of ours most likely.
"""

FAILURE_CAUSES: tuple[FailureCause, ...] = get_args(FailureCause)


def known_cause(word: str) -> FailureCause:
    """Yield the cause that `word` names; `error` for what is none."""
    return next((cause for cause in FAILURE_CAUSES if cause == word), "error")


Value = float | int | str | bool
"""Of a hyperparameter."""


@dataclass(frozen=True, order=True)
class Candidate:
    """A point of the space: mux width N, sparsity s, rounded to four digits, and hyperparameters.

    Without hyperparameters it is also a cell, the (N, s) that all its settings share.
    """

    num_instances: int
    """Mux width N; 1 = no multiplexing."""
    sparsity: float
    """Requested sparsity s of the encoder, in [0, 1)."""
    hyperparameters: tuple[tuple[str, Value], ...] = ()
    """Keys of the study file with the values that differ from the study's own, sorted by key."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", round(float(self.sparsity), 4))
        if self.hyperparameters != ():  # a stored choice has lists
            pairs = tuple(sorted((key, value) for key, value in self.hyperparameters))
            object.__setattr__(self, "hyperparameters", pairs)
        point = (self.num_instances, self.sparsity, self.hyperparameters)
        object.__setattr__(self, "_hash", hash(point))

    def __hash__(self) -> int:
        """The same for equal ones; found once, as studies of thousands are looked up often."""
        known: int = self.__dict__["_hash"]
        return known

    def __reduce__(self) -> tuple[type["Candidate"], tuple[object, ...]]:
        """Made anew when it is loaded: the hash of a text differs from process to process."""
        return Candidate, (self.num_instances, self.sparsity, self.hyperparameters)

    @property
    def cell(self) -> "Candidate":
        """The same N and s with the study's own hyperparameters."""
        return Candidate(self.num_instances, self.sparsity) if self.hyperparameters else self

    @property
    def is_baseline(self) -> bool:
        """True for the dense baseline: (1, 0) with the study's own hyperparameters."""
        return self.num_instances == 1 and self.sparsity == 0.0 and not self.hyperparameters

    @property
    def setting(self) -> str:
        """The hyperparameters that differ from the study's own, for print; empty for none."""
        return " ".join(
            f"{key.removeprefix('trainer.')}={value_text(value)}"
            for key, value in self.hyperparameters
        )

    def __str__(self) -> str:
        return " ".join(
            filter(None, (f"N={self.num_instances} s={self.sparsity:.2f}", self.setting))
        )


def value_text(value: Value) -> str:
    """Yield a hyperparameter's value as a study file spells it, texts without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """One value that a phase reported after `step` optimiser updates."""

    name: str
    value: float
    step: int


@dataclass(frozen=True, kw_only=True)
class PhaseRecord:
    """What one training phase did."""

    name: str
    """`prime`, `pretrain`, `narrow`, `finetune`, `prune` or `finetune_pruned`."""
    num_updates: int
    duration_s: float
    memory_mib: float
    is_cached: bool
    """True if the phase came from the checkpoint cache and cost this trial nothing."""
    history: tuple[HistoryPoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Shape of the compacted encoder; lists have one entry per layer."""

    hidden_size: int
    head_counts: tuple[int, ...]
    feedforward_sizes: tuple[int, ...]
    num_encoder_parameters: int
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Throughput of one model on one device, measured interleaved with the dense baseline."""

    throughput: float
    """Median sequences per second."""
    throughput_q1: float
    throughput_q3: float
    baseline_throughput: float
    """Median sequences per second of the dense baseline in the same run."""
    speedup: float
    speedup_q1: float
    speedup_q3: float
    num_repeats: int
    batch_size: int
    """Groups in a batch."""
    length: int
    """Tokens in a sequence."""
    dtype: str
    device: str
    num_threads: int
    baseline_spread: float | None = None
    """Interquartile range of the baseline's seconds over their median; None if not known."""
    is_clean: bool | None = None
    """False if other work disturbed the measurement; None if nobody looked."""


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """What throughputs are comparable: one machine and one setting, under a name."""

    name: str
    device: str
    """`cpu` or the CUDA device's name."""
    processor: str
    """Model name of the CPU."""
    dtype: str
    batch_size: int
    """Groups in a batch."""
    length: int
    """Tokens in a sequence."""
    num_threads: int
    """CPU threads; 0 on CUDA."""

    @property
    def timing(self) -> TimingSetting:
        """The setting without its name; the processor counts if it is the device."""
        device, *others = _setting_of(self)
        return TimingSetting(device, self.processor if device == "cpu" else "", *others)


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """What decides the time of a forward pass beside N and the structure that remains."""

    head_size: int
    num_layers: int
    dense_hidden_size: int
    dense_num_heads: int
    dense_feedforward_size: int
    num_demux_layers: int
    multiplexer: str
    embed_mode: str
    demultiplexer: str


@dataclass(frozen=True, order=True)
class EncoderShape:
    """N and the sizes that remain of an encoder; lists have one entry per layer."""

    num_instances: int
    hidden_size: int
    head_counts: tuple[int, ...]
    feedforward_sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShapeTiming:
    """How long an untrained model of one shape took, interleaved with the dense baseline."""

    shape: EncoderShape
    seconds: float
    """Median seconds of a batch."""
    seconds_q1: float
    seconds_q3: float
    share: float
    """Of the seconds of the dense baseline right before it, median over the rounds."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The law of latency of one kind of encoder under one device profile."""

    profile: str
    encoder: EncoderFacts
    coefficients: tuple[float, ...]
    """Shares of the dense baseline's time; see `autoprumux.surrogates.structure_latency`."""
    log_std: float
    """Expected misfit of a model whose structure is known, in log seconds."""
    baseline_throughput: float
    """Sequences per second of the dense baseline."""
    num_repeats: int
    """Timed rounds."""
    duration_s: float
    """Wall-clock seconds of the calibration."""
    timings: tuple[ShapeTiming, ...]
    """The dense baseline first."""


_setting_of = attrgetter("device", "num_threads", "dtype", "batch_size", "length")
"""Of a throughput or a profile."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one trial yielded."""

    accuracy: float
    """Mean over compositions of the groups on the whole validation set, fraction in [0, 1]."""
    accuracy_std: float
    """Standard deviation over compositions."""
    num_examples: int
    """Validation examples."""
    num_compositions: int
    correctness: bytes
    """Packed bits of the flat `(num_compositions, num_examples)` booleans, in dataset order."""
    throughput: Throughput
    sparsity: float
    """Achieved sparsity."""
    structure: Structure
    phases: tuple[PhaseRecord, ...]
    duration_s: float
    """Wall-clock seconds of the trial, earlier processes and its measurements included."""
    checkpoint: str
    """Directory of the compacted model."""
    seed: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """Median throughput over the dense baseline's."""
        return self.throughput.speedup

    @property
    def timing(self) -> TimingSetting:
        """Setting that its speed was measured in; the processor counts if it is the device."""
        device, *others = _setting_of(self.throughput)
        processor = self.environment.get("processor", "") if device == "cpu" else ""
        return TimingSetting(device, processor, *others)


HOPELESS = "hopeless"
"""Cause of a trial that was stopped because it could not meet the loosest budget any more."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a trial yielded nothing."""

    cause: FailureCause
    message: str
    last_accuracy: float | None = None
    """Last held-out accuracy seen, if any."""
    reachable_accuracy: float | None = None
    """Of a `hopeless` trial: the most that it could still have reached."""


@dataclass(frozen=True, kw_only=True)
class RunnerUp:
    """A candidate that was not chosen, as the sampler saw it; fields as in `Choice`."""

    candidate: Candidate
    chance: float
    expected_speedup: float
    expected_gain: float
    predicted_minutes: float
    score: float
    chance_best: float | None = None
    log_gain: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Why a candidate was chosen, as the sampler saw it."""

    reason: str
    """One clause for the trial line: `chance 0.82 to meet 2.0 points, gain 1.4x, 1.1 min`."""
    chance: float | None = None
    """Predicted probability of meeting the (loosest) budget."""
    expected_speedup: float | None = None
    expected_gain: float | None = None
    """Expected gain in the best feasible speed-up, averaged over the budgets: exp(`log_gain`)."""
    predicted_minutes: float | None = None
    score: float | None = None
    """`log_gain`^(2/3) * `chance_best`^(1/3) / `predicted_minutes`^(1/2)."""
    chance_best: float | None = None
    """Predicted probability of being the fastest within a budget, averaged over the budgets; None
    before schema 6."""
    log_gain: float | None = None
    """Mean logarithm of the gain: a small one is lost in `expected_gain`; None before schema 6."""
    runners_up: tuple[RunnerUp, ...] = ()
    """The candidates that would have come next, the best first; at most five."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as the database tells it."""

    number: int
    candidate: Candidate
    state: TrialState
    choice: Choice | None = None
    measurement: Measurement | None = None
    """Present exactly if `state` is `complete`."""
    failure: Failure | None = None
    """Present exactly if `state` is `failed`."""


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """One study as the database tells it."""

    name: str
    task: str
    config: Mapping[str, object]
    """The resolved configuration, plain dictionaries."""
    config_hash: str
    data_fingerprint: str
    """Names the exact examples; starts with `builtin:` for built-in data."""
    seed: int
    budgets: tuple[float, ...]
    """Declared budgets, fractions."""
    trials: tuple[TrialRecord, ...] = ()
    """In order of their number."""
    calibrations: tuple[Calibration, ...] = ()
    """Stored for the setting of its speeds, of any encoder, the oldest first."""

    @cached_property
    def measured(self) -> dict[Candidate, Measurement]:
        """Finished trials by candidate."""
        return {t.candidate: t.measurement for t in self.trials if t.measurement is not None}

    @cached_property
    def stopped(self) -> dict[Candidate, float]:
        """The most accuracy that candidates could have reached whose trial was `hopeless`.

        Of a candidate with several failed trials the last counts, of a measured one none.
        """
        reachable = {
            t.candidate: t.failure.reachable_accuracy for t in self.trials if t.failure is not None
        }
        measured = self.measured
        return {c: a for c, a in reachable.items() if a is not None and c not in measured}

    @cached_property
    def best_settings(self) -> dict[Candidate, Candidate]:
        """Per measured cell (N, s) its most accurate candidate, which it scores with.

        Of equally accurate ones the faster counts. The cell (1, 0) scores with the study's own
        hyperparameters, whatever others yield there: it is what all else is compared with.
        """
        measured = self.measured
        order = sorted(measured.items(), key=lambda item: (item[1].accuracy, item[1].speedup))
        best = {candidate.cell: candidate for candidate, _ in order}
        return best | {c: c for c in measured if c.is_baseline}

    @cached_property
    def by_cell(self) -> dict[Candidate, Measurement]:
        """Finished trials by cell (N, s), each with its best setting; see `best_settings`."""
        measured, best = self.measured, self.best_settings
        return {c.cell: measured[best[c.cell]] for c in measured}

    @cached_property
    def stopped_cells(self) -> dict[Candidate, float]:
        """Cells of which nothing is measured, and the most accuracy that they could have reached.

        See `stopped`; of several settings the most hopeful counts.
        """
        measured = {candidate.cell for candidate in self.measured}
        bounds = sorted(self.stopped.items(), key=lambda item: item[1])
        return {c.cell: reachable for c, reachable in bounds if c.cell not in measured}

    @cached_property
    def baseline(self) -> Measurement | None:
        """The dense baseline's measurement, if it is there."""
        return self.measured.get(Candidate(1, 0.0))

    @cached_property
    def timing(self) -> TimingSetting | None:
        """Setting of its speeds, that of its dense baseline; None without one.

        A processor that the baseline does not name is that of the first trial that does.
        """
        if self.baseline is None:
            return None
        own = self.baseline.timing
        if own.processor or own.device != "cpu":
            return own
        processors = (m.timing.processor for m in self.measured.values())
        return own._replace(processor=next(filter(None, processors), ""))

    @cached_property
    def other_timings(self) -> dict[int, TimingSetting]:
        """Settings, by trial number, of what was measured in another than that of the study."""
        own = self.timing
        processors = {m.environment.get("processor") for m in self.measured.values()}
        speeds = {_setting_of(m.throughput) for m in self.measured.values()}
        if own is None or len(processors) == len(speeds) == 1:  # quick, for thousands of trials
            return {}
        found = {t.number: t.measurement.timing for t in self.trials if t.measurement is not None}
        return {number: other for number, other in found.items() if own.difference(other)}
