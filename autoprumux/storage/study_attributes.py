"""Optuna's system attributes of a study, many at once.

Optuna's own ways read all attributes or change one of them in a transaction of its own, which
takes minutes where thousands of them change.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import bindparam, column, delete, select, table, text

from autoprumux.storage.optuna_storage import ClosingStorage

_STORED = table("study_system_attributes", column("study_id"), column("key"), column("value_json"))
_TRIALS = table("trials", column("trial_id"), column("study_id"), column("number"))
_PUT = text(
    "INSERT INTO study_system_attributes (study_id, key, value_json) "
    "VALUES (:study_id, :key, :value_json) "
    "ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json"
)


def read_study_attributes(storage: ClosingStorage, study_id: int, prefix: str) -> dict[str, Any]:
    """Yield the attributes of a study whose keys start with `prefix`."""
    wanted = select(_STORED.c.key, _STORED.c.value_json).where(
        _STORED.c.study_id == study_id, _STORED.c.key.startswith(prefix, autoescape=True)
    )
    with storage.engine.connect() as connection:
        return {key: json.loads(value) for key, value in connection.execute(wanted)}


def change_study_attributes(
    storage: ClosingStorage, study_id: int, changed: Mapping[str, Any], gone: Collection[str]
) -> None:
    """Set and delete attributes of a study in one transaction."""
    if not changed and not gone:
        return
    removal = delete(_STORED).where(
        _STORED.c.study_id == study_id, _STORED.c.key == bindparam("gone")
    )
    with storage.engine.begin() as connection:
        if changed:
            rows = [
                {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
                for key, value in changed.items()
            ]
            connection.execute(_PUT, rows)
        if gone:
            connection.execute(removal, [{"gone": key} for key in gone])


def trial_identifiers(storage: ClosingStorage, study_id: int) -> dict[int, int]:
    """Yield Optuna's identifiers of a study's trials by their numbers."""
    wanted = select(_TRIALS.c.number, _TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id)
    with storage.engine.connect() as connection:
        return {number: trial_id for number, trial_id in connection.execute(wanted)}
