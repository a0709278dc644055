"""Made-up tasks for `search.py`: what is true of every candidate, and what measuring it may yield.

Symbols: `x = log N / log 10` and `c = log(1 - s) / log 0.05`, both 1 at (10, 0.95), as in
`autoprumux.evaluators.synthetic`, whose additive losses and latency law the tasks have. What a
task is, is drawn once. Every search then sees it through noise of its own.

Constants are those of published results (reference: PruMUX, DataMUX, CoFi), with a spread that
leaves room for other models and devices:

- (10, 0) loses 4 to 11 points, (1, 0.95) about 2 to 10; N = 2 a seventh to a third of N = 10;
- at N = 1 a pruned model takes 0.25, 0.16 and 0.09 of the dense one's time at s of 0.80, 0.90 and
  0.95, and one more instance 0.000 to 0.002 of it;
- of four tasks two have cells that collapse, all of them at high N and s, along N more than
  along s in one of the two.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Failure, FailureCause, Measurement

GRID = tuple(sorted(DEFAULT_GRID))

ROUGHNESS = 0.0025
"""Standard deviation of accuracies between trainings, beside that of the validation examples."""
SPEED_NOISE = 0.02
"""That of log speed-ups: pruning keeps another shape each time."""
SHORT_CHANCE = 0.3
"""That a candidate of high N and s ends short of its sparsity, in tasks where any may."""
_TIMING_SPREAD = 0.01
_SHORT_FROM = 1.2
"""Least `x + c` of those."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MadeUpTask:
    """All that is true of a task; a mapping has every candidate of the grid."""

    num_examples: int
    """Validation examples."""
    accuracies: Mapping[Candidate, float]
    """Before any noise."""
    speedups: Mapping[Candidate, float]
    """Before any noise; 1 at the dense baseline."""
    smooth: frozenset[Candidate]
    """Candidates whose trainings all end alike: the dense baseline and what is at chance."""
    chances_to_fail: Mapping[Candidate, float]
    """0 or 1 where a training diverges, between where it ends short of its sparsity."""

    def cause(self, candidate: Candidate) -> FailureCause:
        """Yield why a training of `candidate` failed."""
        return "nan" if self.chances_to_fail[candidate] == 1.0 else "sparsity_not_reached"


@dataclass(frozen=True, kw_only=True)
class Yields:
    """What `K` searches may measure of `M` candidates; all `(K, M)`."""

    accuracies: Array
    speedups: Array
    is_trained: NDArray[np.bool_]


def draw_yields(task: MadeUpTask, num: int, rng: np.random.Generator) -> Yields:
    """Draw what `num` searches would measure of the grid, in its order."""
    shape = (num, len(GRID))
    is_smooth = np.array([c in task.smooth for c in GRID])
    is_baseline = np.array([c.is_baseline for c in GRID])
    rough = np.where(is_smooth, 0.0, ROUGHNESS * rng.standard_normal(shape))
    shares = np.clip(np.array([task.accuracies[c] for c in GRID]) + rough, 0.0, 1.0)
    noise = np.where(is_baseline, 0.0, SPEED_NOISE * rng.standard_normal(shape))
    speedups = np.array([task.speedups[c] for c in GRID]) * np.exp(noise)
    chances = np.array([task.chances_to_fail[c] for c in GRID])
    return Yields(
        accuracies=rng.binomial(task.num_examples, shares) / task.num_examples,
        speedups=speedups,
        is_trained=rng.random(shape) >= chances,
    )


def measure(task: MadeUpTask, rng: np.random.Generator) -> dict[Candidate, Measurement | Failure]:
    """Draw what one search would get of every candidate."""
    drawn, found = draw_yields(task, 1, rng), dict[Candidate, Measurement | Failure]()
    for place, candidate in enumerate(GRID):
        if drawn.is_trained[0, place]:
            accuracy, speedup = drawn.accuracies[0, place], drawn.speedups[0, place]
            found[candidate] = _measurement(
                candidate, float(accuracy), float(speedup), task.num_examples
            )
        else:
            cause = task.cause(candidate)
            found[candidate] = Failure(cause=cause, message=f"{candidate} failed: {cause}.")
    return found


def draw_task(rng: np.random.Generator) -> SyntheticTask:
    """Draw the closed form of a task."""
    return SyntheticTask(
        baseline_accuracy=rng.uniform(0.80, 0.96),
        chance_accuracy=float(rng.choice([1 / 3, 0.5])),
        width_loss=0.08 * math.exp(0.6 * rng.standard_normal()),
        width_power=rng.uniform(0.8, 1.8),
        sparsity_loss=0.042 * math.exp(0.9 * rng.standard_normal()),
        sparsity_power=rng.uniform(1.5, 4.5),
        interaction=rng.uniform(0.0, 0.06),
        latency=(
            0.055 * math.exp(0.6 * rng.standard_normal()),
            0.90,
            0.003 * math.exp(1.2 * rng.standard_normal()),
        ),
        num_examples=int(rng.choice([872, 2000, 4000, 5463, 9815])),
    )


