"""What teachers tell of a batch: each sequence alone (N = 1), or groups as the student reads them.

Symbols: `B` groups, `N` instances, `T` tokens, `D` hidden size, `C` classes, `n` examples.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainers.data.encoding import Encoded
from trainers.measure.accuracy import predict_logits
from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.phases.losses import masked_mse
from trainers.phases.precision import Precision
from trainers.phases.update import share


@dataclass(frozen=True)
class Lesson:
    """What the teachers tell of a batch."""

    logits: Tensor
    """`(B, N, C)`."""
    layers: list[Tensor] | None = None
    """States `(B, P + T, D)` of all layers of the teacher of the same N, if asked for."""
    last_states: Tensor | None = None
    """Last states `(B, N, T, D)` of the N = 1 teacher, if asked for."""


@dataclass(frozen=True)
class TeacherModels:
    """Fine-tuned models, at least one."""

    same_width: MuxedBert | None
    """Model of the student's N; it reads the student's groups."""
    plain: MuxedBert | None = None
    """N = 1 model, which reads their sequences one by one."""


class Teachers:
    """Fine-tuned models that never change, and what is asked of them.

    Args:
        models: Who teaches; the logits are those of the N = 1 model if there are both.
        wants_layers: Whether the states of all layers of `same_width` are asked for.
        wants_states: Whether the last states of `plain` are asked for.
        examples: What batches are drawn from.
        num_read: Sequences that all updates together read.
        precision: Autocast for the logits that are computed once.
    """

    def __init__(
        self,
        models: TeacherModels,
        *,
        wants_layers: bool,
        wants_states: bool,
        examples: Encoded,
        num_read: int,
        precision: Precision,
    ) -> None:
        self.same_width, self.plain = models.same_width, models.plain
        for model in (self.same_width, self.plain):
            if model is not None:
                model.eval()
        self.wants_layers = wants_layers and self.same_width is not None
        self.wants_states = wants_states and self.plain is not None
        self.examples, self.precision = examples, precision
        # Logits of an N = 1 teacher depend on no grouping: computed once if they will be used.
        self.asks_once = (
            self.plain is not None and not self.wants_states and num_read >= len(examples)
        )

    @cached_property
    def all_logits(self) -> Tensor:
        """`(n, C)` logits of the N = 1 teacher for all examples."""
        assert self.plain is not None
        with self.precision.autocast():
            logits = predict_logits(self.plain, self.examples, self.precision.device)
        return torch.from_numpy(logits).to(self.precision.device)

    @torch.no_grad()
    def ask(self, batch: Batch, known: Tensor | None = None) -> Lesson:
        """Yield what is asked for.

        Args:
            batch: Groups as the student reads them.
            known: `(B, N, C)` logits of the N = 1 teacher, if they were computed before.
        """
        layers = None
        if self.wants_layers:
            assert self.same_width is not None
            layers = self.same_width.encode(batch)
        if self.plain is None:
            assert self.same_width is not None
            same = self.same_width
            return Lesson(same(batch) if layers is None else same.classify(layers[-1]), layers)
        sizes = batch.input_ids.shape  # (B, N, T)
        if known is not None:
            return Lesson(known, layers)
        if not self.wants_states:
            return Lesson(self.plain(batch.as_single()).view(*sizes[:2], -1), layers)
        states = self.plain.encode(batch.as_single())[-1]  # (B * N, T, D)
        logits = self.plain.classify(states).view(*sizes[:2], -1)
        return Lesson(logits, layers, states.view(*sizes, -1))


def state_error(
    model: MuxedBert, states: Tensor, wanted: Tensor, batch: Batch, whole: Batch
) -> Tensor:
    """Yield the part that `batch` has of the error of a `whole` batch's demultiplexed states.

    Args:
        model: Student.
        states: Its last states `(B, P + T, D)`, mixed.
        wanted: `(B, N, T, D)` last states of the N = 1 teacher.
        batch: Groups of the batch that goes through the model now.
        whole: All groups of the update.
    """
    student = model.token_states(states).transpose(1, 2)  # (B, N, T, D)
    matched = masked_mse(student, wanted, batch.attention_mask)
    return share(batch.attention_mask, whole.attention_mask) * matched
