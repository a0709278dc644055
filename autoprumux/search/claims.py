"""Which trial trains which candidate, so that none is trained twice and none is lost.

A worker makes a trial of Optuna and begins an attempt at it, which only one worker can, in one
transaction; in another it claims the candidate for the trial in our table, notes the proposal in
the trial's system attributes, stores the parameters and starts. After `kill -9` at any point
between creating the trial and telling its result, the next worker finds there what was being done.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autoprumux.records import Candidate, Choice, RunnerUp
from autoprumux.search.acquisition import Proposal
from autoprumux.search.hopeless import repeatable
from autoprumux.search.presence import is_alive
from autoprumux.storage.attempts import AttemptBook, Worker
from autoprumux.storage.repository import Repository
from autoprumux.storage.trials import NUM_INSTANCES, SPARSITY

_PROPOSAL = "autoprumux:proposal"


class TrialTakenError(Exception):
    """Another worker took up the trial, because this one seemed to be dead."""


class Claims(Protocol):
    """What a sampler needs to know of other processes."""

    def open(self, number: int) -> None:
        """Begin to work on Optuna's trial `number`."""

    def taken_up(self, trial: FrozenTrial) -> Proposal | None:
        """Yield the proposal that a killed process had made for `trial`, if it is still free."""

    def take(self, number: int, proposal: Proposal) -> bool:
        """Claim a candidate for a trial; `False` if another trial has it."""


class StoredClaims:
    """Claims in the study's database, atomic across processes and machines."""

    def __init__(
        self,
        storage: BaseStorage,
        study: str,
        repository: Repository,
        book: AttemptBook,
        worker: Worker,
        *,
        limit: int | None = None,
    ) -> None:
        """Prepare the claims of a study.

        Args:
            storage: Optuna's, of the same database as `repository`.
            study: Name of the study in both.
            repository: Holds the claims.
            book: Holds the attempts.
            worker: Who claims.
            limit: Most candidates that may be claimed in all; None means no limit.
        """
        self._storage, self._repository, self._book = storage, repository, book
        self._study, self._worker, self._limit = study, worker, limit
        self._study_id = storage.get_study_id_from_name(study)

    def open(self, number: int) -> None:
        """See `Claims.open`.

        Raises:
            TrialTakenError: If another worker has begun it.
        """
        if not self._book.begin(number, self._worker, is_alive):
            raise TrialTakenError(f"Trial {number} is another worker's.")

    def taken_up(self, trial: FrozenTrial) -> Proposal | None:
        """See `Claims.taken_up`."""
        proposal = noted_proposal(trial)
        if proposal is not None and self._claim(trial.number, proposal.candidate):
            return proposal
        return None

    def take(self, number: int, proposal: Proposal) -> bool:
        """See `Claims.take`; what may be tried again may be claimed again."""
        if not self._claim(number, proposal.candidate):
            return False
        note = asdict(proposal.candidate) | {"choice": asdict(proposal.choice)}
        self._storage.set_trial_system_attr(self._trial_id(number), _PROPOSAL, note)
        return True

    def noted(self, number: int) -> Proposal | None:
        """Yield the proposal noted on trial `number`, if any."""
        return noted_proposal(self._storage.get_trial(self._trial_id(number)))

    def running_trials(self) -> list[FrozenTrial]:
        """Yield the trials that Optuna calls running, in order of their number."""
        running = self._storage.get_all_trials(self._study_id, states=(TrialState.RUNNING,))
        return sorted(running, key=lambda trial: trial.number)

    def _claim(self, number: int, candidate: Candidate) -> bool:
        def is_repeatable() -> bool:
            return candidate in repeatable(self._repository.load_study(self._study))

        return self._repository.claim(
            self._study, candidate, number, limit=self._limit, is_repeatable=is_repeatable
        )

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def noted_proposal(trial: FrozenTrial) -> Proposal | None:
    """Yield the proposal noted on an Optuna trial, if any."""
    note = trial.system_attrs.get(_PROPOSAL)
    if not isinstance(note, Mapping):
        return None
    values = note.get("hyperparameters", ())  # none before schema 5
    candidate = Candidate(note[NUM_INSTANCES], note[SPARSITY], values)
    choice = dict(note["choice"])
    others = [dict(other) for other in choice.pop("runners_up", ())]
    runners_up = tuple(RunnerUp(candidate=Candidate(**o.pop("candidate")), **o) for o in others)
    return Proposal(candidate, Choice(**choice, runners_up=runners_up))
