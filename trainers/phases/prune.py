"""CoFi pruning: gates learned under a Lagrangian, taught by fine-tuned models."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.data.encoding import Encoded
from trainers.measure.batching import GroupSampler, make_batch
from trainers.models.batch import Batch
from trainers.models.masks import Gates, Lagrangian, Masks
from trainers.models.muxed_bert import MuxedBert
from trainers.phase_config import PruneConfig
from trainers.phases.layers import LayerMatcher, identity_map, open_layers
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.losses import logit_distillation, task_loss
from trainers.phases.precision import Precision
from trainers.phases.teachers import TeacherModels, Teachers, state_error
from trainers.phases.update import Losses, MicroBatches, share


def target_sparsity(config: PruneConfig, sparsity: float, start: float, step: int) -> float:
    """Yield the target of update `step`: a linear rise from `start`, then `sparsity`."""
    progress = (step + 1) / (config.num_updates * config.sparsity_warmup)
    return start + (sparsity - start) * min(1.0, progress)


class PruneProgram:
    """One pruning run at a requested sparsity.

    Args:
        model: Dense student, a copy of the fine-tuned model.
        teachers: Fine-tuned dense model of the same N, the N = 1 model, or both.
        gates: Gates of the student.
        train: Labelled examples.
        sparsity: Requested sparsity in (0, 1).
        config: Schedule and weights.
        seed: Decides groups and gate noise.
        precision: Autocast for the forward pass.
    """

    def __init__(
        self,
        model: MuxedBert,
        teachers: TeacherModels,
        gates: Gates,
        train: Encoded,
        sparsity: float,
        config: PruneConfig,
        *,
        seed: int,
        precision: Precision,
    ) -> None:
        self.model, self.gates = model, gates
        self.examples, self.sparsity, self.config = train, sparsity, config
        self.seed, self.precision = seed, precision
        self.lagrangian = Lagrangian().to(precision.device)
        layer_map = identity_map(model.shape.dense_hidden_size).to(precision.device)
        self.start = float(gates.expected_sparsity().detach())
        self.sampler = GroupSampler(train, model.shape.num_instances, config, seed)
        self.layers: LayerMatcher | None = None
        matched = teachers.same_width
        if matched is not None and config.layer_distill_weight > 0:
            self.layers = LayerMatcher(matched, layer_map, config, seed=seed, precision=precision)
        self.teachers = Teachers(
            teachers,
            wants_layers=self.layers is not None,
            wants_states=config.state_distill_weight > 0,
            examples=train,
            num_read=config.num_updates * self.sampler.size,
            precision=precision,
        )
        model.embeddings.tokens.weight.requires_grad_(not config.freeze_embeddings)
        self.modules: Mapping[str, nn.Module] = {
            "model": model,
            "gates": gates,
            "lagrangian": self.lagrangian,
            "layer_map": layer_map,
        }
        self.optimizers: Mapping[str, Optimizer] = {
            "model": make_optimizer([model, layer_map], config),
            "gates": torch.optim.Adam(gates.parameters(), lr=config.gate_learning_rate),
            "lagrangian": torch.optim.Adam(
                self.lagrangian.parameters(), lr=config.multiplier_learning_rate, maximize=True
            ),
        }
        self.micro_batches = MicroBatches()

    def climb_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin where a run at a lower sparsity ended; its target rises from what that reached.

        The multipliers go on too: new ones would let the gates reopen until they have grown.

        Args:
            tensors: Weights, gates, multipliers and layer map, see `state`.
        """
        for name, module in self.modules.items():
            prefix = f"{name}."
            own = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            module.load_state_dict(own)
        self.start = float(self.gates.expected_sparsity().detach())

    def state(self) -> dict[str, Tensor]:
        """Yield all that a run at a higher sparsity starts from."""
        return {
            f"{name}.{key}": tensor
            for name, module in self.modules.items()
            for key, tensor in module.state_dict().items()
        }

    def update(self, step: int) -> dict[str, Tensor]:
        """See `Program.update`."""
        self.model.train()
        set_learning_rate(self.optimizers["model"], learning_rate(self.config, step))
        groups = self.sampler.groups(step)
        trained = {name: self.optimizers[name] for name in ("model", "gates")}
        totals = self.micro_batches.sum_gradients(
            self.precision, trained, len(groups), lambda: self._draw(step, groups)
        )
        expected = self.gates.expected_sparsity()
        target = target_sparsity(self.config, self.sparsity, self.start, step)
        self.lagrangian(expected, target).backward()
        clip_and_step(self.optimizers["model"])
        for name in ("gates", "lagrangian"):
            self.optimizers[name].step()
            self.optimizers[name].zero_grad(set_to_none=True)
        self.gates.clamp_()
        return {**totals, "sparsity": expected.detach()}

    def evaluate(self) -> float | None:
        """Weights and gates move together to the end of the schedule, so the last are kept."""
        return None

    def _sample_masks(self, step: int) -> Masks:
        """Draw the masks of an update: the same for all parts of its batch."""
        generator = torch.Generator(self.precision.device)
        return self.gates.sample(generator.manual_seed(self.seed * 1_000_003 + step))

    def _draw(self, step: int, groups: NDArray[np.int64]) -> Losses:
        device, teachers = self.precision.device, self.teachers
        whole = make_batch(self.examples, groups, device)
        known = teachers.all_logits[torch.from_numpy(groups)] if teachers.asks_once else None

        def losses(rows: slice) -> dict[str, Tensor]:
            told = None if known is None else known[rows]
            with self.precision.autocast():
                return {"loss": self._distillation(step, groups[rows], whole, rows, told)}

        return losses

    def _distillation(
        self, step: int, groups: NDArray[np.int64], whole: Batch, rows: slice, known: Tensor | None
    ) -> Tensor:
        """Yield the part of the batch's loss that `groups`, its `rows`, have."""
        masks, batch = self._sample_masks(step), whole.rows(rows)
        lesson, weights = self.teachers.ask(batch, known), self.config
        if self.teachers.wants_layers or self.teachers.wants_states:
            states = self.model.encode(batch, masks)
            logits = self.model.classify(states[-1])
        else:
            states, logits = [], self.model(batch, masks)
        part = len(groups) / len(whole.input_ids)
        loss = (part * weights.logit_distill_weight) * logit_distillation(
            logits, lesson.logits, weights.temperature
        )
        if self.layers is not None:
            assert lesson.layers is not None
            mask = self.model.attended(batch)
            attended = mask, share(mask, self.model.attended(whole))
            error = self.layers.loss(step, states, lesson.layers, open_layers(masks), attended)
            loss = loss + (attended[1] * weights.layer_distill_weight) * error
        if lesson.last_states is not None:
            error = state_error(self.model, states[-1], lesson.last_states, batch, whole)
            loss = loss + weights.state_distill_weight * error
        if weights.label_weight > 0:
            assert self.examples.labels is not None
            labels = torch.from_numpy(self.examples.labels[groups]).to(logits.device)
            loss = loss + (part * weights.label_weight) * task_loss(logits, labels)
        return loss
