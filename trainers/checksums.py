"""Whether files are still what was written: disks and crashes damage them without a word."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def checksums(files: Iterable[Path]) -> dict[str, str]:
    """Yield the SHA-256 of each file by its name."""
    return {path.name: _checksum(path) for path in sorted(files)}


def damaged(directory: Path, expected: Mapping[str, str]) -> list[str]:
    """Yield the names of the files that are gone, cannot be read or hold something else."""
    found = []
    for name, checksum in expected.items():
        try:
            is_same = _checksum(directory / name) == checksum
        except OSError:
            is_same = False
        if not is_same:
            found.append(name)
    return found


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
