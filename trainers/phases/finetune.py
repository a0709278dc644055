"""Task training, optionally taught by the N = 1 model or by the unpruned model of the same N."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.data.encoding import Encoded
from trainers.measure.accuracy import count_correct
from trainers.measure.batching import GroupSampler, make_batch
from trainers.models.batch import Batch
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import MuxedBert, initialise
from trainers.phase_config import FinetuneConfig
from trainers.phases.layers import LayerMatcher, left_layers
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.losses import logit_distillation, task_loss
from trainers.phases.precision import Precision
from trainers.phases.retrieval import Slots, Vocabulary, slot_loss
from trainers.phases.teachers import Lesson, TeacherModels, Teachers, state_error
from trainers.phases.update import Losses, MicroBatches, share


@dataclass(frozen=True)
class _Drawn:
    """A batch with everything that is known or random about it."""

    batch: Batch
    labels: Tensor
    """`(B, N)`."""
    known: Tensor | None
    """`(B, N, C)` logits of the N = 1 teacher, if they were computed before."""
    slots: Slots | None
    """Whose tokens are retrieved, if any are."""

    def rows(self, rows: slice) -> "_Drawn":
        """Yield some of the groups."""
        return _Drawn(
            self.batch.rows(rows),
            self.labels[rows],
            None if self.known is None else self.known[rows],
            None if self.slots is None else self.slots.rows(rows),
        )


class FinetuneProgram:
    """Cross-entropy with the labels, mixed with the distillation of a teacher.

    Args:
        model: Model to train, dense or compacted.
        teacher: Fine-tuned model with N = 1 or the same N, or none; its logits are matched.
        train: Labelled examples.
        held_out: Labelled examples that the best weights are chosen by.
        config: Schedule and weights.
        seed: Decides the groups.
        precision: Autocast for the forward pass.
        layers: What matches layers with those of a teacher of the same N, after pruning.
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
        layers: LayerMatcher | None = None,
    ) -> None:
        self.model, self.config, self.layers = model, config, layers
        self.examples, self.held_out, self.precision = train, held_out, precision
        self.sampler = GroupSampler(train, model.shape.num_instances, config, seed)
        model.embeddings.tokens.weight.requires_grad_(not config.freeze_embeddings)
        self.teachers = None if teacher is None else self._teachers(teacher)
        trained: dict[str, nn.Module] = {"model": model}
        if layers is not None:
            trained["layer_map"] = layers.layer_map
        self._retrieval: tuple[TokenHead, Vocabulary] | None = None
        if config.retrieval_weight > 0 and model.shape.num_instances > 1:
            trained["token_head"] = self._start_retrieval()
        self.modules: Mapping[str, nn.Module] = trained
        optimizer = make_optimizer(list(trained.values()), config)
        self.optimizers: Mapping[str, Optimizer] = {"model": optimizer}
        self.micro_batches = MicroBatches()

    def _teachers(self, teacher: MuxedBert) -> Teachers:
        layers, num_instances = self.layers, self.model.shape.num_instances
        matched = None if layers is None else layers.teacher
        is_plain = teacher.shape.num_instances == 1 and teacher is not matched
        return Teachers(
            TeacherModels(matched, teacher) if is_plain else TeacherModels(teacher),
            wants_layers=layers is not None,
            wants_states=num_instances > 1 and self.config.state_distill_weight > 0,
            examples=self.examples,
            num_read=self.config.num_updates * self.sampler.size,
            precision=self.precision,
        )

    def _start_retrieval(self) -> TokenHead:
        """Yield a new head; whoever has a trained one loads its weights into it."""
        shape, device = self.model.shape, self.precision.device
        head = TokenHead(shape.dense_hidden_size, shape.vocab_size, shape.layer_norm_eps)
        vocabulary = Vocabulary(self.examples, shape.vocab_size).to(device)
        self._retrieval = head.apply(initialise).to(device), vocabulary
        return head

    def update(self, step: int) -> dict[str, Tensor]:
        """See `Program.update`."""
        self.model.train()
        optimizer = self.optimizers["model"]
        set_learning_rate(optimizer, learning_rate(self.config, step))
        groups = self.sampler.groups(step)
        totals = self.micro_batches.sum_gradients(
            self.precision, self.optimizers, len(groups), lambda: self._draw(step, groups)
        )
        clip_and_step(optimizer)
        return totals

    def evaluate(self) -> float | None:
        """Yield the accuracy on the held-out examples, grouped in their order."""
        correct = count_correct(self.model, self.held_out, self.precision.device)
        return correct / len(self.held_out)

    def _draw(self, step: int, groups: NDArray[np.int64]) -> Losses:
        device, teachers = self.precision.device, self.teachers
        whole = make_batch(self.examples, groups, device)
        assert self.examples.labels is not None
        labels = torch.from_numpy(self.examples.labels[groups]).to(device)
        known = None
        if teachers is not None and teachers.asks_once:
            known = teachers.all_logits[torch.from_numpy(groups)]
        slots = None if self._retrieval is None else Slots.draw(whole, 1)
        return partial(self._losses, step, _Drawn(whole, labels, known, slots))

    def _losses(self, step: int, whole: "_Drawn", rows: slice) -> dict[str, Tensor]:
        """Yield the part of the batch's losses that its groups `rows` have."""
        drawn = whole.rows(rows)
        batch, part = drawn.batch, len(drawn.labels) / len(whole.labels)
        with self.precision.autocast():
            lesson = None if self.teachers is None else self.teachers.ask(batch, drawn.known)
            if not self._reads_states:
                return {"loss": part * self._mixed(self.model(batch), lesson, drawn.labels)}
            states = self.model.encode(batch)
            logits = self.model.classify(states[-1])
            loss = part * self._mixed(logits, lesson, drawn.labels)
            if lesson is not None:
                loss = self._with_lesson(loss, step, states, lesson, (batch, whole.batch))
            if self._retrieval is None or drawn.slots is None or whole.slots is None:
                return {"loss": loss}
            head, vocabulary = self._retrieval
            found = slot_loss(self.model, head, states[-1], batch, drawn.slots, vocabulary)
            found = drawn.slots.share(whole.slots) * found
            return {"loss": loss + self.config.retrieval_weight * found, "retrieval_loss": found}

    @property
    def _reads_states(self) -> bool:
        teachers = self.teachers
        is_taught = teachers is not None and (teachers.wants_layers or teachers.wants_states)
        return is_taught or self._retrieval is not None

    def _with_lesson(
        self,
        loss: Tensor,
        step: int,
        states: list[Tensor],
        lesson: Lesson,
        batches: tuple[Batch, Batch],
    ) -> Tensor:
        """Yield the loss with the errors of the states that teachers tell of.

        Args:
            loss: So far.
            step: Update.
            states: Of all layers of the student.
            lesson: What the teachers tell.
            batches: Groups of the batch that go through the model now, and all of them.
        """
        batch, whole = batches
        if self.layers is not None:
            assert lesson.layers is not None
            mask = self.model.attended(batch)
            attended = mask, share(mask, self.model.attended(whole))
            exists = left_layers(self.model.shape).to(mask.device)
            error = self.layers.loss(step, states, lesson.layers, exists, attended)
            weight = self.layers.config.layer_distill_weight
            loss = (1 - weight) * loss + weight * attended[1] * error
        if lesson.last_states is not None:
            error = state_error(self.model, states[-1], lesson.last_states, batch, whole)
            loss = loss + self.config.state_distill_weight * error
        return loss

    def _mixed(self, logits: Tensor, lesson: Lesson | None, labels: Tensor) -> Tensor:
        if lesson is None:
            return task_loss(logits, labels)
        share, temperature = self.config.distill_weight, self.config.temperature
        distilled = logit_distillation(logits, lesson.logits, temperature)
        return (1 - share) * task_loss(logits, labels) + share * distilled
