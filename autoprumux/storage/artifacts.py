"""Files of studies and trials as Optuna artifacts, in a folder beside the database.

Optuna keeps name and identifier of an artifact in its attributes and the file under that
identifier. It has no way to replace one, so a file that is attached again takes the place of the
one with its name.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.errors import UsageError
from autoprumux.storage.database import Database

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_PREFIX = "artifacts:"
"""Of the attributes in which `optuna.artifacts.upload_artifact` keeps what it stored."""
_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What Optuna makes; another text from the database never becomes the name of a file."""


def default_artifact_folder(database: Database) -> Path | None:
    """Yield the folder beside an SQLite file, or None for a database server, which has none."""
    url = database.engine.url
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    file = Path(url.database)
    return file.with_name(f"{file.name}-artifacts")


class Artifacts:
    """The artifacts of one database in one folder."""

    def __init__(self, folder: Path, storage: "BaseStorage") -> None:
        """Make the folder if it is not there.

        Raises:
            UsageError: If `folder` cannot be a folder.
        """
        from optuna.artifacts import FileSystemArtifactStore

        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UsageError(
                f"`--artifacts` {folder} cannot be used as a folder: {reason}."
            ) from error
        self._storage = storage
        self.store: FileSystemArtifactStore = FileSystemArtifactStore(folder)
        """Optuna's store, as optuna-dashboard takes it."""

    def attach_to_study(self, study: "Study", study_id: int, file: Path) -> None:
        """Attach a copy of `file`, in place of the study's artifact of that name."""
        self._attach(study, self._storage.get_study_system_attrs(study_id), file)

    def attach_to_trial(self, trial_id: int, file: Path) -> None:
        """Attach a copy of `file` to a running trial, in place of its artifact of that name.

        Raises:
            optuna.exceptions.UpdateFinishedTrialError: If the trial has ended.
        """
        trial = self._storage.get_trial(trial_id)
        self._attach(trial, self._storage.get_trial_system_attrs(trial_id), file)

    def _attach(
        self, owner: "Study | FrozenTrial", attributes: dict[str, object], file: Path
    ) -> None:
        from optuna.artifacts import upload_artifact

        identifier = _identifier(attributes, file.name)
        if identifier is None:
            upload_artifact(
                artifact_store=self.store,
                file_path=str(file),
                study_or_trial=owner,
                storage=self._storage,
            )
            return
        with file.open("rb") as content:
            self.store.write(identifier, content)


def _identifier(attributes: dict[str, object], name: str) -> str | None:
    """Yield the identifier of the artifact of this name, if there is one."""
    for key, value in attributes.items():
        if not key.startswith(_PREFIX) or not isinstance(value, str):
            continue
        meta = json.loads(value)
        # optuna-dashboard leaves `null` where somebody deleted an artifact.
        if isinstance(meta, dict) and meta.get("filename") == name:
            identifier = str(meta.get("artifact_id"))
            if _IDENTIFIER.fullmatch(identifier):
                return identifier
    return None
