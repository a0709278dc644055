"""Closed-form evaluator with a known optimum, for tests and benchmarks only.

Symbols: `x = log2 N / log2 10` and `c = log(1 - s) / log 0.05`, both 1 at (10, 0.95). True
accuracy loss is `m x^u + p c^v + q x c`; above a threshold of `x + c` training collapses to
chance. Speed-up is `1 / (a(s) / N + b)` with `a(s) = c0 + c1 (1 - s)`, divided by its value at
(1, 0).
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autoprumux.errors import TrialError
from autoprumux.evaluators.base import Report
from autoprumux.records import (
    Candidate,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    Structure,
    Throughput,
)

DEFAULT_GRID = tuple(
    Candidate(width, sparsity)
    for width in (1, 2, 5, 10)
    for sparsity in (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
)

_NUM_LAYERS, _HIDDEN_SIZE, _HEADS, _FEEDFORWARD = 4, 128, 4, 512
_NUM_OTHER_PARAMETERS = 400_000
_UPDATES = {"prime": 40, "pretrain": 60, "finetune": 100, "prune": 100, "finetune_pruned": 40}
_BASELINE_THROUGHPUT = 1000.0
_TIMING_SPREAD = 0.01
"""Half the interquartile range of a speed-up, as a share of it."""


@dataclass(frozen=True, kw_only=True)
class SyntheticTask:
    """A made-up task; losses are fractions."""

    name: str = "plain"
    baseline_accuracy: float = 0.90
    chance_accuracy: float = 0.5
    """Accuracy of a collapsed model, and the least of any."""
    width_loss: float = 0.08
    """`m`: loss of (10, 0)."""
    width_power: float = 1.2
    """`u`: larger values spare small widths."""
    sparsity_loss: float = 0.05
    """`p`: loss of (1, 0.95)."""
    sparsity_power: float = 2.5
    """`v`: larger values spare small sparsities."""
    interaction: float = 0.03
    """`q`: extra loss of (10, 0.95)."""
    collapse: float = math.inf
    """Candidates with `x + c` above this collapse; 2 is the far corner."""
    latency: tuple[float, float, float] = (0.10, 0.90, 0.01)
    """`c0`, `c1` and `b`."""
    num_examples: int = 2000
    """Validation examples; accuracies are multiples of 1 over this."""
    num_compositions: int = 3
    """Compositions of the groups; N = 1 has one."""

    def accuracy(self, candidate: Candidate) -> float:
        """True accuracy, rounded to whole examples."""
        x, c = _place(candidate)
        loss = (
            self.width_loss * math.pow(x, self.width_power)
            + self.sparsity_loss * math.pow(c, self.sparsity_power)
            + self.interaction * x * c
        )
        accuracy = max(self.baseline_accuracy - loss, self.chance_accuracy)
        if x + c > self.collapse:
            accuracy = self.chance_accuracy
        return round(accuracy * self.num_examples) / self.num_examples

    def speedup(self, candidate: Candidate) -> float:
        """True speed-up, exactly 1 at the dense baseline."""
        c0, c1, b = self.latency
        encoder = c0 + c1 * (1.0 - candidate.sparsity)
        return (c0 + c1 + b) / (encoder / candidate.num_instances + b)

    def optimum(self, budget: float, grid: Sequence[Candidate] = DEFAULT_GRID) -> Candidate:
        """Fastest candidate of the grid that truly loses at most `budget`.

        Ties go to the higher accuracy, then to the smaller N.
        """
        baseline = self.accuracy(Candidate(1, 0.0))
        within = [c for c in grid if baseline - self.accuracy(c) <= budget + 1e-9]
        return max(within, key=lambda c: (self.speedup(c), self.accuracy(c), -c.num_instances))


def _no_loss(_: Candidate) -> float:
    return 0.0


@dataclass(kw_only=True)
class SyntheticEvaluator:
    """Measures a `SyntheticTask` without training; deterministic for (candidate, seed)."""

    task: SyntheticTask = field(default_factory=SyntheticTask)
    is_noisy: bool = False
    """True draws the number of right answers from a binomial, by candidate and seed."""
    failing: frozenset[Candidate] = frozenset()
    """Candidates that fail with `failure_cause`."""
    failure_cause: str = "sparsity_not_reached"
    sleep_s: float = 0.0
    """Real seconds that each trial takes."""
    setting_loss: Callable[[Candidate], float] = _no_loss
    """Accuracy that a candidate's hyperparameters cost; below 0 what they bring."""

    def __post_init__(self) -> None:
        self._cached: set[int] = set()

    @property
    def data_fingerprint(self) -> str:
        """See `Evaluator.data_fingerprint`."""
        digest = hashlib.sha256(repr(self.task).encode()).hexdigest()
        return f"synthetic:{self.task.name}:{digest[:16]}"

    def check(self) -> None:
        """See `Evaluator.check`; nothing can be wrong."""

    def cached_widths(self) -> frozenset[int]:
        """See `Evaluator.cached_widths`: the widths evaluated so far."""
        return frozenset(self._cached)

    def optimum(self, budget: float, grid: Sequence[Candidate] = DEFAULT_GRID) -> Candidate:
        """See `SyntheticTask.optimum`."""
        return self.task.optimum(budget, grid)

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        """See `Evaluator.evaluate`; only `failing` candidates raise `TrialError`."""
        time.sleep(self.sleep_s)
        phases = self._phases(candidate, report)
        self._cached.add(candidate.num_instances)
        if candidate in self.failing:
            message = f"{candidate} was set to fail."
            raise TrialError(message, cause=self.failure_cause)
        bits = self._correctness(candidate, seed)
        per_composition = bits.mean(axis=1)
        return Measurement(
            accuracy=float(per_composition.mean()),
            accuracy_std=float(per_composition.std()),
            num_examples=self.task.num_examples,
            num_compositions=len(bits),
            correctness=np.packbits(bits).tobytes(),
            throughput=self._throughput(candidate),
            sparsity=candidate.sparsity,
            structure=_structure(candidate),
            phases=phases,
            duration_s=self.sleep_s + sum(phase.duration_s for phase in phases),
            checkpoint="",
            seed=seed,
            environment={"evaluator": "synthetic"},
        )

    def _phases(self, candidate: Candidate, report: Report) -> tuple[PhaseRecord, ...]:
        is_cached = candidate.num_instances in self._cached
        names = ["finetune"] if candidate.num_instances == 1 else ["prime", "pretrain", "finetune"]
        shared = [_phase(name, candidate, is_cached, report) for name in names]
        names = ["prune", "finetune_pruned"] if candidate.sparsity > 0.0 else []
        return (*shared, *(_phase(name, candidate, False, report) for name in names))

    def _correctness(self, candidate: Candidate, seed: int) -> NDArray[np.bool_]:
        """`(compositions, examples)`; the easy examples are nearly the same for all models."""
        task = self.task
        accuracy, num = self._accuracy(candidate), task.num_examples
        ease = np.random.default_rng(0).random(num)
        key = [candidate.num_instances, round(1e4 * candidate.sparsity), seed]
        rng = np.random.default_rng(key)
        bits = np.zeros((1 if candidate.num_instances == 1 else task.num_compositions, num), bool)
        num_right = rng.binomial(num, accuracy) if self.is_noisy else round(accuracy * num)
        for row in bits:
            jittered = ease + 0.05 * rng.standard_normal(num)
            row[np.argsort(jittered)[:num_right]] = True
        return bits

    def _accuracy(self, candidate: Candidate) -> float:
        """True accuracy with the candidate's hyperparameters."""
        accuracy = self.task.accuracy(candidate) - self.setting_loss(candidate)
        return min(max(accuracy, self.task.chance_accuracy), 1.0)

    def _throughput(self, candidate: Candidate) -> Throughput:
        speedup = self.task.speedup(candidate)
        throughput = speedup * _BASELINE_THROUGHPUT
        low, high = 1.0 - _TIMING_SPREAD, 1.0 + _TIMING_SPREAD
        return Throughput(
            throughput=throughput,
            throughput_q1=low * throughput,
            throughput_q3=high * throughput,
            baseline_throughput=_BASELINE_THROUGHPUT,
            speedup=speedup,
            speedup_q1=low * speedup,
            speedup_q3=high * speedup,
            num_repeats=20,
            batch_size=32,
            length=64,
            dtype="float32",
            device="synthetic",
            num_threads=1,
        )


