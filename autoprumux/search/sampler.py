"""Our sampler for Optuna: the candidate with the best score, see `acquisition`, comes next."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import TrialPruned
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autoprumux.hardware import calibrated_speeds_of
from autoprumux.records import Calibration, Candidate, Choice, StudyRecord, TrialRecord
from autoprumux.search.acquisition import (
    Predictor,
    Proposal,
    rank_by_score,
    with_runners_up,
)
from autoprumux.search.claims import Claims
from autoprumux.search.cost import CostModel
from autoprumux.search.hopeless import repeatable
from autoprumux.search.related import FindOthers, no_others
from autoprumux.search.rivals import Rival, rank_by_rival
from autoprumux.search.space import SearchSpace
from autoprumux.search.threads import ThreadClaims
from autoprumux.storage.trials import NUM_INSTANCES, SPARSITY, read_study
from autoprumux.surrogates.performance import PerformanceModel, telling_failures
from autoprumux.surrogates.related import Others
from autoprumux.surrogates.settings import SettingModel

Order = Literal["performance_model", "random", "grid"]

ASSUMED_VALIDATION_SIZE = 1000
"""Examples behind an accuracy of which Optuna's trials alone don't tell the number."""

NUM_RUNNERS_UP = 5
"""Candidates that are stored beside the chosen one, to explain the choice."""

BASELINE_CHOICE = Choice(reason="the dense baseline is always first")

_logger = logging.getLogger(__name__)


class NoCandidateLeftError(Exception):
    """Every candidate is measured, failed or claimed; only a sampler with claims raises it."""


class PerformanceModelSampler(BaseSampler):
    """Proposes the dense baseline first, then what promises the most speed-up per minute.

    It works on any study with directions (accuracy, speed-up), both maximised, and never proposes
    a candidate twice, failed and running ones included. The proposal of a trial depends only on
    the seed, the trial's number and what is measured, so a resumed search goes on as if it had
    never stopped; with `find_others`, on what other studies have measured, too.

    Without `history` and `claims` it is a plain sampler that knows no more than Optuna's trials,
    and which candidates the other threads of `Study.optimize` are about to try. After the last
    candidate it stops `Study.optimize`, and prunes a trial that another thread has begun by then.
    Asked by hand all the same, it starts over with the first. Parameters that are not of the
    space are drawn at random.
    """

    def __init__(
        self,
        space: SearchSpace,
        budgets: Sequence[float],
        *,
        seed: int = 0,
        order: Order | Rival = "performance_model",
        history: Callable[[], StudyRecord] | None = None,
        claims: Claims | None = None,
        cached_widths: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        """Prepare a sampler.

        Args:
            space: The candidates.
            budgets: Largest accuracy losses that are asked for, fractions.
            seed: Seed of the `random` order and of Optuna's samplers.
            order: All but `performance_model` ignore it; they are for comparison, and for those
                who prefer them.
            history: Reads the study as our tables tell it.
            claims: Keeps other processes from the same candidate; None is for the threads of one.
            cached_widths: Widths whose start need not be trained again, see `Evaluator`.
        """
        self._space = space
        self._budgets = tuple(budgets)
        self._seed = seed
        self._order = order
        self._history = history
        self._claims = claims
        self._threads = ThreadClaims()
        self._cached_widths = cached_widths
        self.find_others: FindOthers = no_others
        """Yields what studies of other tasks tell of this one."""
        self._prepared: tuple[int, list[Proposal]] | None = None

    def prepare(
        self, number: int, record: StudyRecord, claimed: AbstractSet[Candidate] = frozenset()
    ) -> None:
        """Rank what trial `number` may try, so that proposing it takes no time.

        Args:
            number: Number of the trial, the next that is asked for a proposal.
            record: The study as it is now.
            claimed: Candidates that other processes are about to try.
        """
        again = repeatable(record)
        free = free_candidates(self._space, record, number)
        candidates = [c for c in free if c in again or c not in claimed]
        self._prepared = (number, self._rank(record, candidates, number))

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """See `BaseSampler`."""
        if self._claims is not None:
            self._claims.open(trial.number)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """See `BaseSampler`."""
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `BaseSampler`.

        Raises:
            NoCandidateLeftError: If other processes claimed the last candidates.
        """
        if not {NUM_INSTANCES, SPARSITY} <= set(search_space):
            return {
                name: self.sample_independent(study, trial, name, distribution)
                for name, distribution in search_space.items()
            }
        if self._claims is None:
            candidate = self._next_of_threads(study, trial.number)
            return {} if candidate is None else self._space.encode(candidate)
        proposal = self._claims.taken_up(trial) or self._propose(self._claims, study, trial)
        return self._space.encode(proposal.candidate)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """See `BaseSampler`.

        Raises:
            TrialPruned: If no candidate was left for the trial.
        """
        is_of_cell = param_name in (NUM_INSTANCES, SPARSITY)
        if is_of_cell and self._threads.has_none(study.study_name, trial.number):
            raise TrialPruned("Every candidate has had its trial.")
        return _draw(self._generator(trial.number, param_name), param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See `BaseSampler`; a plain sampler stops `Study.optimize` after the last candidate."""
        if self._claims is not None:
            return
        with self._threads.turn:
            self._threads.end(study.study_name, trial.number)
            if not free_candidates(self._space, self._read(study)):
                _stop(study)

    def _next_of_threads(self, study: Study, number: int) -> Candidate | None:
        """Yield the candidate of a plain sampler's trial, None for one too many of `optimize`."""
        with self._threads.turn:
            record = self._read(study)
            ranked = self._rank(record, free_candidates(self._space, record, number), number)
            if not ranked and _stop(study):
                self._threads.give_none(study.study_name, number)
                return None
            if not ranked:
                _logger.warning("Every candidate has had its trial; starting over with the first.")
            chosen = ranked[0].candidate if ranked else self._space.candidates[0]
            self._threads.take(study.study_name, number, chosen)
            return chosen

    def _propose(self, claims: Claims, study: Study, trial: FrozenTrial) -> Proposal:
        number, ranked = self._prepared or (None, [])
        self._prepared = None
        if number != trial.number:
            record = self._read(study)
            candidates = free_candidates(self._space, record, trial.number)
            ranked = self._rank(record, candidates, trial.number)
        for place, first in enumerate(ranked, start=1):
            proposal = with_runners_up(first, ranked[place : place + NUM_RUNNERS_UP])
            if claims.take(trial.number, proposal):
                return proposal
        raise NoCandidateLeftError

    def _read(self, study: Study) -> StudyRecord:
        """Yield the study; without our tables with what other threads are about to try, too."""
        if self._history:
            return self._history()
        record = read_study(study, self._space.candidate_of)
        # Of a trial that has stored a part of its parameters, the study tells another candidate.
        known = {(trial.number, trial.candidate) for trial in record.trials}
        running = self._threads.running(record.name)
        claimed = [t for t in running if (t.number, t.candidate) not in known]
        trials = sorted((*record.trials, *claimed), key=lambda trial: trial.number)
        return replace(record, seed=self._seed, trials=tuple(trials))

    def _rank(
        self, record: StudyRecord, candidates: Sequence[Candidate], number: int
    ) -> list[Proposal]:
        """Yield the free candidates in the order of preference."""
        first = [Proposal(c, BASELINE_CHOICE) for c in candidates if c.is_baseline]
        others = [c for c in candidates if not c.is_baseline]
        if self._order == "performance_model" and record.baseline is not None:
            told = self.find_others(record)
            model = fit_model(record, self._space, told)
            cost = CostModel.from_measured(record.measured, self._cached_widths())
            pending = [t.candidate for t in record.trials if t.state == "running"]
            others = worth_trying(model, others, self._budgets)
            ranked = rank_by_score(
                model, record.measured, others, self._budgets, cost.minutes, pending
            )
            names = [*told.names] if told else []
            if (speeds := calibrated_speeds_of(record)) is not None:
                names.append(f"calibration {speeds.profile}")
            ranked = [with_prior_named(proposal, names) for proposal in ranked]
        elif self._order in get_args(Rival) and others:
            rival = cast(Rival, self._order)
            seed = int(self._generator(number, rival).integers(2**31))
            order = rank_by_rival(rival, self._space, record, others, self._budgets, seed)
            ranked = [Proposal(c, Choice(reason=f"asked for by Optuna's {rival}")) for c in order]
        elif self._order == "random":
            shuffled = self._generator(number, "order").permutation(len(others))
            ranked = [Proposal(others[i], Choice(reason="in random order")) for i in shuffled]
        else:
            ranked = [Proposal(c, Choice(reason="in the order of the grid")) for c in others]
        return first + ranked

    def _generator(self, number: int, purpose: str) -> np.random.Generator:
        digest = hashlib.sha256(purpose.encode()).digest()
        return np.random.default_rng([self._seed, number, int.from_bytes(digest[:4])])


def free_candidates(
    space: SearchSpace, record: StudyRecord, number: int | None = None
) -> list[Candidate]:
    """Yield the candidates without a trial, and those whose failure does not count any more.

    Args:
        space: All candidates.
        record: The study; its seed decides which ones are drawn where there are too many.
        number: Of the trial that is to try one; None means the one after the last.
    """
    if number is None:
        number = record.trials[-1].number + 1 if record.trials else 0
    again = repeatable(record)
    taken = {t.candidate for t in record.trials if t.state != "failed" or t.candidate not in again}
    points = space.points(record.seed, number)
    return [candidate for candidate in points if candidate not in taken]


def worth_trying(
    model: Predictor, candidates: Sequence[Candidate], budgets: Sequence[float]
) -> list[Candidate]:
    """Yield what is left to choose from: of each cell the setting that is worth trying next."""
    if isinstance(model, SettingModel):
        return model.shortlist(candidates, budgets)
    return list(candidates)


def with_prior_named(proposal: Proposal, names: Sequence[str]) -> Proposal:
    """Yield a proposal whose reason names what else it rests on, if anything."""
    if not names:
        return proposal
    reason = f"{proposal.choice.reason}; prior: {', '.join(names)}"
    return replace(proposal, choice=replace(proposal.choice, reason=reason))


def fit_model(record: StudyRecord, space: SearchSpace, others: Others | None = None) -> Predictor:
    """Yield the performance model of what the study knows, its failures included.

    Asked again while no further trial has ended, it yields the same model: whether to stop and
    what to try next are asked one after the other.

    Raises:
        NoBaselineError: If the baseline is not measured yet.
    """
    ended = tuple(t for t in record.trials if t.state != "running")
    return _fitted(_Known(space, ended, others, record.calibrations, record))


@dataclass(frozen=True)
class _Known:
    """What a model is fitted to; equal if the same trials have ended."""

    space: SearchSpace
    ended: tuple[TrialRecord, ...]
    others: Others | None
    calibrations: tuple[Calibration, ...]
    record: StudyRecord = field(compare=False)

    def __hash__(self) -> int:
        return len(self.ended)  # records hold dictionaries


@lru_cache(maxsize=1)
def _fitted(known: _Known) -> Predictor:
    record, space = known.record, known.space
    baseline = record.baseline
    is_bare = baseline is not None and baseline.num_examples == 0
    cells = PerformanceModel.from_measured(
        record.by_cell,
        telling_failures(record),
        space.candidates,
        stopped=record.stopped_cells,
        validation_size=ASSUMED_VALIDATION_SIZE if is_bare else None,
        others=known.others,
        speeds=calibrated_speeds_of(record),
    )
    if baseline is None or not space.hyperparameters:
        return cells
    size = ASSUMED_VALIDATION_SIZE if is_bare else baseline.num_examples
    return SettingModel.from_study(record, cells, space.hyperparameters, size)


def _stop(study: Study) -> bool:
    """Let `Study.optimize` begin no further trial; False outside of it, where that is refused."""
    try:
        study.stop()
    except RuntimeError:
        return False
    return True


def _draw(generator: np.random.Generator, distribution: BaseDistribution) -> Any:
    """Yield a random value of any of Optuna's distributions."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(generator.integers(len(distribution.choices)))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        value = float(np.exp(generator.uniform(np.log(low), np.log(high))))
        value = min(max(value, low), high)
        return round(value) if isinstance(distribution, IntDistribution) else value
    if step is None:
        return float(generator.uniform(low, high))
    steps = int(generator.integers(round((high - low) / step) + 1))
    return low + steps * step
