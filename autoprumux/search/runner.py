"""A whole search: open or resume a study, run trials until the answer is settled, answer.

Any number of processes may run the same study, on any machines that reach its database. Each asks,
trains and tells on its own; whoever has nothing to do waits for the others, because a trial of a
worker that dies must be taken up.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from autoprumux.answers import BudgetAnswer, answer_budgets
from autoprumux.config import StudyConfig
from autoprumux.evaluators.base import Evaluator
from autoprumux.leftovers import remove_scratch
from autoprumux.records import Candidate, Choice, StudyRecord, TrialRecord
from autoprumux.search.acquisition import Proposal
from autoprumux.search.claims import StoredClaims, TrialTakenError
from autoprumux.search.cost import CostModel
from autoprumux.search.endings import (
    OTHERS_TOOK_THE_LAST,
    explained,
    failed_baselines,
    num_trained,
    require_no_new_failure,
    why_settled,
)
from autoprumux.search.hopeless import repeatable
from autoprumux.search.objective import Listener as Listener
from autoprumux.search.objective import Objective
from autoprumux.search.one_setting import require_same_clock
from autoprumux.search.opening import open_optuna_study, open_study
from autoprumux.search.presence import at_work, new_worker
from autoprumux.search.related import FindOthers, RelatedStudies
from autoprumux.search.sampler import (
    BASELINE_CHOICE,
    NoCandidateLeftError,
    PerformanceModelSampler,
    free_candidates,
)
from autoprumux.search.space import SearchSpace
from autoprumux.search.team import Team
from autoprumux.search.told import MINUTES
from autoprumux.storage.artifacts import Artifacts, open_artifacts
from autoprumux.storage.attempts import AttemptBook
from autoprumux.storage.database import Database
from autoprumux.storage.faults import storage_errors
from autoprumux.storage.priors import PriorBook
from autoprumux.storage.repository import Repository
from autoprumux.storage.search_storage import SearchStorage
from trainers.allocator import keep_freed_memory

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0
"""Seconds between looks at what others do; each wait is longer than the one before."""

TAKE_UP_EVERY_S = 30.0
"""Seconds after which a busy worker looks for trials of dead ones again."""

PATIENCE_S = 600.0
"""Seconds that a search waits for a database that went away, such as a server that restarts."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """What a search ended with."""

    study: StudyRecord
    answers: tuple[BudgetAnswer, ...]
    """One per budget."""
    stop_reason: str
    """One clause: why no further trial was started."""
    num_trained: int
    """Finished and failed trials in the study, those of earlier runs included."""
    minutes_spent: float
    """Minutes of all trials in the study."""
    minutes_full_grid: float
    """Minutes spent plus those predicted for the candidates that were not tried."""
    num_candidates: int
    """Size of the full grid."""


def run_study(
    config: StudyConfig,
    database: Database,
    evaluator: Evaluator,
    listener: Listener,
    *,
    artifacts: Path | str | None = None,
    stop: threading.Event | None = None,
) -> SearchOutcome:
    """Search until the answer is settled, a cap is reached or no candidate is left.

    Run again, it goes on where it was; a trial whose process was killed is taken up first, with
    its number and seed. Run in several processes at once, they share the trials, and each ends
    when all trials have.

    Args:
        config: The study.
        database: Gets what the trials yield.
        evaluator: Runs the trials.
        listener: Told what happens.
        artifacts: Folder or `s3://BUCKET/PREFIX` of the trials' logs, histories and models; None
            means a folder beside an SQLite file, without models, and none for a database server.
        stop: Set from elsewhere to end the search as if interrupted, at the next report of a
            training, so that the trial is given back at a checkpoint.

    Raises:
        UsageError: If `artifacts` cannot be used.
        StudyMismatchError: If the stored study has another recipe or other data.
        MixedDevicesError: If the stored study was measured in several settings.
        InputError: If data, checkpoint or configuration are at fault, or speeds would be measured
            in another setting than the dense baseline's.
        NoBaselineError: If the dense baseline failed.
        StorageError: If the database cannot be read or written.
        TrialError: If the disk is full.
        KeyboardInterrupt: If it was interrupted, or `stop` was set.
    """
    keep_freed_memory()
    with _errors_in_sentences(database):
        repository = Repository(database)
        record = open_study(config, repository, evaluator)
        stored = repository.load_study(config.name)
        if stored.trials:
            listener.announce(
                f"study {config.name} goes on: {num_trained(stored)} trained trials are stored"
            )
        remove_scratch()
        stop = stop or threading.Event()
        database.patience.seconds, database.patience.stop = PATIENCE_S, stop
        book, worker = AttemptBook(database, config.name), new_worker()
        storage = SearchStorage(database, database.optuna_storage())
        with at_work(book, worker), closing(storage):
            search = _assemble(
                config,
                record,
                storage,
                repository,
                Team(book, worker, stop),
                evaluator,
                listener,
                open_artifacts(artifacts, database, storage, _tell_no_files),
            )
            stop_reason = search.run()
            _logger.info("search of %s ended: %s", config.name, stop_reason)
            return search.outcome(stop_reason)


@dataclass(frozen=True)
class _Look:
    """One state of the study."""

    record: StudyRecord
    claimed: frozenset[Candidate]
    """Candidates whose trials are about to start."""
    num_open: int
    """See `Team.num_open`."""


@dataclass(kw_only=True)
class _Search:
    """An open study and what works on it."""

    config: StudyConfig
    space: SearchSpace
    repository: Repository
    optuna_study: optuna.Study
    sampler: PerformanceModelSampler
    storage: SearchStorage
    claims: StoredClaims
    objective: Objective
    team: Team
    cached_widths: Callable[[], frozenset[int]]
    find_others: FindOthers

    def run(self) -> str:
        """Run trials until there is a reason to stop, and yield it."""
        started = looked = time.monotonic()
        failed_before = failed_baselines(self._load())
        self._take_up_abandoned()
        wait_s, is_told = FIRST_WAIT_S, False
        while True:
            look = self._look()
            require_no_new_failure(look.record, failed_before)
            elapsed_s = time.monotonic() - started
            if self._is_over_time(elapsed_s):
                return f"the time limit of {self.config.search.timeout_s:g} s is reached"
            reason = self._stop_reason(look)
            if reason is None and not self._must_wait(look):
                self.team.wait(0)
                if time.monotonic() - looked > TAKE_UP_EVERY_S:
                    looked = time.monotonic()
                    self._take_up_abandoned()
                if self._run_next(look):
                    wait_s, is_told = FIRST_WAIT_S, False
                    continue
                reason = OTHERS_TOOK_THE_LAST
            num_others = self.team.num_others_at_work
            if reason is not None and num_others == 0 and not self._take_up_abandoned():
                return explained(reason, self._load())
            if not is_told and wait_s >= LONGEST_WAIT_S:
                self._announce_wait(num_others)
                is_told = True
            self.team.wait(wait_s)
            wait_s = min(1.5 * wait_s, LONGEST_WAIT_S)

    def outcome(self, stop_reason: str) -> SearchOutcome:
        """Yield the answers and the account of the search."""
        record = self._load()
        spent = self._minutes_spent(record)
        cost = CostModel.from_measured(record.measured, self.cached_widths())
        tried = {trial.candidate.cell for trial in record.trials}
        rest = cost.minutes_of_rest(c for c in self.space.candidates if c not in tried)
        return SearchOutcome(
            study=record,
            answers=answer_budgets(record, self.config.search.budgets),
            stop_reason=stop_reason,
            num_trained=num_trained(record),
            minutes_spent=spent,
            minutes_full_grid=spent + rest,
            num_candidates=len(self.space.candidates),
        )

    def _take_up_abandoned(self) -> int:
        """Finish the trials that dead workers left running; yield how many there were."""
        num_taken = 0
        for frozen in self.claims.running_trials():
            if not self.team.begin(frozen.number):
                continue
            num_taken += 1
            stored = {trial.number: trial for trial in self._load().trials}.get(frozen.number)
            if stored is not None and stored.state != "running":
                self.objective.settle(frozen.number)
            else:
                self._resume(frozen.number, stored)
        return num_taken

    def _run_next(self, look: _Look) -> bool:
        """Run one new trial; False if no candidate could be claimed for it."""
        require_same_clock(look.record, self.objective.evaluator)
        try:
            with self.storage.together():
                trial = self.optuna_study.ask()
        except TrialTakenError:
            return True  # another worker found it before this one had begun it
        return self._run(trial, look, is_resumed=False)

    def _is_over_time(self, elapsed_s: float) -> bool:
        return 0 < self.config.search.timeout_s <= elapsed_s

    def _stop_reason(self, look: _Look) -> str | None:
        """Yield why no further trial should start, or `None`."""
        search, record = self.config.search, look.record
        untried = free_candidates(self.space, record)
        if not untried:
            return f"all {self.space.num_points} candidates are tried"
        if num_trained(record) >= search.max_trials:
            return f"the cap of {search.max_trials} trained trials is reached"
        again = repeatable(record)
        free = [c for c in untried if c in again or c not in look.claimed]
        if not free:
            return OTHERS_TOOK_THE_LAST
        return why_settled(record, self.space, search, free, self.find_others(record))

    def _must_wait(self, look: _Look) -> bool:
        """Yield whether others must finish first: the dense baseline, or the cap's last."""
        if look.record.baseline is None:
            return not self.team.is_first
        num_left = self.config.search.max_trials - num_trained(look.record)
        return num_left <= look.num_open and num_left <= self.team.num_others_at_work

    def _announce_wait(self, num_others: int) -> None:
        trials = "1 trial" if num_others == 1 else f"{num_others} trials"
        self.objective.listener.announce(f"waiting for {trials} of other workers")

    def _resume(self, number: int, stored: TrialRecord | None) -> None:
        """Run a trial that has no outcome; its sampler completes what isn't stored yet."""
        look = self._look()
        require_same_clock(look.record, self.objective.evaluator)
        study_id = self.storage.get_study_id_from_name(self.config.name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self.storage.forget()
        trial = optuna.Trial(self.optuna_study, trial_id)
        self._run(trial, look, is_resumed=stored is not None)

    def _run(self, trial: optuna.Trial, look: _Look, *, is_resumed: bool) -> bool:
        """Run a trial; False if no candidate could be claimed for it."""
        number = trial.number
        if not trial.params:  # ranking may take a while, and nobody can write in the block below
            self.sampler.prepare(number, look.record, look.claimed)
        try:
            with self.storage.together():
                proposal = self._proposal(trial)
                death = self.objective.begin(number, proposal, is_resumed=is_resumed)
        except NoCandidateLeftError:
            self._give_up(number)
            return False
        try:
            self.objective.run(number, proposal, look.record, death=death, is_resumed=is_resumed)
        except TrialTakenError as error:
            self.objective.listener.announce(str(error))
        return True

    def _give_up(self, number: int) -> None:
        """Tell Optuna that a trial without a candidate is over."""
        with self.storage.together():
            self.optuna_study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            self.team.book.end(number, self.team.worker, "told")

    def _proposal(self, trial: optuna.Trial) -> Proposal:
        """Yield the candidate of a trial, asking the sampler for what isn't stored yet.

        Raises:
            NoCandidateLeftError: If no candidate can be claimed for it.
        """
        candidate = self.space.suggest(trial)
        noted = self.claims.noted(trial.number)
        if noted is not None and noted.candidate == candidate:
            return noted
        # Optuna asks no sampler where a range has one value or a user queued the parameters.
        choice = BASELINE_CHOICE if candidate.is_baseline else Choice(reason="queued by hand")
        proposal = Proposal(candidate, choice)
        if not self.claims.take(trial.number, proposal):
            raise NoCandidateLeftError
        return proposal

    def _minutes_spent(self, record: StudyRecord) -> float:
        """Yield the minutes of all ended trials; of failed ones Optuna's attribute knows them."""
        seconds = sum(measurement.duration_s for measurement in record.measured.values())
        failed = self.optuna_study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return seconds / 60 + sum(float(t.user_attrs.get(MINUTES, 0.0)) for t in failed)

    def _look(self) -> _Look:
        with self.storage.database.read():
            return _Look(
                self._load(),
                frozenset(self.repository.list_claims(self.config.name, unstarted=True)),
                self.team.num_open,
            )

    def _load(self) -> StudyRecord:
        return self.repository.load_study(self.config.name)


def _tell_no_files(reason: str) -> None:
    _logger.warning("logs and histories of trials are not kept: %s", reason)


@contextmanager
def _errors_in_sentences(database: Database) -> Iterator[None]:
    """Turn what Optuna raises about the database into our `StorageError`."""
    with storage_errors(database.place, (database.engine.url.password or "***",)):
        try:
            yield
        except StorageInternalError as error:
            raise error.__cause__ or error from error


def _assemble(
    config: StudyConfig,
    record: StudyRecord,
    storage: SearchStorage,
    repository: Repository,
    team: Team,
    evaluator: Evaluator,
    listener: Listener,
    artifacts: Artifacts | None,
) -> _Search:
    """Connect Optuna, the sampler and the objective to the study `record`."""
    study = open_optuna_study(record, storage)
    space = SearchSpace.from_config(config.search)
    claims = StoredClaims(
        storage,
        config.name,
        repository,
        team.book,
        team.worker,
        limit=config.search.max_trials,
    )
    sampler = study.sampler = PerformanceModelSampler(
        space,
        config.search.budgets,
        seed=config.search.seed,
        order=config.search.sampler,
        history=lambda: repository.load_study(config.name),
        claims=claims,
        cached_widths=evaluator.cached_widths,
    )
    if config.search.learn_from_others:
        book = PriorBook(storage.database, config.name)
        sampler.find_others = RelatedStudies(repository.load_studies, book)
    return _Search(
        config=config,
        space=space,
        repository=repository,
        optuna_study=study,
        sampler=sampler,
        storage=storage,
        claims=claims,
        objective=Objective(
            optuna_study=study,
            storage=storage,
            repository=repository,
            evaluator=evaluator,
            listener=listener,
            record=record,
            book=team.book,
            worker=team.worker,
            trial_timeout_s=config.search.trial_timeout_s,
            max_attempts=config.search.max_attempts,
            stop=team.stop,
            artifacts=artifacts,
            num_held_out=config.trainer.data.num_held_out if config.search.stop_hopeless else None,
        ),
        team=team,
        cached_widths=evaluator.cached_widths,
        find_others=sampler.find_others,
    )