def _place(candidate: Candidate) -> tuple[float, float]:
    x = math.log(candidate.num_instances) / math.log(10.0)
    return x, math.log(1.0 - candidate.sparsity) / math.log(0.05)


def _phase(name: str, candidate: Candidate, is_cached: bool, report: Report) -> PhaseRecord:
    updates = _UPDATES[name]
    report(f"{name}/total", updates, updates if is_cached else 0)
    history = []
    for step in () if is_cached else (updates // 2, updates):
        loss = 1.0 / (1.0 + step)
        report(f"{name}/loss", loss, step)
        report(f"{name}/step", step, step)
        history.append(HistoryPoint(name="loss", value=loss, step=step))
    return PhaseRecord(
        name=name,
        num_updates=updates,
        duration_s=0.0 if is_cached else 0.1 * updates * math.sqrt(candidate.num_instances),
        memory_mib=300.0,
        is_cached=is_cached,
        history=tuple(history),
    )


def _structure(candidate: Candidate) -> Structure:
    """Every layer pruned alike."""
    kept = 1.0 - candidate.sparsity
    heads = max(1, round(kept * _HEADS))
    feedforward = max(1, round(kept * _FEEDFORWARD))
    encoder = round(kept * _NUM_LAYERS * 12 * _HIDDEN_SIZE**2)
    return Structure(
        hidden_size=_HIDDEN_SIZE,
        head_counts=(heads,) * _NUM_LAYERS,
        feedforward_sizes=(feedforward,) * _NUM_LAYERS,
        num_encoder_parameters=encoder,
        num_parameters=encoder + _NUM_OTHER_PARAMETERS,
    )
