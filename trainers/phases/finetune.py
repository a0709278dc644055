"""Task training, optionally taught by the N = 1 model or by the unpruned model of the same N."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.data.encoding import Encoded
from trainers.measure.accuracy import count_correct, predict_logits
from trainers.measure.batching import GroupSampler, make_batch
from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.phase_config import FinetuneConfig
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.losses import logit_distillation, masked_mse, task_loss
from trainers.phases.precision import Precision
from trainers.phases.update import Losses, MicroBatches, share


def teacher_view(teacher: MuxedBert, batch: Batch) -> Batch:
    """Yield the batch as the teacher reads it: the same groups, or groups of one for N = 1."""
    same = teacher.shape.num_instances == batch.input_ids.shape[1]
    return batch if same else batch.as_single()


class FinetuneProgram:
    """Cross-entropy with the labels, mixed with the distillation of a teacher.

    Args:
        model: Model to train, dense or compacted.
        teacher: Fine-tuned model with N = 1 or the same N, or none.
        train: Labelled examples.
        held_out: Labelled examples that the best weights are chosen by.
        config: Schedule and weights.
        seed: Decides the groups.
        precision: Autocast for the forward pass.
    """

    def __init__(
        self,
        model: MuxedBert,
        teacher: MuxedBert | None,
        train: Encoded,
        held_out: Encoded,
        config: FinetuneConfig,
        *,
        seed: int,
        precision: Precision,
    ) -> None:
        self.model, self.config = model, config
        self.teacher = teacher.eval() if teacher is not None else None
        self.examples, self.held_out, self.precision = train, held_out, precision
        self.sampler = GroupSampler(train, model.shape.num_instances, config, seed)
        model.embeddings.tokens.weight.requires_grad_(not config.freeze_embeddings)
        self.modules: Mapping[str, nn.Module] = {"model": model}
        self._state_weight = 0.0
        if teacher is not None and teacher.shape.num_instances == 1 and model.demux is not None:
            self._state_weight = config.state_distill_weight
        # Logits of an N = 1 teacher depend on no grouping: computed once if they will be used.
        self._asks_once = (
            teacher is not None
            and teacher.shape.num_instances == 1
            and self._state_weight == 0
            and config.num_updates * self.sampler.size >= len(train)
        )
        optimizer = make_optimizer([model], config)
        self.optimizers: Mapping[str, Optimizer] = {"model": optimizer}
        self.micro_batches = MicroBatches()

    def update(self, step: int) -> dict[str, Tensor]:
        """See `Program.update`."""
        self.model.train()
        optimizer = self.optimizers["model"]
        set_learning_rate(optimizer, learning_rate(self.config, step))
        groups = self.sampler.groups(step)
        totals = self.micro_batches.sum_gradients(
            self.precision, self.optimizers, len(groups), lambda: self._draw(groups)
        )
        clip_and_step(optimizer)
        return totals

    def evaluate(self) -> float | None:
        """Yield the accuracy on the held-out examples, grouped in their order."""
        correct = count_correct(self.model, self.held_out, self.precision.device)
        return correct / len(self.held_out)

    @cached_property
    def _targets(self) -> Tensor:
        """`(n, C)` logits of the teacher for all examples."""
        assert self.teacher is not None
        with self.precision.autocast():
            logits = predict_logits(self.teacher, self.examples, self.precision.device)
        return torch.from_numpy(logits).to(self.precision.device)

    def _draw(self, groups: NDArray[np.int64]) -> Losses:
        device = self.precision.device
        whole = make_batch(self.examples, groups, device)
        assert self.examples.labels is not None
        labels = torch.from_numpy(self.examples.labels[groups]).to(device)
        target = self._targets[torch.from_numpy(groups)] if self._asks_once else None

        def losses(rows: slice) -> dict[str, Tensor]:
            asked = None if target is None else target[rows]
            with self.precision.autocast():
                return {"loss": self._loss(whole, rows, asked, labels[rows])}

        return losses

    def _loss(self, whole: Batch, rows: slice, target: Tensor | None, labels: Tensor) -> Tensor:
        """Yield the part of the batch's loss that its groups `rows` have."""
        batch = whole.rows(rows)
        part = len(labels) / len(whole.input_ids)
        if self.teacher is None:
            return part * task_loss(self.model(batch), labels)
        view = teacher_view(self.teacher, batch)
        if self._state_weight == 0:
            if target is None:
                with torch.no_grad():
                    target = self.teacher(view)
            return part * self._mixed(self.model(batch), target, labels)
        with torch.no_grad():
            teacher_states = self.teacher.encode(view)[-1]  # (B * N, T, D)
            target = self.teacher.classify(teacher_states)
        states = self.model.encode(batch)[-1]
        loss = part * self._mixed(self.model.classify(states), target, labels)
        wanted = teacher_states.view(*batch.input_ids.shape, -1)  # (B, N, T, D)
        student = self.model.token_states(states).transpose(1, 2)  # (B, N, T, D)
        matched = masked_mse(student, wanted, batch.attention_mask)
        weight = self._state_weight * share(batch.attention_mask, whole.attention_mask)
        return loss + weight * matched

    def _mixed(self, logits: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        share, temperature = self.config.distill_weight, self.config.temperature
        distilled = logit_distillation(logits, target.reshape(logits.shape), temperature)
        return (1 - share) * task_loss(logits, labels) + share * distilled
