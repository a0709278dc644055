"""Several processes of one launch (`torchrun`, `accelerate launch`) that work on one search.

Nothing heavy is imported unless there are several.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from autoprumux.errors import UsageError

if TYPE_CHECKING:
    from trainers.processes import Processes

T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """This process among those that a launcher started, by the variables it sets."""

    rank: int
    local_rank: int
    """Among those of this machine."""
    count: int

    @property
    def is_first(self) -> bool:
        """True for the process that searches and prints, and for one that is alone."""
        return self.rank == 0


def launch() -> Launch:
    """Yield this process's place in its launch; alone unless a launcher has set all variables.

    Raises:
        UsageError: If one of them is no number.
    """
    if not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Launch(0, 0, 1)
    return Launch(_number("RANK"), _number("LOCAL_RANK"), _number("WORLD_SIZE"))


def _number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise UsageError(
            f"The variable `{name}` is {value!r} and should be a number, 0 or more; unset it, or "
            "start the command with `torchrun` or `accelerate launch`."
        )
    return int(value)


def together(lead: "Callable[[Processes | None], T]") -> T:
    """Run `lead` in the first process while the others help it; all yield what it yields.

    Args:
        lead: Does the work; gets the processes to train with, None if there is but this one.

    Raises:
        LostProcessError: If a process is gone.
        DismissedError: In the others, if `lead` raised something.
    """
    if launch().count == 1:
        return lead(None)
    from autoprumux.evaluators.together import lead_or_help

    return lead_or_help(lead)
