"""What a search would have done on recorded trainings, with its own sampler and stop rule.

The study is in memory. Every candidate is measured once; a sampler that asks for it again is told
the same at no cost. What there was to find is read off the table of what this search could have
measured, with the seeds it would have got.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast, get_args

import optuna
from optuna.trial import TrialState

from autoprumux.config import SearchConfig
from autoprumux.errors import NoBaselineError, TrialError, UsageError
from autoprumux.evaluators.base import Evaluator
from autoprumux.records import (
    Calibration,
    Candidate,
    Failure,
    Measurement,
    StudyRecord,
    TrialRecord,
    known_cause,
)
from autoprumux.search.acquisition import verified_best
from autoprumux.search.endings import is_settled
from autoprumux.search.rivals import Rival, RivalStudy
from autoprumux.search.sampler import Order, PerformanceModelSampler, free_candidates
from autoprumux.search.space import SearchSpace
from autoprumux.search.told import trial_seed
from autoprumux.storage.trials import objectives_of
from autoprumux.surrogates.related import Others

Sampler = Order | Rival
SAMPLERS: tuple[Sampler, ...] = (*get_args(Order), *get_args(Rival))

StopReason = Literal["settled", "cap", "all tried", "repeats itself"]

MAX_ASKS = 10
"""A sampler is given up that has asked so many times for each candidate on average."""

_BASELINE = Candidate(1, 0.0)
_BORDER = 1e-9


@dataclass(frozen=True, kw_only=True)
class ReplayedSearch:
    """One search of one sampler."""

    sampler: Sampler
    seed: int
    budgets: tuple[float, ...]
    trials: tuple[TrialRecord, ...]
    """In order; those after the stop tell how it would have gone on to the last best model."""
    num_repeated: int
    """Times that it asked for a candidate that was tried."""
    num_until_stop: int
    """Trials that a search would have trained."""
    stop_reason: StopReason
    bests: tuple[float, ...]
    """Per budget: the best speed-up there was to find."""

    def best_after(self, num_trials: int, budget: float) -> float:
        """Yield the best verified speed-up within a budget after some trials."""
        return verified_best(_measured(self.trials[:num_trials]), budget)

    def regret_after(self, num_trials: int) -> float:
        """Yield the share of the best speed-up that is missed, averaged over the budgets."""
        missed = [
            1.0 - self.best_after(num_trials, budget) / best
            for budget, best in zip(self.budgets, self.bests, strict=True)
        ]
        return sum(missed) / len(missed)

    def num_until_best(self) -> tuple[int | None, ...]:
        """Yield, per budget, the trials until the best was measured; `None` if it never was."""
        return tuple(map(self._first_with, self.budgets, self.bests))

    def answers(self) -> tuple[Candidate, ...]:
        """Yield, per budget, the model that the search would have answered with."""
        measured = _measured(self.trials[: self.num_until_stop])
        return tuple(_fastest_within(measured, budget) for budget in self.budgets)

    def minutes_until_stop(self) -> float:
        """Yield the minutes of the measured trials; what failed ones took is not recorded."""
        measured = _measured(self.trials[: self.num_until_stop])
        return sum(measurement.duration_s for measurement in measured.values()) / 60

    def _first_with(self, budget: float, best: float) -> int | None:
        for number in range(1, len(self.trials) + 1):
            if self.best_after(number, budget) >= best - _BORDER:
                return number
        return None


def replay_search(
    make_evaluator: Callable[[], Evaluator],
    space: SearchSpace,
    search: SearchConfig,
    sampler: Sampler,
    others: Others | None = None,
    *,
    calibrations: Sequence[Calibration] = (),
    goes_on: bool = True,
) -> ReplayedSearch:
    """Search until it would stop and the best of every budget is measured.

    Args:
        make_evaluator: Yields a fresh evaluator, as its cache decides what trials cost.
        space: The candidates; it may have holes.
        search: Budgets, cap, stop rule and seed; its grid and sampler are not looked at.
        sampler: Who chooses. The stop rule is ours, so Optuna's samplers stop at the cap.
        others: What studies of other tasks tell our sampler.
        calibrations: Of the device, which our sampler expects speeds by.
        goes_on: False ends where it would stop, whatever it has measured.

    Raises:
        NoBaselineError: If the dense baseline failed with this seed.
        InputError: If a candidate is not recorded.
    """
    bests = _bests(make_evaluator(), space, search)
    replay = _Replay(make_evaluator(), space, search, sampler, others, tuple(calibrations))
    while not replay.is_over(bests if goes_on else None):
        replay.run_next()
    return ReplayedSearch(
        sampler=sampler,
        seed=search.seed,
        budgets=search.budgets,
        trials=replay.record.trials,
        num_repeated=replay.num_asked - len(replay.record.trials),
        num_until_stop=replay.stop[0],
        stop_reason=replay.stop[1],
        bests=bests,
    )


def as_sampler(name: str) -> Sampler:
    """Yield the sampler of this name.

    Raises:
        UsageError: If there is none.
    """
    for sampler in SAMPLERS:
        if sampler == name:
            return sampler
    raise UsageError(f"`--sampler` must be of {', '.join(SAMPLERS)}, got {name!r}.")


class _Proposer(Protocol):
    """An Optuna study, however it encodes a candidate."""

    def ask(self) -> tuple[optuna.Trial, Candidate]:
        """Yield a new trial and its candidate."""

    def tell(
        self, trial: optuna.Trial, measurement: Measurement | None, baseline: Measurement | None
    ) -> None:
        """Pass on what a trial yielded; `None` if it failed."""


class _OwnStudy:
    """A study of our sampler, as `autoprumux search` sets it up but for the database."""

    def __init__(self, replay: "_Replay", order: Order) -> None:
        self._space = replay.space
        sampler = PerformanceModelSampler(
            replay.space,
            replay.search.budgets,
            seed=replay.search.seed,
            order=order,
            history=lambda: replay.record,
            cached_widths=replay.evaluator.cached_widths,
        )
        sampler.find_others = lambda _: replay.others
        self._study = optuna.create_study(directions=["maximize"] * 2, sampler=sampler)

    def ask(self) -> tuple[optuna.Trial, Candidate]:
        """See `_Proposer.ask`."""
        trial = self._study.ask()
        return trial, self._space.suggest(trial)

    def tell(
        self, trial: optuna.Trial, measurement: Measurement | None, baseline: Measurement | None
    ) -> None:
        """See `_Proposer.tell`."""
        if measurement is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, objectives_of(measurement))


@dataclass
class _Replay:
    """A search under way."""

    evaluator: Evaluator
    space: SearchSpace
    search: SearchConfig
    sampler: Sampler
    others: Others | None = None
    calibrations: tuple[Calibration, ...] = ()
    record: StudyRecord = field(init=False)
    num_asked: int = 0

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.record = replace(_empty_study(self.search), calibrations=self.calibrations)
        self._stop: tuple[int, StopReason] | None = None
        search, sampler = self.search, self.sampler
        self._proposer: _Proposer = (
            _OwnStudy(self, cast(Order, sampler))
            if sampler in get_args(Order)
            else _rival_study(cast(Rival, sampler), self.space, search)
        )

    @property
    def stop(self) -> tuple[int, StopReason]:
        """Trials that a search would have trained, and why no more."""
        return self._stop or (len(self.record.trials), "repeats itself")

    def run_next(self) -> None:
        """Ask for a candidate; a new one becomes a trial."""
        trial, candidate = self._proposer.ask()
        self.num_asked += 1
        tried = {t.candidate: t for t in self.record.trials}
        if candidate not in tried and candidate in self.space.candidates:
            tried[candidate] = self._evaluate(candidate)
            self.record = replace(self.record, trials=tuple(tried.values()))
            self._stop = self._stop or self._why_stop()
        outcome = tried.get(candidate)
        measurement = outcome.measurement if outcome else None
        self._proposer.tell(trial, measurement, self.record.baseline)

    def is_over(self, bests: Sequence[float] | None) -> bool:
        """True once it would stop and has measured the `bests`, if any, or gets no further."""
        if not free_candidates(self.space, self.record):
            return True
        is_stuck = self.num_asked >= MAX_ASKS * len(self.space.candidates)
        return is_stuck or (self._stop is not None and self._has_measured(bests))

    def _has_measured(self, bests: Sequence[float] | None) -> bool:
        measured = self.record.measured
        return bests is None or all(
            verified_best(measured, budget) >= best - _BORDER
            for budget, best in zip(self.search.budgets, bests, strict=True)
        )

    def _evaluate(self, candidate: Candidate) -> TrialRecord:
        outcome = _outcome(self.evaluator, candidate, self.search.seed)
        number = len(self.record.trials)
        if isinstance(outcome, Failure):
            return TrialRecord(number=number, candidate=candidate, state="failed", failure=outcome)
        return TrialRecord(
            number=number, candidate=candidate, state="complete", measurement=outcome
        )

    def _why_stop(self) -> tuple[int, StopReason] | None:
        num_trials = len(self.record.trials)
        free = free_candidates(self.space, self.record)
        if not free:
            return num_trials, "all tried"
        if num_trials >= self.search.max_trials:
            return num_trials, "cap"
        is_ours = self.sampler in get_args(Order)
        if is_ours and is_settled(self.record, self.space, self.search, free, self.others):
            return num_trials, "settled"
        return None


def _rival_study(rival: Rival, space: SearchSpace, search: SearchConfig) -> RivalStudy:
    """Yield a sampler of Optuna's that begins with the dense baseline, as a search does."""
    study = RivalStudy.create(rival, space, search.budgets, search.seed)
    study.enqueue(_BASELINE)
    return study


