"""Whether files are still what was written: disks and crashes damage them without a word."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor


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


def tensors_checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Yield the SHA-256 of a text and of tensors, whatever their order.

    Args:
        tensors: On the CPU; names count, and shapes, dtypes and contents.
        text: What is kept beside them.
    """
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
