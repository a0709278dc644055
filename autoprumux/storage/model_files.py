"""A model directory as one file, so that it can be one artifact.

What comes back from a store is not trusted: only plain names of known kinds are written, and none
that holds code.
"""

import zipfile
from pathlib import Path, PurePosixPath

from autoprumux.errors import StorageError

MODEL_NAME = "model.zip"
"""Artifact of a measured trial."""

_KINDS = frozenset({".json", ".safetensors", ".txt"})
_BLOCK = 1 << 20


def pack_model(directory: Path, file: Path) -> Path:
    """Write the files of a model directory to `file`; weights don't compress, so nothing is."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(directory.iterdir()):
            if path.is_file() and path.suffix in _KINDS:
                archive.write(path, path.name)
    return file


def unpack_model(file: Path, directory: Path) -> None:
    """Write what `pack_model` packed into an empty directory.

    Raises:
        StorageError: If `file` is damaged or holds what no model directory does.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                name = PurePosixPath(entry.filename)
                is_plain = entry.filename == name.name and name.suffix in _KINDS
                if not is_plain or entry.compress_type != zipfile.ZIP_STORED:
                    raise StorageError(
                        f"The stored model holds {entry.filename!r}, which belongs to no model."
                    )
                with archive.open(entry) as source, (directory / name.name).open("wb") as target:
                    while block := source.read(_BLOCK):
                        target.write(block)
    except zipfile.BadZipFile as error:
        raise StorageError(f"The stored model is damaged: {error}.") from error
