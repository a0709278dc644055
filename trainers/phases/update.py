"""The gradients of one update: a batch in parts and over processes, as if it went through at once.

Every process draws the whole batch with all its random numbers (groups, masks, slots), and its
share of the groups goes through the model, in parts if memory is short. A loss that is a mean
counts with its part of what the whole batch averages over, so that the parts' losses and
gradients add up to those of the batch, whoever computes them. Dropout alone differs.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainers.errors import ConfigError, OutOfMemoryError
from trainers.phases.precision import Precision
from trainers.processes import Processes, is_out_of_memory

Losses = Callable[[slice], Mapping[str, Tensor]]
"""Yields for some groups of a drawn batch their part of its losses; `loss` is differentiated."""

RANK_SEED_STEP = 1_000_000_007
"""Between the seeds of dropout of two processes; no seed of a phase comes near it."""


def share(part: Tensor, whole: Tensor) -> float:
    """Yield which part of the true places of `whole` is in `part`; none of none is none."""
    return int(part.sum()) / max(1, int(whole.sum()))


class MicroBatches:
    """How a phase takes its batches through the model; remembers what memory allowed."""

    def __init__(self) -> None:
        self.num_halvings = 0

    def sum_gradients(
        self,
        precision: Precision,
        optimizers: Mapping[str, Optimizer],
        num_groups: int,
        draw: Callable[[], Losses],
    ) -> dict[str, Tensor]:
        """Yield the losses of a whole batch and leave its gradients in the parameters.

        A batch that does not fit in memory is drawn again and goes through in twice as many
        parts, in all processes alike, and so do those after it.

        Args:
            precision: Parts to begin with, and the processes that share the batch.
            optimizers: What they train gets the gradients.
            num_groups: B of the whole batch.
            draw: Draws the batch of this update, the same whenever and wherever it is called
                with the global generator in the same state.

        Returns:
            Losses by name, and `num_parts` if memory asked for more than was configured.

        Raises:
            OutOfMemoryError: If not even single groups fit.
            ConfigError: If there are fewer groups than processes.
            OtherProcessError: If another process failed.
        """
        processes = precision.processes
        most = num_groups // processes.count
        if most == 0:
            raise ConfigError(
                f"A batch has {num_groups} groups, which {processes.count} processes cannot "
                "share; raise `batch_size` or `max_sequences`, or start fewer processes."
            )
        parameters = _trained(optimizers)
        seed = torch.initial_seed()
        while True:
            num_parts = min(most, precision.num_parts << self.num_halvings)
            try:
                totals = _attempt(
                    processes, parameters, _rows(processes, num_groups, num_parts), draw
                )
            except Exception as error:
                _require_memory(error, processes)
                if num_parts == most:
                    raise OutOfMemoryError(
                        "The device ran out of memory with one group of a batch at a time; use a "
                        "smaller `data.max_length` or a smaller model."
                    ) from error
            else:
                if self.num_halvings > 0:
                    totals["num_parts"] = torch.tensor(float(num_parts))
                return totals
            self._halve(parameters)
            torch.manual_seed(seed)

    def _halve(self, parameters: list[Tensor]) -> None:
        self.num_halvings += 1
        for parameter in parameters:
            parameter.grad = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _trained(optimizers: Mapping[str, Optimizer]) -> list[Tensor]:
    """Yield all parameters that get a gradient of the loss."""
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    return [parameter for group in groups for parameter in group["params"]]


def _rows(processes: Processes, num_groups: int, num_parts: int) -> list[slice]:
    """Yield the groups of this process, in parts; all processes have the same number of parts."""
    own = np.array_split(np.arange(num_groups), processes.count)[processes.rank]
    return [slice(int(part[0]), int(part[-1]) + 1) for part in np.array_split(own, num_parts)]


def _attempt(
    processes: Processes, parameters: list[Tensor], parts: list[slice], draw: Callable[[], Losses]
) -> dict[str, Tensor]:
    losses = draw()
    if not processes.is_first:  # the first goes on as if it were alone; all drew the same so far
        torch.manual_seed(torch.initial_seed() + processes.rank * RANK_SEED_STEP)
    totals = dict[str, Tensor]()
    for rows in parts:
        values = losses(rows)
        values["loss"].backward()
        for name, value in values.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach()
    _add_up(processes, parameters, totals)
    return totals


def _add_up(processes: Processes, parameters: list[Tensor], totals: dict[str, Tensor]) -> None:
    """Sum gradients and losses over processes; what has no gradient anywhere gets none."""
    if processes.count == 1:
        return
    device = next(iter(totals.values())).device
    has_gradient = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    values = torch.stack([value.float() for value in totals.values()])
    gradients = [p.grad for p in parameters if p.grad is not None]
    processes.add_up([*gradients, has_gradient, values])
    totals.update(zip(totals, values.unbind(), strict=True))
    for parameter, count in zip(parameters, has_gradient.tolist(), strict=True):
        if count == 0:
            parameter.grad = None


def _require_memory(error: Exception, processes: Processes) -> None:
    """Raise `error` again, unless memory is all that any process was missing."""
    failures = processes.agree(error)
    if is_out_of_memory(error) and all(failure.is_out_of_memory for failure in failures):
        return
    raise error
