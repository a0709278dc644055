"""A whole search: open or resume a study, run trials until the answer is settled, answer."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autoprumux.answers import BudgetAnswer, answer_budgets
from autoprumux.config import (
    SearchConfig,
    StudyConfig,
    config_hash,
    recipe_differences,
    study_to_dict,
)
from autoprumux.errors import (
    NoBaselineError,
    StudyMismatchError,
    UnknownStudyError,
    UsageError,
)
from autoprumux.evaluators.base import Evaluator
from autoprumux.records import Candidate, Choice, StudyRecord, TrialRecord
from autoprumux.search.acquisition import Proposal, chance_to_beat
from autoprumux.search.claims import StoredClaims
from autoprumux.search.cost import CostModel
from autoprumux.search.hopeless import repeatable
from autoprumux.search.objective import MINUTES, Objective
from autoprumux.search.objective import Listener as Listener
from autoprumux.search.sampler import (
    BASELINE_CHOICE,
    NoCandidateLeftError,
    PerformanceModelSampler,
    fit_model,
    free_candidates,
)
from autoprumux.search.space import SearchSpace
from autoprumux.storage.artifacts import Artifacts, default_artifact_folder
from autoprumux.storage.database import Database
from autoprumux.storage.faults import storage_errors
from autoprumux.storage.repository import Repository

MIN_TRIALS = 6
"""Trained trials before the search may call its answer settled. With fewer, predicted intervals
rest on the prior more than on this task, and there are no runners-up."""

OTHERS_TOOK_THE_LAST = "other processes work on the last candidates"

METRIC_NAMES = ("accuracy", "speedup")

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
    artifacts: Path | None = None,
) -> SearchOutcome:
    """Search until the answer is settled, a cap is reached or no candidate is left.

    Run again, it goes on where it was; a trial whose process was killed is taken up first, with
    its number and seed.

    Args:
        config: The study.
        database: Gets what the trials yield.
        evaluator: Runs the trials.
        listener: Told what happens.
        artifacts: Folder of the trials' logs and histories; None means the one beside an SQLite
            file, and none for a database server.

    Raises:
        UsageError: If `artifacts` cannot be a folder.
        StudyMismatchError: If the stored study has another recipe or other data.
        InputError: If data, checkpoint or configuration are at fault.
        NoBaselineError: If the dense baseline failed.
        StorageError: If the database cannot be read or written.
    """
    started = time.monotonic()
    with _errors_in_sentences(database):
        search = _open(config, database, evaluator, listener, artifacts)
        search.take_up_abandoned()
        stop_reason = search.stop_reason(time.monotonic() - started)
        while stop_reason is None:
            stop_reason = search.run_next() or search.stop_reason(time.monotonic() - started)
        _logger.info("search of %s ended: %s", config.name, stop_reason)
        return search.outcome(stop_reason)


def is_settled(
    record: StudyRecord, space: SearchSpace, search: SearchConfig, free: Sequence[Candidate]
) -> bool:
    """Yield whether none of the `free` candidates has a fair chance of beating the best."""
    is_early = record.baseline is None or _num_trained(record) < MIN_TRIALS
    if is_early or search.stop_chance == 0:  # 0 asks for the whole grid
        return False
    model = fit_model(record, space)
    chance = chance_to_beat(model, record.measured, free, search.budgets, search.stop_gain)
    return chance <= search.stop_chance


@dataclass(frozen=True, kw_only=True)
class _Search:
    """An open study and what works on it."""

    config: StudyConfig
    space: SearchSpace
    repository: Repository
    optuna_study: optuna.Study
    storage: BaseStorage
    claims: StoredClaims
    objective: Objective
    cached_widths: Callable[[], frozenset[int]]

    def take_up_abandoned(self) -> None:
        """Finish the trials that killed processes left running."""
        for frozen in self.claims.abandoned_trials():
            stored = {trial.number: trial for trial in self._load().trials}.get(frozen.number)
            if stored is not None and stored.state != "running":
                self.objective.settle(frozen.number)
            else:
                self._resume(frozen.number, stored)

    def run_next(self) -> str | None:
        """Run one new trial; yield the reason to stop if others took the last candidates."""
        return self._run(self.optuna_study.ask(), is_resumed=False)

    def stop_reason(self, elapsed_s: float) -> str | None:
        """Yield why no further trial should start, or `None`."""
        search, record = self.config.search, self._load()
        untried = free_candidates(self.space, record)
        if not untried:
            return f"all {len(self.space.candidates)} candidates are tried"
        if _num_trained(record) >= search.max_trials:
            return f"the cap of {search.max_trials} trained trials is reached"
        if search.timeout_s and elapsed_s >= search.timeout_s:
            return f"the time limit of {search.timeout_s:g} s is reached"
        claimed = set(self.repository.list_claims(self.config.name))
        free = [c for c in untried if c in repeatable(record) or c not in claimed]
        if not free:
            return OTHERS_TOOK_THE_LAST
        return self._why_settled(record, free)

    def _why_settled(self, record: StudyRecord, free: Sequence[Candidate]) -> str | None:
        """Yield why none of the free candidates is worth a trial, or `None` if one may be."""
        search = self.config.search
        if not is_settled(record, self.space, search, free):
            return None
        return (
            f"settled: no untried candidate has more than a {100 * search.stop_chance:g} % chance "
            f"of beating the verified best by more than {100 * search.stop_gain:g} %"
        )

    def outcome(self, stop_reason: str) -> SearchOutcome:
        """Yield the answers and the account of the search."""
        record = self._load()
        spent = self._minutes_spent(record)
        cost = CostModel.from_measured(record.measured, self.cached_widths())
        rest = cost.minutes_of_rest(free_candidates(self.space, record))
        return SearchOutcome(
            study=record,
            answers=answer_budgets(record, self.config.search.budgets),
            stop_reason=stop_reason,
            num_trained=_num_trained(record),
            minutes_spent=spent,
            minutes_full_grid=spent + rest,
            num_candidates=len(self.space.candidates),
        )

    def _resume(self, number: int, stored: TrialRecord | None) -> None:
        """Run a trial that has no outcome; its sampler completes what isn't stored yet."""
        study_id = self.storage.get_study_id_from_name(self.config.name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self.optuna_study.get_trials(deepcopy=False)  # Optuna writes to trials that it has read
        trial = optuna.Trial(self.optuna_study, trial_id)
        self._run(trial, is_resumed=stored is not None)

    def _run(self, trial: optuna.Trial, *, is_resumed: bool) -> str | None:
        try:
            proposal = self._proposal(trial)
        except NoCandidateLeftError:
            self.optuna_study.tell(trial, state=TrialState.FAIL)
            return OTHERS_TOOK_THE_LAST
        record = self.objective.run(trial.number, proposal, is_resumed=is_resumed)
        if record.candidate.is_baseline and record.failure is not None:
            raise NoBaselineError(
                f"The dense baseline failed ({record.failure.cause}): {record.failure.message} "
                "Nothing can be compared without it; run the same command again to try it again."
            )
        return None

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

    def _load(self) -> StudyRecord:
        return self.repository.load_study(self.config.name)


@contextmanager
def _errors_in_sentences(database: Database) -> Iterator[None]:
    """Turn what Optuna raises about the database into our `StorageError`."""
    with storage_errors(database.place, (database.engine.url.password or "***",)):
        try:
            yield
        except StorageInternalError as error:
            raise error.__cause__ or error from error


def _open(
    config: StudyConfig,
    database: Database,
    evaluator: Evaluator,
    listener: Listener,
    artifacts: Path | None,
) -> _Search:
    """Check everything that can be checked, then make or open the study."""
    repository = Repository(database)
    stored = _find(repository, config.name)
    _require_same_recipe(stored, config)
    evaluator.check()
    record = StudyRecord(
        name=config.name,
        task=config.trainer.task_name,
        config=study_to_dict(config),
        config_hash=config_hash(config),
        data_fingerprint=evaluator.data_fingerprint,
        seed=config.search.seed,
        budgets=config.search.budgets,
    )
    _require_same_data(stored, record)
    if stored is not None and stored.trials:
        listener.announce(
            f"study {config.name} goes on: {_num_trained(stored)} trained trials are stored"
        )
    repository.save_study(record)
    return _assemble(config, record, database, evaluator, listener, artifacts)


def _assemble(
    config: StudyConfig,
    record: StudyRecord,
    database: Database,
    evaluator: Evaluator,
    listener: Listener,
    artifacts: Path | None,
) -> _Search:
    """Connect Optuna, the sampler and the objective to the study `record`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the listener tells what happens
    repository, storage = Repository(database), database.optuna_storage()
    space = SearchSpace.from_config(config.search)
    study = optuna.create_study(
        storage=storage,
        study_name=config.name,
        directions=["maximize"] * len(METRIC_NAMES),
        load_if_exists=True,
    )
    has_hosts = database.engine.dialect.name != "sqlite"
    claims = StoredClaims(storage, config.name, repository, has_hosts=has_hosts)
    study.sampler = PerformanceModelSampler(
        space,
        config.search.budgets,
        seed=config.search.seed,
        order=config.search.sampler,
        history=lambda: repository.load_study(config.name),
        claims=claims,
        cached_widths=evaluator.cached_widths,
    )
    _describe(study, record)
    return _Search(
        config=config,
        space=space,
        repository=repository,
        optuna_study=study,
        storage=storage,
        claims=claims,
        objective=Objective(
            optuna_study=study,
            storage=storage,
            repository=repository,
            evaluator=evaluator,
            listener=listener,
            record=record,
            artifacts=_open_artifacts(artifacts, database, storage),
            num_held_out=config.trainer.data.num_held_out if config.search.stop_hopeless else None,
        ),
        cached_widths=evaluator.cached_widths,
    )


def _open_artifacts(
    folder: Path | None, database: Database, storage: BaseStorage
) -> Artifacts | None:
    """Open the folder that was asked for, or the one beside the database if that is possible."""
    beside = default_artifact_folder(database)
    if folder is not None:
        return Artifacts(folder, storage)
    if beside is None:
        return None
    try:
        return Artifacts(beside, storage)
    except UsageError as error:
        _logger.warning("logs and histories of trials are not kept: %s", error)
        return None


def _describe(study: optuna.Study, record: StudyRecord) -> None:
    """Label an Optuna study for people who read it in optuna-dashboard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(METRIC_NAMES))
    study.set_user_attr("task", record.task)
    study.set_user_attr("budgets_points", [round(100 * b, 4) for b in record.budgets])
    is_builtin = record.data_fingerprint.startswith("builtin:")
    study.set_user_attr("data", "built-in generator" if is_builtin else record.data_fingerprint)


def _find(repository: Repository, name: str) -> StudyRecord | None:
    try:
        return repository.load_study(name)
    except UnknownStudyError:
        return None


def _require_same_recipe(stored: StudyRecord | None, config: StudyConfig) -> None:
    if stored is None or stored.config_hash == config_hash(config):
        return
    changes = "; ".join(recipe_differences(stored.config, config)) or "an unknown part"
    raise StudyMismatchError(
        f"Study `{config.name}` was made with another recipe: {changes}. Give the stored values, "
        "or another database with `--storage`."
    )


def _require_same_data(stored: StudyRecord | None, record: StudyRecord) -> None:
    if stored is None or stored.data_fingerprint == record.data_fingerprint:
        return
    raise StudyMismatchError(
        f"Study `{record.name}` was made with other examples ({stored.data_fingerprint}, now "
        f"{record.data_fingerprint}). Give the same data, or another database with `--storage`."
    )


def _num_trained(record: StudyRecord) -> int:
    return sum(trial.state != "running" for trial in record.trials)
