"""Minutes that training and measuring a candidate will take, from what the study has measured.

A candidate costs three parts: the start of its width (phases `prime`, `pretrain`, `narrow` and
`finetune`, once per width), pruning (`prune`, `finetune_pruned`, only if s > 0) and measuring (the
rest).
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median

from autoprumux.records import Candidate, Measurement, Value

START_PHASES = ("prime", "pretrain", "narrow", "finetune")
"""Phases whose result all sparsities of a width share."""

PRUNE_PHASES = ("prune", "finetune_pruned")
"""Phases that every pruned candidate needs for itself."""

UNKNOWN_START_S = 60.0
"""Guess before anything is measured, for print; the baseline is first whatever it costs."""

PRUNE_SHARE = 1.5
"""Guess of pruning against fine-tuning: a student step also runs the teacher."""

MEASURE_SHARE = 0.3
"""Guess of measuring against fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Seconds of each part by width, with a value for widths not measured yet."""

    start_s: Mapping[int, float]
    prune_s: Mapping[int, float]
    measure_s: Mapping[int, float]
    ready: frozenset[Candidate]
    """Starts that need not be trained again, see `_start_of`."""
    _known: dict[tuple[int, bool], float] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def from_measured(
        cls, measured: Mapping[Candidate, Measurement], cached_widths: Set[int] = frozenset()
    ) -> "CostModel":
        """Yield the cost model of what is measured so far.

        Args:
            measured: Finished trials.
            cached_widths: Widths whose fine-tuned start lies in the cache.
        """
        rows = [(c, *_seconds(m)) for c, m in measured.items()]
        starts = _by_width((c, start) for c, start, _, _ in rows)
        prunes = _by_width((c, prune) for c, _, prune, _ in rows if c.sparsity > 0)
        rests = _by_width((c, rest) for c, _, _, rest in rows)
        trained = {_start_of(c) for c in measured}
        return cls(
            start_s=starts,
            prune_s=prunes,
            measure_s=rests,
            ready=frozenset(trained | {Candidate(width, 0.0) for width in cached_widths}),
        )

    def minutes(self, candidate: Candidate) -> float:
        """Yield the minutes that a trial of `candidate` would take now."""
        width = candidate.num_instances
        start = 0.0 if _start_of(candidate) in self.ready else self._start(width)
        return (start + self._own(candidate)) / 60

    def minutes_of_rest(self, candidates: Iterable[Candidate]) -> float:
        """Yield the minutes of training all `candidates`, each new start counted once."""
        candidates = list(candidates)
        new = {_start_of(c) for c in candidates} - self.ready
        starts = sum(self._start(start.num_instances) for start in new)
        seconds = starts + sum(map(self._own, candidates))
        return seconds / 60

    def _own(self, candidate: Candidate) -> float:
        width, is_pruned = candidate.num_instances, candidate.sparsity > 0
        if (width, is_pruned) not in self._known:
            self._known[width, is_pruned] = self._own_of(width, is_pruned=is_pruned)
        return self._known[width, is_pruned]

    def _own_of(self, width: int, *, is_pruned: bool) -> float:
        unit = self._start(width)
        prune = _look_up(self.prune_s, width, PRUNE_SHARE * unit) if is_pruned else 0
        # A floor of one second: a candidate that costs nothing would have an infinite score.
        return max(1.0, prune + _look_up(self.measure_s, width, MEASURE_SHARE * unit))

    def _start(self, width: int) -> float:
        return _look_up(self.start_s, width, UNKNOWN_START_S)


def _start_of(candidate: Candidate) -> Candidate:
    """Yield the dense model that a candidate is pruned from: its width, and how it is trained."""
    if not candidate.hyperparameters:
        return _dense(candidate.num_instances, ())
    trained_with = tuple(
        (key, value)
        for key, value in candidate.hyperparameters
        if key.split(".")[1] in START_PHASES
    )
    is_itself = candidate.sparsity == 0.0 and trained_with == candidate.hyperparameters
    return candidate if is_itself else _dense(candidate.num_instances, trained_with)


@lru_cache(maxsize=1024)
def _dense(width: int, trained_with: tuple[tuple[str, Value], ...]) -> Candidate:
    return Candidate(width, 0.0, trained_with)


def _look_up(seconds: Mapping[int, float], width: int, default: float) -> float:
    """Yield the value of the nearest measured width: batches hold similar numbers of sequences."""
    if not seconds:
        return default
    return seconds[min(seconds, key=lambda known: (abs(known - width), known))]


def _by_width(pairs: Iterable[tuple[Candidate, float]]) -> dict[int, float]:
    """Yield the median positive value of each width; a cached phase may report 0."""
    values: dict[int, list[float]] = {}
    for candidate, seconds in pairs:
        if seconds > 0:
            values.setdefault(candidate.num_instances, []).append(seconds)
    return {width: median(of_width) for width, of_width in values.items()}


def _seconds(measurement: Measurement) -> tuple[float, float, float]:
    """Yield the seconds of the start, of pruning, and of the rest.

    Of pruning without the rungs of a ladder below, which are shared.
    """
    start, trained = 0.0, 0.0
    pruning: dict[str, float] = {}
    for phase in measurement.phases:
        if phase.name in START_PHASES:
            start += phase.duration_s
        elif phase.name in PRUNE_PHASES:
            pruning[phase.name] = phase.duration_s  # of several the last
        if not phase.is_cached:
            trained += phase.duration_s
    return start, sum(pruning.values()), max(0.0, measurement.duration_s - trained)
