"""When a trial cannot reach the loosest budget any more, so that it is stopped early.

Of the accuracies a_1 .. a_k on held-out examples after shares t_1 .. t_k of a phase, the most that
the model could still be measured with is taken to be

    reachable = max a + rise + offset + later + noise

    rise    the steeper of the last two rises, going on to the end of the phase: the learning rate
            falls, so curves flatten
    offset  the most by which a finished trial of this study was measured above the best held-out
            accuracy of its last phase
    later   before pruning: `LATER_SHARE` of the gap to the dense baseline, which pruning and the
            training after it may close
    noise   of the held-out and the validation examples, `NOISE_STDS` standard deviations

The constants are measured in docs/search.md.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

from autoprumux.errors import TrialError
from autoprumux.records import HOPELESS, Candidate, Measurement, StudyRecord
from autoprumux.surrogates.performance import BASELINE

LAST_PHASES = ("finetune", "finetune_pruned")
"""Phases that score held-out examples; which of them is a model's last depends on its s."""

EARLIEST = 0.5
"""Share of a phase before which nothing is stopped: the learning rate is still high."""

EARLIEST_FLAT = 0.75
"""The same for a dense model whose curve has not risen above its noise: it may still take off."""

LATER_SHARE = 1 / 3
"""Share of the gap to the baseline that pruning may close; 0.15 is the most that was seen."""

NOISE_STDS = 2.326
"""Standard deviations that 99 % of normal values stay below."""

_BORDER = 1e-9
"""A loss on the border of a budget is within it: 0.91 - 0.90 is above 0.01 in binary."""


class HopelessError(TrialError):
    """A trial is stopped; `reachable` is the most accuracy that it could have had."""

    def __init__(self, message: str, *, reachable: float) -> None:
        super().__init__(message, cause=HOPELESS)
        self.reachable = reachable


@dataclass(frozen=True, kw_only=True)
class HopelessRule:
    """What a trial must be able to reach, and how much it may still gain."""

    baseline: float
    """Accuracy of the dense baseline."""
    budget: float
    """The loosest one, a fraction."""
    num_held_out: int
    num_validation: int
    offset: float
    """See the module."""

    @classmethod
    def from_study(cls, record: StudyRecord, num_held_out: int) -> "HopelessRule | None":
        """Yield the rule for the next trial; none without a baseline or a budget."""
        baseline = record.baseline
        if baseline is None or not record.budgets or baseline.num_examples == 0:
            return None
        return cls(
            baseline=baseline.accuracy,
            budget=max(record.budgets),
            num_held_out=num_held_out,
            num_validation=baseline.num_examples,
            offset=max(0.0, *map(_offset, record.measured.values())),
        )

    @property
    def needed(self) -> float:
        """The least accuracy that is within the loosest budget."""
        return self.baseline - self.budget - _BORDER

    def reachable(self, curve: list[tuple[float, float]], *, is_last: bool) -> float:
        """Yield the most accuracy that may be measured.

        Args:
            curve: Share of the phase and held-out accuracy, at least two points.
            is_last: True if no phase follows.
        """
        best = max(accuracy for _, accuracy in curve)
        rises = [
            (later[1] - earlier[1]) / (later[0] - earlier[0])
            for earlier, later in pairwise(curve[-3:])
        ]
        rise = max(0.0, *rises) * (1.0 - curve[-1][0])
        later = 0.0 if is_last else LATER_SHARE * max(0.0, self.baseline - best)
        return min(1.0, best + rise + self.offset + later + self.noise(best))

    def noise(self, accuracy: float) -> float:
        """Yield what chance may add to a held-out accuracy."""
        share = min(max(accuracy, 0.0), 1.0)
        variance = share * (1.0 - share) * (1 / self.num_held_out + 1 / self.num_validation)
        return NOISE_STDS * math.sqrt(variance)


@dataclass
class Watch:
    """Follows the reports of one trial and stops it once it is hopeless."""

    rule: HopelessRule
    candidate: Candidate
    _num_updates: float = 0.0
    _curve: list[tuple[float, float]] = field(default_factory=list)

    def see(self, name: str, value: float, step: int) -> None:
        """Take note of a report, see `autoprumux.evaluators.base.Report`.

        Raises:
            HopelessError: If the loosest budget is out of reach.
        """
        phase, _, what = name.partition("/")
        if what == "total":
            self._num_updates, self._curve = value, []
        elif what == "held_out_accuracy" and self._is_judged(phase) and math.isfinite(value):
            self._curve.append((step / self._num_updates, value))
            self._judge(phase, step)

    def _is_judged(self, phase: str) -> bool:
        # The fine-tuned model of N = 1 is the dense baseline itself.
        is_baseline = phase == "finetune" and self.candidate.num_instances == 1
        return phase in LAST_PHASES and self._num_updates > 0 and not is_baseline

    def _earliest(self, phase: str) -> float:
        first, best = self._curve[0][1], max(accuracy for _, accuracy in self._curve)
        is_flat = phase == "finetune" and best - first <= self.rule.noise(best)
        return EARLIEST_FLAT if is_flat else EARLIEST

    def _judge(self, phase: str, step: int) -> None:
        share = self._curve[-1][0]
        is_last = phase == "finetune_pruned" or self.candidate.sparsity == 0
        is_trained = is_last and share >= 1  # measuring it costs little and tells more
        if len(self._curve) < 2 or share < self._earliest(phase) or is_trained:
            return
        reachable = self.rule.reachable(self._curve, is_last=is_last)
        if reachable < self.rule.needed:
            message = (
                f"After {step} of {self._num_updates:.0f} updates of `{phase}`, "
                f"{100 * self._curve[-1][1]:.1f} on held-out examples: at most "
                f"{100 * reachable:.1f} can be reached, and a loss of {100 * self.rule.budget:g} "
                f"points needs {100 * self.rule.needed:.1f}."
            )
            raise HopelessError(message, reachable=reachable)


def repeatable(record: StudyRecord) -> set[Candidate]:
    """Yield what may be tried again after a failure.

    That is the baseline, since all else needs it, and what was stopped early but may be within
    the loosest budget of now.
    """
    baseline = record.baseline
    if baseline is None or not record.budgets:
        return {BASELINE}
    needed = baseline.accuracy - max(record.budgets) - _BORDER
    return {BASELINE, *(c for c, reachable in record.stopped.items() if reachable >= needed)}


def _offset(measurement: Measurement) -> float:
    """Yield by how much a trial was measured above its last phase's best held-out accuracy."""
    scores = [
        [point.value for point in phase.history if point.name == "held_out_accuracy"]
        for phase in measurement.phases
    ]
    seen = [max(of_phase) for of_phase in scores if of_phase]
    return measurement.accuracy - seen[-1] if seen else 0.0