def _bests(evaluator: Evaluator, space: SearchSpace, search: SearchConfig) -> tuple[float, ...]:
    table = {c: _outcome(evaluator, c, search.seed) for c in space.candidates}
    measured = {c: m for c, m in table.items() if isinstance(m, Measurement)}
    if _BASELINE not in measured:
        raise NoBaselineError(
            f"With seed {search.seed} the recorded dense baseline (N=1 s=0.00) failed, so nothing "
            "can be compared; replay fewer `--seeds`."
        )
    return tuple(verified_best(measured, budget) for budget in search.budgets)


def _outcome(evaluator: Evaluator, candidate: Candidate, seed: int) -> Measurement | Failure:
    last_accuracy: list[float] = []

    def report(name: str, value: float, step: int) -> None:
        if name.endswith("/held_out_accuracy"):
            last_accuracy.append(value)

    try:
        return evaluator.evaluate(candidate, trial_seed(seed, candidate), report)
    except TrialError as error:
        last = last_accuracy[-1] if last_accuracy else None
        return Failure(cause=known_cause(error.cause), message=str(error), last_accuracy=last)


def _empty_study(search: SearchConfig) -> StudyRecord:
    return StudyRecord(
        name="replay",
        task="",
        config={},
        config_hash="",
        data_fingerprint="",
        seed=search.seed,
        budgets=search.budgets,
    )


def _measured(trials: Sequence[TrialRecord]) -> dict[Candidate, Measurement]:
    return {t.candidate: t.measurement for t in trials if t.measurement is not None}


def _fastest_within(measured: Mapping[Candidate, Measurement], budget: float) -> Candidate:
    best = verified_best(measured, budget)
    baseline = measured[_BASELINE].accuracy
    within = [c for c, m in measured.items() if baseline - m.accuracy <= budget + _BORDER]
    return min(within, key=lambda c: (abs(measured[c].speedup - best), -measured[c].accuracy, c))
