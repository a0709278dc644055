"""Optuna's storage for a process that searches: the same rows in a third of the statements.

`RDBStorage` uses a transaction for every attribute, parameter and look, and reads a trial anew
before each of them. A running trial is one worker's alone, so what is known of it is kept here,
and everything is written in the transactions of `Database.write`, together with our own tables.
Whatever a search seldom asks for is Optuna's own storage's to answer.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, delete, func, insert, select, update

from autoprumux.storage.database import Database
from autoprumux.storage.optuna_storage import ClosingStorage

_STUDIES: Table = models.StudyModel.__table__
_TRIALS: Table = models.TrialModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_VALUES: Table = models.TrialValueModel.__table__
_USER_ATTRIBUTES: Table = models.TrialUserAttributeModel.__table__
_SYSTEM_ATTRIBUTES: Table = models.TrialSystemAttributeModel.__table__


@dataclass
class _Own:
    """A running trial of this process."""

    frozen: FrozenTrial
    is_new: bool = False
    """True if it was made here, so that no attribute can be stored but those of `frozen`."""


@dataclass
class SearchStorage(BaseStorage):
    """The storage of one study that a process searches."""

    database: Database
    whole: ClosingStorage
    """Optuna's own of the same database."""
    _own: dict[int, _Own] = field(default_factory=dict)
    _study_ids: dict[str, int] = field(default_factory=dict)
    _numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    """Trials by study and number."""
    _distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    """What a parameter's name stands for in the study."""
    _directions: dict[int, list[StudyDirection]] = field(default_factory=dict)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what the block writes, here and to our tables, in one transaction."""
        try:
            with self.database.write():
                yield
        except BaseException:
            self.forget()  # it is not stored
            raise

    def forget(self) -> None:
        """Read running trials anew, because others may have changed them."""
        self._own.clear()
        self._numbers.clear()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """See `BaseStorage`; the number is the count of trials before, as Optuna has it."""
        if template_trial is not None:
            return self.whole.create_new_trial(study_id, template_trial)
        of_study = _TRIALS.c.study_id == study_id
        started = datetime.now()
        with self.database.write() as connection:
            # Optuna's own processes take turns by the row of the study.
            study = select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == study_id)
            connection.execute(study.with_for_update()).one()
            number = select(func.count()).select_from(_TRIALS).where(of_study).scalar_subquery()
            row = insert(_TRIALS).values(
                number=number,
                study_id=study_id,
                state=TrialState.RUNNING,
                datetime_start=started,
            )
            made = connection.execute(row.returning(_TRIALS.c.trial_id, _TRIALS.c.number)).one()
        frozen = FrozenTrial(
            number=made.number,
            state=TrialState.RUNNING,
            value=None,
            values=None,
            datetime_start=started,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=made.trial_id,
        )
        self._own[made.trial_id] = _Own(frozen, is_new=True)
        self._numbers[study_id, made.number] = made.trial_id
        return int(made.trial_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """See `BaseStorage`; of a running trial of this process what is known here."""
        return _copied(self._running(trial_id).frozen)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """See `BaseStorage`."""
        frozen = self._updatable(trial_id)
        if param_name in frozen.params:
            return
        with self.database.write() as connection:
            known = self._distribution_of(connection, trial_id, param_name)
            if known is not None:
                check_distribution_compatibility(known, distribution)
            row = {
                "trial_id": trial_id,
                "param_name": param_name,
                "param_value": param_value_internal,
                "distribution_json": distribution_to_json(distribution),
            }
            connection.execute(insert(_PARAMS), row)
        self._distributions.setdefault(param_name, distribution)
        frozen.distributions[param_name] = distribution
        frozen.params[param_name] = distribution.to_external_repr(param_value_internal)

    def set_trial_attrs(
        self, trial_id: int, user: Mapping[str, Any], system: Mapping[str, Any]
    ) -> None:
        """Store attributes of a running trial together."""
        frozen = self._updatable(trial_id)
        may_be_stored = not self._own[trial_id].is_new
        with self.database.write() as connection:
            for stored, new, known in (
                (_USER_ATTRIBUTES, user, frozen.user_attrs),
                (_SYSTEM_ATTRIBUTES, system, frozen.system_attrs),
            ):
                old = [key for key in new if may_be_stored or key in known]
                if old:
                    of_trial = (stored.c.trial_id == trial_id, stored.c.key.in_(old))
                    connection.execute(delete(stored).where(*of_trial))
                rows = [
                    {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                    for key, value in new.items()
                ]
                if rows:
                    connection.execute(insert(stored), rows)
        frozen.user_attrs.update(user)
        frozen.system_attrs.update(system)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See `BaseStorage`."""
        self.set_trial_attrs(trial_id, {key: value}, {})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See `BaseStorage`."""
        self.set_trial_attrs(trial_id, {}, {key: value})

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """See `BaseStorage`."""
        return dict(self._running(trial_id).frozen.system_attrs)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """See `BaseStorage`."""
        expected = TrialState.WAITING if state == TrialState.RUNNING else TrialState.RUNNING
        now = datetime.now()
        times = {"datetime_complete": now} if state.is_finished() else {"datetime_start": now}
        of_trial = (_TRIALS.c.trial_id == trial_id, _TRIALS.c.state == expected)
        with self.database.write() as connection:
            changed = connection.execute(
                update(_TRIALS).where(*of_trial).values(state=state, **times)
            )
            if changed.rowcount == 0:
                self._own.pop(trial_id, None)
                if state == TrialState.RUNNING:
                    return False
                raise UpdateFinishedTrialError(f"Trial {trial_id} has finished.")
            rows = [
                {"trial_id": trial_id, "objective": objective}
                | dict(zip(("value", "value_type"), _stored(value), strict=True))
                for objective, value in enumerate(values or ())
            ]
            if rows:
                connection.execute(insert(_VALUES), rows)
        self._note_state(trial_id, state, list(values) if values else None, now)
        return True

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """See `BaseStorage`."""
        key = (study_id, trial_number)
        if key not in self._numbers:
            found = self.whole.get_trial_id_from_study_id_trial_number(study_id, trial_number)
            self._numbers[key] = found
        return self._numbers[key]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """See `BaseStorage`; whether any trial waits, each `Study.ask` wants to know."""
        if states == (TrialState.WAITING,):
            waiting = (_TRIALS.c.study_id == study_id, _TRIALS.c.state == TrialState.WAITING)
            with self.database.read() as connection:
                first = connection.execute(select(_TRIALS.c.trial_id).where(*waiting).limit(1))
                if first.first() is None:
                    return []
        return self.whole.get_all_trials(study_id, deepcopy, states)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """See `BaseStorage`; they never change."""
        if study_id not in self._directions:
            self._directions[study_id] = self.whole.get_study_directions(study_id)
        return self._directions[study_id]

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """See `BaseStorage`."""
        return self.whole.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """See `BaseStorage`."""
        self.whole.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """See `BaseStorage`."""
        self.whole.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """See `BaseStorage`."""
        self.whole.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """See `BaseStorage`."""
        if study_name not in self._study_ids:
            self._study_ids[study_name] = self.whole.get_study_id_from_name(study_name)
        return self._study_ids[study_name]

    def get_study_name_from_id(self, study_id: int) -> str:
        """See `BaseStorage`."""
        return self.whole.get_study_name_from_id(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See `BaseStorage`."""
        return self.whole.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See `BaseStorage`."""
        return self.whole.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        """See `BaseStorage`."""
        return self.whole.get_all_studies()

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """See `BaseStorage`."""
        self.whole.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def remove_session(self) -> None:
        """See `BaseStorage`."""
        self.whole.remove_session()

    def close(self) -> None:
        """Close the connections of Optuna's own storage."""
        self.whole.close()

    def _running(self, trial_id: int) -> _Own:
        """Yield what is known of a trial, reading it if nothing is; running ones are kept."""
        known = self._own.get(trial_id)
        if known is None:
            known = _Own(self.whole.get_trial(trial_id))
            if known.frozen.state == TrialState.RUNNING:
                self._own[trial_id] = known
        return known

    def _note_state(
        self, trial_id: int, state: TrialState, values: list[float] | None, now: datetime
    ) -> None:
        """Keep what `set_trial_state_values` has stored; of ended trials the last is enough."""
        known = self._own.pop(trial_id, None)
        if known is not None and state.is_finished():
            known.frozen.state, known.frozen.datetime_complete = state, now
            known.frozen.values = values
            self._own = {trial_id: known}

    def _updatable(self, trial_id: int) -> FrozenTrial:
        frozen = self._running(trial_id).frozen
        self.check_trial_is_updatable(trial_id, frozen.state)
        return frozen

    def _distribution_of(
        self, connection: Connection, trial_id: int, name: str
    ) -> BaseDistribution | None:
        """Yield what other trials of the study take a parameter's name for, if any does."""
        if name not in self._distributions:
            study = select(_TRIALS.c.study_id).where(_TRIALS.c.trial_id == trial_id)
            query = select(_PARAMS.c.distribution_json).join(
                _TRIALS, _TRIALS.c.trial_id == _PARAMS.c.trial_id
            )
            named = (_PARAMS.c.param_name == name, _TRIALS.c.study_id == study.scalar_subquery())
            stored = connection.execute(query.where(*named).limit(1)).scalar()
            if stored is None:
                return None
            self._distributions[name] = json_to_distribution(stored)
        return self._distributions[name]


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """Yield a trial that may be changed."""
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=dict(trial.params),
        distributions=dict(trial.distributions),
        user_attrs=dict(trial.user_attrs),
        system_attrs=dict(trial.system_attrs),
        intermediate_values=dict(trial.intermediate_values),
        trial_id=trial._trial_id,
    )


def _stored(value: float) -> tuple[float | None, Any]:
    return models.TrialValueModel.value_to_stored_repr(value)