def additive(
    task: SyntheticTask, rng: np.random.Generator, bend: float | None = None
) -> MadeUpTask:
    """Complete a task: a plateau at small losses in half of them, a bent law, failures in some.

    Args:
        task: The closed form.
        rng: Draws the rest.
        bend: Power of `1 - s` in the latency law; drawn if None.
    """
    plateau = rng.uniform(0.0, 0.01) if rng.random() < 0.5 else 0.0
    most = task.baseline_accuracy
    accuracies = {c: min(task.accuracy(c) + plateau, most) for c in GRID}
    accuracies[Candidate(1, 0.0)] = most
    return _completed(task, accuracies, rng, bend)


def foreign(task: SyntheticTask, rng: np.random.Generator) -> MadeUpTask:
    """Complete a task with losses of another form.

    They multiply, saturate at a floor, rise in any steps between widths and along a knee in s.
    """
    steps = np.sort(rng.gamma(1.5, 0.035, 3))
    jumps = dict(zip((1, 2, 5, 10), (0.0, *steps), strict=True))
    knee, depth = rng.uniform(0.7, 0.97), rng.uniform(0.02, 0.3)
    sharpness, floor = rng.uniform(8.0, 30.0), rng.uniform(0.08, 0.4)

    def loss(candidate: Candidate) -> float:
        pruned = depth / (1.0 + math.exp(-sharpness * (candidate.sparsity - knee)))
        kept = (1.0 - jumps[candidate.num_instances] / floor) * (1.0 - pruned / floor)
        return 0.0 if candidate.is_baseline else floor * (1.0 - max(kept, 0.0))

    accuracies = {c: max(task.baseline_accuracy - loss(c), 0.0) for c in GRID}
    return _completed(task, accuracies, rng, None)


def _completed(
    task: SyntheticTask,
    accuracies: dict[Candidate, float],
    rng: np.random.Generator,
    bend: float | None,
) -> MadeUpTask:
    bend = rng.uniform(0.85, 1.15) if bend is None else bend
    collapsed, chances = _draw_failures(rng)
    for candidate in collapsed:
        accuracies[candidate] = min(accuracies[candidate], task.chance_accuracy)
    at_chance = {c for c, accuracy in accuracies.items() if accuracy <= task.chance_accuracy}
    return MadeUpTask(
        num_examples=task.num_examples,
        accuracies=accuracies,
        speedups={c: task.speedup(_bent(c, bend)) for c in GRID},
        smooth=frozenset({*at_chance, Candidate(1, 0.0)}),
        chances_to_fail=chances,
    )


def _draw_failures(rng: np.random.Generator) -> tuple[set[Candidate], dict[Candidate, float]]:
    """Yield what is measured at chance, and each candidate's chance to fail.

    Half of the tasks collapse beyond a line in `x` and `c`: in half of these, trainings diverge
    there. In a quarter of all tasks any candidate of high N and s may end short of its sparsity.
    """
    collapses, diverges, ends_short = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.25
    line, tilt = rng.uniform(1.5, 1.9), rng.uniform(0.6, 1.4)
    places = {c: _place(c) for c in GRID if c.num_instances > 1 and c.sparsity > 0.0}
    beyond = {k for k, (x, c) in places.items() if tilt * x + (2.0 - tilt) * c > line}
    chances = dict.fromkeys(GRID, 0.0)
    if ends_short:
        chances |= {k: SHORT_CHANCE for k, (x, c) in places.items() if x + c > _SHORT_FROM}
    if collapses and diverges:
        chances |= dict.fromkeys(beyond, 1.0)
    return (beyond if collapses and not diverges else set()), chances


def _place(candidate: Candidate) -> tuple[float, float]:
    """Yield `x` and `c`."""
    x = math.log(candidate.num_instances) / math.log(10.0)
    return x, math.log(1.0 - candidate.sparsity) / math.log(0.05)


def _bent(candidate: Candidate, bend: float) -> Candidate:
    return Candidate(candidate.num_instances, 1.0 - (1.0 - candidate.sparsity) ** bend)


def _measurement(
    candidate: Candidate, accuracy: float, speedup: float, num_examples: int
) -> Measurement:
    demo = _demo(candidate)
    rate = demo.throughput.baseline_throughput
    throughput = replace(
        demo.throughput,
        throughput=speedup * rate,
        throughput_q1=(1.0 - _TIMING_SPREAD) * speedup * rate,
        throughput_q3=(1.0 + _TIMING_SPREAD) * speedup * rate,
        speedup=speedup,
        speedup_q1=(1.0 - _TIMING_SPREAD) * speedup,
        speedup_q3=(1.0 + _TIMING_SPREAD) * speedup,
    )
    return replace(demo, accuracy=accuracy, num_examples=num_examples, throughput=throughput)


@lru_cache(maxsize=len(GRID))
def _demo(candidate: Candidate) -> Measurement:
    """Yield a measurement whose phases and structure are those of the candidate in any task."""
    evaluator = SyntheticEvaluator(task=SyntheticTask(num_examples=8))
    return replace(evaluator.evaluate(candidate, 0, lambda *_: None), correctness=b"")
