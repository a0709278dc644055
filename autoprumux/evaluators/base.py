"""The interface of evaluators."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from autoprumux.records import Candidate, Measurement
from autoprumux.timing import TimingSetting

Report = Callable[[str, float, int], None]
"""`report(name, value, step)`. Names are `PHASE/VALUE`: `finetune/loss`, `prune/sparsity`,
`finetune/held_out_accuracy`; `PHASE/total` announces a phase with `value` = its number of updates
and `step` = the updates already done (after a resume); `PHASE/step` ticks with updates done."""


class Evaluator(Protocol):
    """Turns a candidate into a measurement."""

    @property
    def data_fingerprint(self) -> str:
        """Name of the exact examples; starts with `builtin:` for built-in data."""

    def check(self) -> None:
        """Load data, tokenizer and checkpoint headers, so that mistakes show before any training.

        Raises:
            InputError: If data, checkpoint or configuration are at fault.
        """

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        """Train and measure `candidate`, or take up where a killed process stopped.

        Raises:
            InputError: If every trial would fail.
            TrialError: If this one did; its `cause` is stored.
        """

    def cached_widths(self) -> frozenset[int]:
        """Widths N whose fine-tuned starting point need not be trained again (phases 1-3 done)."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What a repeated trial does differently from the study's recipe."""

    text: str
    """In a few words, for the database."""
    num_parts: int = 1
    """Parts that each batch goes through the model in; the gradients are summed."""
    learning_rate_share: float = 1.0
    """Share of every phase's learning rate."""


@runtime_checkable
class Remediable(Protocol):
    """An evaluator whose failed trials are worth a repetition with something changed."""

    def with_remedy(self, remedy: Remedy) -> Self:
        """Yield an evaluator that applies `remedy` and otherwise does the same."""


@runtime_checkable
class Clock(Protocol):
    """An evaluator that knows, before it trains, in which setting it will time."""

    def timing(self) -> TimingSetting:
        """Yield the setting, once `check` has passed."""
