"""Task training, optionally taught by the N = 1 model or by the unpruned model of the same N."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.config import FinetuneConfig
from trainers.data.encoding import Encoded
from trainers.measure.accuracy import count_correct
from trainers.measure.batching import GroupSampler, make_batch
from trainers.models.muxed_bert import Batch, MuxedBert
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.losses import logit_distillation, masked_mse, task_loss
from trainers.phases.precision import Precision

TEMPERATURE = 2.0
"""Softmax temperature of the prediction distillation, as in CoFi."""


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
        num_instances = model.shape.num_instances
        self.sampler = GroupSampler(
            len(train), num_instances, config.num_groups(num_instances), seed
        )
        model.embeddings.tokens.weight.requires_grad_(not config.freeze_embeddings)
        self.modules: Mapping[str, nn.Module] = {"model": model}
        optimizer = make_optimizer([model], config)
        self.optimizers: Mapping[str, Optimizer] = {"model": optimizer}

    def update(self, step: int) -> dict[str, Tensor]:
        """See `Program.update`."""
        self.model.train()
        optimizer = self.optimizers["model"]
        set_learning_rate(optimizer, learning_rate(self.config, step))
        groups = self.sampler.groups(step)
        batch = make_batch(self.examples, groups, self.precision.device)
        assert self.examples.labels is not None
        labels = torch.from_numpy(self.examples.labels[groups]).to(self.precision.device)
        with self.precision.autocast():
            states = self.model.encode(batch)[-1]
            logits = self.model.classify(states)
            loss = task_loss(logits, labels)
            if self.teacher is not None:
                loss = self._distilled(self.teacher, loss, states, logits, batch)
        loss.backward()
        clip_and_step(optimizer)
        return {"loss": loss.detach()}

    def evaluate(self) -> float | None:
        """Yield the accuracy on the held-out examples, grouped in their order."""
        correct = count_correct(self.model, self.held_out, self.precision.device)
        return correct / len(self.held_out)

    def _distilled(
        self, teacher: MuxedBert, loss: Tensor, states: Tensor, logits: Tensor, batch: Batch
    ) -> Tensor:
        view = teacher_view(teacher, batch)
        with torch.no_grad():
            teacher_states = teacher.encode(view)[-1]
            target = teacher.classify(teacher_states).reshape(logits.shape)
        share = self.config.distill_weight
        loss = (1 - share) * loss + share * logit_distillation(logits, target, TEMPERATURE)
        if self.config.state_distill_weight > 0 and self.model.demux is not None:
            is_single = teacher.shape.num_instances == 1
            if is_single:
                flat = teacher_states.view(*batch.input_ids.shape, -1)  # (B, N, T, D)
                student = self.model.demux(states).transpose(1, 2)  # (B, N, T, D)
                error = masked_mse(student, flat, batch.attention_mask)
                loss = loss + self.config.state_distill_weight * error
        return loss
