"""Several processes that train one trial together, started by `torchrun` or `accelerate launch`.

The first process leads: it alone reads and writes databases, writes files, chooses and measures.
The others wait for what it tells them and take their share of every batch.

Whatever happens to one must reach all, or the rest would wait for ever. So processes meet in one
way only: each says something, a value or that it failed, and hears what all others said. Whoever
fails tells so at the next meeting, whatever that is about, and then every process raises. Sums of
gradients follow directly upon a meeting in which nobody had failed.

Meetings have a channel of their own (gloo), because the others wait there for hours while the
first one chooses, measures or waits for other workers; gradients go through the `Accelerator`.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trainers import errors
from trainers.errors import ConfigError, LostProcessError, OutOfMemoryError, TrainerError

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=365)
"""What a process may wait for another to come to a meeting; a dead one is noticed at once."""
BUCKET_SIZE = 1 << 24
"""Numbers that are summed over processes at once: 64 MiB, which the network never notices."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in a process, as the others hear it."""

    rank: int
    kind: str
    """Name of the exception's class."""
    message: str
    is_out_of_memory: bool

    @classmethod
    def of(cls, error: BaseException, rank: int) -> "Failure":
        """Describe an exception of the process `rank`."""
        return cls(rank, type(error).__name__, str(error), is_out_of_memory(error))


class OtherProcessError(Exception):
    """Another process failed; `failures` are all that were told at that meeting."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(", ".join(f"process {f.rank}: {f.kind}" for f in failures))
        self.failures = tuple(failures)

    @property
    def is_out_of_memory(self) -> bool:
        """True if memory is all that was missing."""
        return all(failure.is_out_of_memory for failure in self.failures)

    def as_own(self) -> Exception:
        """Yield the exception as if it had been raised here."""
        # A missing byte has a remedy, so anything else is told first.
        first = min(self.failures, key=lambda failure: (failure.is_out_of_memory, failure.rank))
        text = f"{first.message} (process {first.rank})"
        if first.is_out_of_memory:
            return OutOfMemoryError(text)
        known = getattr(errors, first.kind, None)
        if isinstance(known, type) and issubclass(known, TrainerError):
            return known(text)
        return RuntimeError(f"process {first.rank} failed with {first.kind}: {first.message}")


class Processes:
    """The processes of one launch and this one's place among them."""

    def __init__(self, rank: int = 0, count: int = 1, control: Any = None) -> None:
        self.rank, self.count = rank, count
        self._control = control
        self._accelerator: Accelerator | None = None

    @property
    def is_first(self) -> bool:
        """True for the process that leads, and for one that is alone."""
        return self.rank == 0

    def exchange(self, value: T) -> list[T]:
        """Yield what every process said, in the order of their ranks.

        Raises:
            OtherProcessError: If another one failed instead.
            LostProcessError: If another one is gone.
        """
        if self.count == 1:
            return [value]
        failures, values = self._meet(value)
        if failures:
            raise OtherProcessError(failures)
        return values

    def tell(self, value: T) -> T:
        """Yield what the first process says; see `exchange`."""
        return self.exchange(value)[0]

    def agree(self, error: BaseException) -> tuple[Failure, ...]:
        """Tell the others that this one failed, unless `error` says they know; yield all failures.

        Raises:
            LostProcessError: If another one is gone.
        """
        if isinstance(error, OtherProcessError):
            return error.failures
        own = Failure.of(error, self.rank)
        if self.count == 1 or _is_known(error):
            return (own,)
        setattr(error, _TOLD, True)  # no reference to it: its frames hold what memory has
        failures, _ = self._meet(own)
        return tuple(failures)

    @contextmanager
    def task(self) -> Iterator[None]:
        """Do something in all processes; what goes wrong in one is raised in each of them.

        Raises:
            TrainerError: If another process met that, as if it had been met here.
            RuntimeError: If another process failed in a way that nobody expected.
        """
        try:
            yield
            self.exchange(None)  # nobody is left behind
        except OtherProcessError as error:
            raise error.as_own() from error
        except BaseException as error:
            self.agree(error)
            raise

    def place(self, device: torch.device) -> torch.device:
        """Yield this process's own device of a kind, and sum gradients there from now on.

        Raises:
            ConfigError: If this machine has fewer devices than processes.
        """
        if self.count == 1:
            return device
        num_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if device.type == "cuda" and num_here > torch.cuda.device_count():
            raise ConfigError(
                f"{num_here} processes were started on this machine, which has "
                f"{torch.cuda.device_count()} GPUs; start one for each, or use `device` = `cpu`."
            )
        from accelerate import Accelerator  # takes a second, and one process does without

        self._accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
        return self._accelerator.device

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their sums over all processes, the same bits in each.

        Raises:
            OtherProcessError: If another one failed instead.
            LostProcessError: If another process is gone.
        """
        if self.count == 1:
            return
        buckets = list(_buckets(tensors))
        largest = max(sum(tensor.numel() for tensor in bucket) for bucket in buckets)
        # What the sum needs is had before the meeting: after it nobody may fail alone.
        reserve = torch.empty(3 * largest, device=tensors[0].device)
        del reserve
        with _uninterrupted():
            self.exchange(None)
            with _lost_as_error():
                for bucket in buckets:
                    self._add_up(bucket)

    def leave(self) -> None:
        """End the connections between the processes."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _add_up(self, bucket: Sequence[Tensor]) -> None:
        assert self._accelerator is not None
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        total = self._accelerator.reduce(flat, reduction="sum")
        sizes = [tensor.numel() for tensor in bucket]
        for tensor, part in zip(bucket, total.split(sizes), strict=True):
            tensor.copy_(part.view_as(tensor))

    def _meet(self, value: object) -> tuple[list[Failure], list[Any]]:
        said: list[Any] = [None] * self.count
        with _uninterrupted(), _lost_as_error():
            dist.all_gather_object(said, value, group=self._control)
        return [word for word in said if isinstance(word, Failure)], said


ALONE = Processes()
"""One process, as without a launcher."""


def join() -> Processes:
    """Connect this process with the others of its launch; yield `ALONE` if there are none.

    Raises:
        LostProcessError: If the others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    with _lost_as_error():
        if not dist.is_initialized():
            has_cuda = torch.cuda.is_available()
            dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo")
        control = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    return Processes(dist.get_rank(), dist.get_world_size(), control)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an exception says that the device or the machine has no memory left."""
    if isinstance(error, OtherProcessError):
        return error.is_out_of_memory
    if isinstance(error, (MemoryError, torch.OutOfMemoryError, OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


_TOLD = "is_told_to_all_processes"


def _is_known(error: BaseException | None) -> bool:
    """True if all processes know of an error, or of what it was raised from."""
    if error is None:
        return False
    is_met = isinstance(error, (OtherProcessError, LostProcessError))
    return is_met or hasattr(error, _TOLD) or _is_known(error.__cause__)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield neighbours that are small enough together; a large tensor is alone."""
    bucket, size = list[Tensor](), 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET_SIZE:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


@contextmanager
def _lost_as_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that torch raises about connections is one
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LostProcessError(
            "Another process of this launch is gone, so that none can go on; start the same "
            f"command again ({reason})."
        ) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: half a meeting would leave the others waiting."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield  # nothing is raised here
        return
    caught = list[tuple[int, FrameType | None]]()
    signal.signal(signal.SIGINT, lambda *received: caught.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        handler(*caught[-1])
