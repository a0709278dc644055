"""Weights under the names of another project, taken one by one; what is left over is a fault."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.errors import CheckpointError

NUM_SHOWN = 3
"""Names of each kind in a message; the notes of the exception have all."""


class NamedWeights:
    """Weights of a checkpoint and a record of what has been taken.

    Faults are collected, so that one message names them all.

    Args:
        tensors: Weights by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        self._left = set(tensors)
        self._missing: list[str] = []
        self._unfit: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self, prefix: str) -> list[str]:
        """Yield the names that begin with `prefix`."""
        return [name for name in self._tensors if name.startswith(prefix)]

    def size(self, name: str) -> tuple[int, ...]:
        """Yield the size of a weight, without taking it; empty if it is missing."""
        return tuple(self._tensors[name].shape) if name in self._tensors else ()

    def take(self, name: str, *size: int) -> Tensor:
        """Yield a weight as float32; zeros, and a fault, if it is missing or of another size."""
        self._left.discard(name)
        tensor = self._tensors.get(name)
        if tensor is None:
            self._missing.append(name)
        elif tuple(tensor.shape) != size:
            self._unfit.append(f"{name} {tuple(tensor.shape)} for {size}")
        else:
            return tensor.float()
        return torch.zeros(size)

    def take_pair(self, name: str, *size: int) -> dict[str, Tensor]:
        """Yield `weight` of `size` and `bias` of its first dimension, as `take` does."""
        return {
            "weight": self.take(f"{name}.weight", *size),
            "bias": self.take(f"{name}.bias", size[0]),
        }

    def ignore(self, *prefixes: str) -> None:
        """Leave aside what begins with a prefix: no model here has a use for it."""
        self._left = {name for name in self._left if not name.startswith(prefixes)}

    def check(self, origin: str, kind: str) -> None:
        """Refuse weights that do not fit.

        Args:
            origin: Where they come from.
            kind: What they were read as.

        Raises:
            CheckpointError: If one was missing, of another size, or not taken. The message names
                the first of each kind; notes of the exception, which tracebacks show, name all.
        """
        found = {
            "missing": self._missing,
            "unexpected": sorted(self._left),
            "of another size": self._unfit,
        }
        faults = [
            f"{len(names)} {fault} ({_some(names)})" for fault, names in found.items() if names
        ]
        if faults:
            error = CheckpointError(
                f"The weights in `{origin}` do not fit its config of a {kind} model: "
                f"{'; '.join(faults)}."
            )
            for fault, names in found.items():
                if len(names) > NUM_SHOWN:
                    error.add_note(f"{fault}: {', '.join(names)}")
            raise error


def _some(names: list[str]) -> str:
    more = ["..."] if len(names) > NUM_SHOWN else []
    return ", ".join([*names[:NUM_SHOWN], *more])
