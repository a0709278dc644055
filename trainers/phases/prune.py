"""CoFi pruning: gates learned under a Lagrangian, taught by the fine-tuned model of the same N."""

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
from trainers.phases.alignment import align_layers, choose_teachers, same_layers
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.losses import (
    layer_distances,
    layer_distillation,
    logit_distillation,
    task_loss,
)
from trainers.phases.precision import Precision
from trainers.phases.update import Losses, MicroBatches, share


def identity_map(size: int) -> nn.Linear:
    """Yield a `size` x `size` linear map that starts as the identity."""
    layer_map = nn.Linear(size, size)
    with torch.no_grad():
        layer_map.weight.copy_(torch.eye(size))
        layer_map.bias.zero_()
    return layer_map


def target_sparsity(config: PruneConfig, sparsity: float, start: float, step: int) -> float:
    """Yield the target of update `step`: a linear rise from `start`, then `sparsity`."""
    progress = (step + 1) / (config.num_updates * config.sparsity_warmup)
    return start + (sparsity - start) * min(1.0, progress)


class PruneProgram:
    """One pruning run at a requested sparsity.

    Args:
        model: Dense student, a copy of the teacher.
        teacher: Fine-tuned dense model of the same N.
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
        teacher: MuxedBert,
        gates: Gates,
        train: Encoded,
        sparsity: float,
        config: PruneConfig,
        *,
        seed: int,
        precision: Precision,
    ) -> None:
        self.model, self.teacher, self.gates = model, teacher.eval(), gates
        self.examples, self.sparsity, self.config = train, sparsity, config
        self.seed, self.precision = seed, precision
        self.lagrangian = Lagrangian().to(precision.device)
        self.layer_map = identity_map(model.shape.dense_hidden_size).to(precision.device)
        self.start = float(gates.expected_sparsity().detach())
        self.sampler = GroupSampler(train, model.shape.num_instances, config, seed)
        model.embeddings.tokens.weight.requires_grad_(not config.freeze_embeddings)
        self.modules: Mapping[str, nn.Module] = {
            "model": model,
            "gates": gates,
            "lagrangian": self.lagrangian,
            "layer_map": self.layer_map,
        }
        self.optimizers: Mapping[str, Optimizer] = {
            "model": make_optimizer([model, self.layer_map], config),
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
        whole = make_batch(self.examples, groups, self.precision.device)

        def losses(rows: slice) -> dict[str, Tensor]:
            with self.precision.autocast():
                return {"loss": self._distillation(step, groups[rows], whole, rows)}

        return losses

    def _distillation(
        self, step: int, groups: NDArray[np.int64], whole: Batch, rows: slice
    ) -> Tensor:
        """Yield the part of the batch's loss that `groups`, its `rows`, have."""
        masks, batch = self._sample_masks(step), whole.rows(rows)
        with torch.no_grad():
            teacher_states = self.teacher.encode(batch)
            teacher_logits = self.teacher.classify(teacher_states[-1])
        states = self.model.encode(batch, masks)
        logits = self.model.classify(states[-1])
        weights, part = self.config, len(groups) / len(whole.input_ids)
        loss = (part * weights.logit_distill_weight) * logit_distillation(
            logits, teacher_logits, weights.temperature
        )
        if weights.layer_distill_weight > 0:
            mask = self.model.attended(batch)
            mask_share = share(mask, self.model.attended(whole))
            aligned = self._layer_distillation(
                step, states, teacher_states, masks, (mask, mask_share)
            )
            loss = loss + (mask_share * weights.layer_distill_weight) * aligned
        if weights.label_weight > 0:
            assert self.examples.labels is not None
            labels = torch.from_numpy(self.examples.labels[groups]).to(logits.device)
            loss = loss + (part * weights.label_weight) * task_loss(logits, labels)
        return loss

    def _layer_distillation(
        self,
        step: int,
        states: list[Tensor],
        teacher_states: list[Tensor],
        masks: Masks,
        attended: tuple[Tensor, float],
    ) -> Tensor:
        """Yield the error of aligned layers; `attended` is their mask and its share."""
        mask, mask_share = attended
        word = self.config.layer_alignment
        random = np.random.default_rng([self.seed, step])
        teachers = choose_teachers(word, len(teacher_states), random)
        exists = ~(masks.skips_attention & masks.skips_feedforward)
        targets = [teacher_states[layer] for layer in teachers]
        if word == "fixed":
            pairs = same_layers(exists)
        else:
            distances = layer_distances(states, targets, self.layer_map, mask)
            pairs = align_layers(word, self._over_processes(distances, mask_share), exists)
        return layer_distillation(states, targets, self.layer_map, pairs, mask)

    def _over_processes(self, distances: Tensor, part: float) -> Tensor:
        """Yield the distances in what all processes have at once, so that all align alike."""
        processes = self.precision.processes
        if processes.count == 1:
            return distances
        told = processes.exchange((part * distances.double()).tolist())
        return torch.tensor(told, dtype=torch.float64).sum(dim=0).to(distances)
