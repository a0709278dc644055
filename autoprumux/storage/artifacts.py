"""Files of studies and trials as Optuna artifacts: in a folder, or in an S3-compatible store.

Optuna keeps name and identifier of an artifact in its attributes and the file under that
identifier. It has no way to replace one, so a file that is attached again takes the place of the
one with its name.
"""

import json
import mimetypes
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from autoprumux.errors import StorageError, UsageError
from autoprumux.leftovers import scratch_folder
from autoprumux.storage.database import Database
from autoprumux.storage.model_files import MODEL_NAME, unpack_model
from autoprumux.storage.s3 import SCHEME, S3Store

if TYPE_CHECKING:
    from autoprumux.storage.optuna_storage import ClosingStorage
    from autoprumux.storage.search_storage import SearchStorage

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


class Store(Protocol):
    """Optuna's artifact store, as optuna-dashboard takes it."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact for reading."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact, in place of an earlier one."""

    def remove(self, artifact_id: str) -> None:
        """Delete an artifact."""


def open_artifacts(
    place: Path | str | None,
    database: Database,
    storage: "ClosingStorage | SearchStorage",
    tell: Callable[[str], None],
) -> "Artifacts | None":
    """Open the place that was asked for, or the folder beside the database if that is possible.

    Args:
        place: A folder or `s3://BUCKET/PREFIX`; None means the folder beside an SQLite file.
        database: Whose files they are.
        storage: Optuna's, of the same database.
        tell: Told why there is none.

    Raises:
        UsageError: If the place that was asked for cannot be used.
    """
    if place is not None:
        return Artifacts(place, storage, keeps_models=True)
    beside = default_artifact_folder(database)
    if beside is None:
        tell("beside a database server they need a place, `--artifacts`")
        return None
    try:
        return Artifacts(beside, storage)
    except UsageError as error:
        tell(str(error))
        return None


class FolderStore:
    """Optuna's store in a folder that may come from a stranger: names and links stay in it."""

    def __init__(self, folder: Path) -> None:
        from optuna.artifacts import FileSystemArtifactStore

        self._folder, self._store = folder, FileSystemArtifactStore(folder)

    def open_reader(self, artifact_id: str) -> "BinaryIO":
        """See Optuna's `ArtifactStore`; what is no plain file is not there.

        Raises:
            ArtifactNotFound: If there is no such file.
        """
        from optuna.artifacts.exceptions import ArtifactNotFound

        if not self._is_plain(artifact_id):
            raise ArtifactNotFound("not found")
        return self._store.open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: "BinaryIO") -> None:
        """See Optuna's `ArtifactStore`.

        Raises:
            StorageError: If the place is taken by a link or anything else that is no file.
        """
        place = self._folder / artifact_id
        is_free = _IDENTIFIER.fullmatch(artifact_id) and not place.is_symlink()
        if not is_free or (place.exists() and not place.is_file()):
            raise StorageError(
                f"`{place}` is no plain file, and nothing is written to it; remove it, or name "
                "another folder with `--artifacts`."
            )
        self._store.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """See Optuna's `ArtifactStore`.

        Raises:
            ArtifactNotFound: If there is no such file.
        """
        from optuna.artifacts.exceptions import ArtifactNotFound

        if not self._is_plain(artifact_id):
            raise ArtifactNotFound("not found")
        self._store.remove(artifact_id)

    def _is_plain(self, artifact_id: str) -> bool:
        place = self._folder / artifact_id
        is_ours = _IDENTIFIER.fullmatch(artifact_id) is not None
        return is_ours and not place.is_symlink() and place.is_file()


class Artifacts:
    """The artifacts of one database in one place."""

    def __init__(
        self,
        place: Path | str,
        storage: "ClosingStorage | SearchStorage",
        *,
        keeps_models: bool = False,
    ) -> None:
        """Open a store, or make a folder if it is not there.

        Args:
            place: A folder or `s3://BUCKET/PREFIX`.
            storage: Optuna's.
            keeps_models: True for a place that was asked for: others may read it. In the folder
                beside the database, models would only lie on the same disk twice.

        Raises:
            UsageError: If `place` cannot be used.
        """
        self._storage = storage
        self.keeps_models = keeps_models
        self.store: Store = _open_store(place)

    def attach_to_study(self, study_id: int, file: Path) -> None:
        """Attach a copy of `file`, in place of the study's artifact of that name."""
        for key, meta in self._store(self._storage.get_study_system_attrs(study_id), [file]):
            self._storage.set_study_system_attr(study_id, key, meta)

    def attach_to_trial(self, trial_id: int, files: Sequence[Path]) -> None:
        """Attach copies of `files` to a running trial, in place of its artifacts of these names.

        Raises:
            StorageError: If the store does not take one; those before it are kept.
        """
        new = {}
        try:
            for key, meta in self._store(self._storage.get_trial_system_attrs(trial_id), files):
                new[key] = meta
        finally:
            self._storage.set_trial_attrs(trial_id, {}, new)

    def fetch_model(self, trial_id: int, parent: Path) -> Path | None:
        """Copy the model of a trial from the store into a folder of its own under `parent`.

        Returns:
            The folder, which may be there from an earlier call; None if none is stored.

        Raises:
            StorageError: If the store does not answer, or what it holds is no model.
        """
        from optuna.artifacts.exceptions import ArtifactNotFound

        identifier = _identifier(self._storage.get_trial_system_attrs(trial_id), MODEL_NAME)
        if identifier is None or (parent / identifier).is_dir():
            return None if identifier is None else parent / identifier
        parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(parent) as folder:
            file, model = folder / MODEL_NAME, folder / "model"
            model.mkdir()
            try:
                with self.store.open_reader(identifier) as source, file.open("wb") as target:
                    shutil.copyfileobj(source, target)
            except ArtifactNotFound:
                return None
            unpack_model(file, model)
            with suppress(FileExistsError):  # another process was as fast
                model.rename(parent / identifier)
        return parent / identifier

    def _store(
        self, attributes: Mapping[str, Any], files: Sequence[Path]
    ) -> Iterator[tuple[str, str]]:
        """Store files; yield the attribute by which Optuna knows each that is new.

        `optuna.artifacts.upload_artifact` names a file first, and what then cannot be stored
        stays named.
        """
        for file in files:
            known = _identifier(attributes, file.name)
            identifier = known or str(uuid.uuid4())
            with file.open("rb") as content:
                self.store.write(identifier, content)
            if known is None:
                kind, encoding = mimetypes.guess_type(file.name)
                meta = {
                    "artifact_id": identifier,
                    "filename": file.name,
                    "mimetype": kind or "application/octet-stream",
                    "encoding": encoding,
                }
                yield _PREFIX + identifier, json.dumps(meta)


def _open_store(place: Path | str) -> Store:
    if isinstance(place, str) and place.startswith(SCHEME):
        return S3Store(place)
    folder = Path(place)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(
            f"`--artifacts` {folder} cannot be used as a folder: {reason}."
        ) from error
    return FolderStore(folder)


def _identifier(attributes: Mapping[str, object], name: str) -> str | None:
    """Yield the identifier of the artifact of this name, if there is one."""
    for key, value in attributes.items():
        if not key.startswith(_PREFIX) or not isinstance(value, str):
            continue
        try:
            meta = json.loads(value)
        except (ValueError, RecursionError):  # not what Optuna writes
            continue
        # optuna-dashboard leaves `null` where somebody deleted an artifact.
        if isinstance(meta, dict) and meta.get("filename") == name:
            identifier = str(meta.get("artifact_id"))
            if _IDENTIFIER.fullmatch(identifier):
                return identifier
    return None
