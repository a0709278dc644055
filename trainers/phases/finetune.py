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
        self.sampler = GroupSampler(train, model.shape.num_instances, config, seed)
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
            loss = self._loss(batch, labels)
        loss.backward()
        clip_and_step(optimizer)
        return {"loss": loss.detach()}

    def evaluate(self) -> float | None:
        """Yield the accuracy on the held-out examples, grouped in their order."""
        correct = count_correct(self.model, self.held_out, self.precision.device)
        return correct / len(self.held_out)

    def _loss(self, batch: Batch, labels: Tensor) -> Tensor:
        if self.teacher is None:
            return task_loss(self.model(batch), labels)
        view = teacher_view(self.teacher, batch)
        share, state_weight = self.config.distill_weight, self._state_weight(self.teacher)
        if state_weight == 0:
            with torch.no_grad():
                target = self.teacher(view)
            logits = self.model(batch)
            return self._mixed(share, logits, target, labels)
        assert self.model.demux is not None
        with torch.no_grad():
            teacher_states = self.teacher.encode(view)[-1]  # (B * N, T, D)
            target = self.teacher.classify(teacher_states)
        states = self.model.encode(batch)[-1]
        loss = self._mixed(share, self.model.classify(states), target, labels)
        wanted = teacher_states.view(*batch.input_ids.shape, -1)  # (B, N, T, D)
        student = self.model.demux(states).transpose(1, 2)  # (B, N, T, D)
        return loss + state_weight * masked_mse(student, wanted, batch.attention_mask)

    def _state_weight(self, teacher: MuxedBert) -> float:
        """Only an N = 1 teacher has states that belong to one sequence each."""
        is_asked = self.model.demux is not None and teacher.shape.num_instances == 1
        return self.config.state_distill_weight if is_asked else 0.0

    def _mixed(self, share: float, logits: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        target = target.reshape(logits.shape)
        distilled = logit_distillation(logits, target, TEMPERATURE)
        return (1 - share) * task_loss(logits, labels) + share * distilled
