"""Which process works on which candidate, so that none is trained twice and none is lost.

A running trial of Optuna notes in its system attributes the process that works on it and, before
the claim in our table, the proposal it is about to claim. After `kill -9` at any point between
creating the trial and telling its result, the next run finds there what was being done:

    trial created, worker noted, proposal noted, candidate claimed, parameters stored, started
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autoprumux.records import Candidate, Choice, RunnerUp
from autoprumux.search.acquisition import Proposal
from autoprumux.search.hopeless import repeatable
from autoprumux.search.space import encode
from autoprumux.storage.repository import Repository
from autoprumux.storage.trials import NUM_INSTANCES, SPARSITY, candidate_of

_WORKER = "autoprumux:worker"
_PROPOSAL = "autoprumux:proposal"


class Claims(Protocol):
    """What a sampler needs to know of other processes."""

    def open(self, number: int) -> None:
        """Note that this process works on Optuna's trial `number`."""

    def taken_up(self, trial: FrozenTrial) -> Proposal | None:
        """Yield the proposal that a killed process had made for `trial`, if it is still free."""

    def take(self, number: int, proposal: Proposal) -> bool:
        """Claim a candidate for a trial; `False` if another trial has it."""


class NoClaims:
    """For a study of one process: every proposal is granted."""

    def open(self, number: int) -> None:
        """See `Claims.open`."""

    def taken_up(self, trial: FrozenTrial) -> Proposal | None:
        """See `Claims.taken_up`."""

    def take(self, number: int, proposal: Proposal) -> bool:
        """See `Claims.take`."""
        return True


class StoredClaims:
    """Claims in the study's database, atomic across processes."""

    def __init__(
        self, storage: BaseStorage, study: str, repository: Repository, *, has_hosts: bool
    ) -> None:
        """Prepare the claims of a study.

        Args:
            storage: Optuna's, of the same database as `repository`.
            study: Name of the study in both.
            repository: Holds the claims.
            has_hosts: True if processes of other machines may work on the study, so that their
                trials are left alone; an SQLite file is one machine's, whatever its name was.
        """
        self._has_hosts = has_hosts
        self._storage = storage
        self._study = study
        self._study_id = storage.get_study_id_from_name(study)
        self._repository = repository

    def open(self, number: int) -> None:
        """See `Claims.open`."""
        self._storage.set_trial_system_attr(self._trial_id(number), _WORKER, _this_worker())

    def taken_up(self, trial: FrozenTrial) -> Proposal | None:
        """See `Claims.taken_up`."""
        proposal = noted_proposal(trial)
        if proposal is None:
            return None
        is_claimed = self._repository.claim(self._study, proposal.candidate)
        if is_claimed or not self._is_held_by_other(trial.number, proposal.candidate):
            return proposal
        return None

    def take(self, number: int, proposal: Proposal) -> bool:
        """See `Claims.take`; what may be tried again may be claimed again."""
        note = encode(proposal.candidate) | {"choice": asdict(proposal.choice)}
        self._storage.set_trial_system_attr(self._trial_id(number), _PROPOSAL, note)
        if self._repository.claim(self._study, proposal.candidate):
            return True
        again = repeatable(self._repository.load_study(self._study))
        is_free = proposal.candidate in again
        return is_free and not self._is_held_by_other(number, proposal.candidate)

    def noted(self, number: int) -> Proposal | None:
        """Yield the proposal noted on trial `number`, if any."""
        return noted_proposal(self._storage.get_trial(self._trial_id(number)))

    def abandoned_trials(self) -> list[FrozenTrial]:
        """Yield the running trials that no live process works on, in order of their number."""
        running = self._storage.get_all_trials(self._study_id, states=(TrialState.RUNNING,))
        return sorted((t for t in running if not self._is_at_work(t)), key=lambda t: t.number)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _is_held_by_other(self, number: int, candidate: Candidate) -> bool:
        """True if another trial has `candidate` as its parameters, or is about to.

        A failed trial does not hold what may be tried again.
        """
        is_repeatable = candidate in repeatable(self._repository.load_study(self._study))
        return any(
            self._holds(trial, candidate, is_repeatable)
            for trial in self._storage.get_all_trials(self._study_id, deepcopy=False)
            if trial.number != number
        )

    def _holds(self, trial: FrozenTrial, candidate: Candidate, is_repeatable: bool) -> bool:
        held = candidate_of(trial)
        if held is not None or trial.state != TrialState.RUNNING:
            is_in_vain = trial.state == TrialState.FAIL and is_repeatable
            return held == candidate and not is_in_vain
        proposal = noted_proposal(trial)
        return proposal is not None and proposal.candidate == candidate and self._is_at_work(trial)

    def _is_at_work(self, trial: FrozenTrial) -> bool:
        """True if another process, live or on a machine out of sight, works on `trial`."""
        worker = trial.system_attrs.get(_WORKER)
        if worker is None or worker == _this_worker():
            return False
        host, process, start = worker
        if host != platform.node():
            return self._has_hosts
        return _is_alive(process, start)


def noted_proposal(trial: FrozenTrial) -> Proposal | None:
    """Yield the proposal noted on an Optuna trial, if any."""
    note = trial.system_attrs.get(_PROPOSAL)
    if not isinstance(note, Mapping):
        return None
    candidate, choice = Candidate(note[NUM_INSTANCES], note[SPARSITY]), dict(note["choice"])
    others = [dict(other) for other in choice.pop("runners_up", ())]
    runners_up = tuple(RunnerUp(candidate=Candidate(**o.pop("candidate")), **o) for o in others)
    return Proposal(candidate, Choice(**choice, runners_up=runners_up))


def _this_worker() -> list[Any]:
    return [platform.node(), os.getpid(), _start_time(os.getpid())]


def _is_alive(process: int, start: str) -> bool:
    """True if this machine runs the process that started at `start`, and no later one."""
    if start:
        return _start_time(process) == start
    if os.name != "posix":  # there the call below would end the process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_time(process: int) -> str:
    """Yield when a process of this machine started; empty if the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]  # the 22nd field of the file; the name in brackets may hold spaces
