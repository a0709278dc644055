"""Matching the layers of a student with those of a larger teacher of the same N (CoFi).

Symbols: `B` groups, `T` tokens, `D` hidden size of the teacher, `L` layers, `J` the hidden
dimensions that the student has left.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.models.masks import Masks
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.phase_config import LayerTaughtConfig, PruneConfig
from trainers.phases.alignment import align_layers, choose_teachers, same_layers
from trainers.phases.losses import layer_distances, layer_distillation
from trainers.phases.precision import Precision


def identity_map(size: int) -> nn.Linear:
    """Yield a `size` x `size` linear map that starts as the identity."""
    layer_map = nn.Linear(size, size)
    with torch.no_grad():
        layer_map.weight.copy_(torch.eye(size))
        layer_map.bias.zero_()
    return layer_map


def compacted_map(layer_map: nn.Linear, masks: Masks) -> dict[str, Tensor]:
    """Yield the state of the map from the J hidden dimensions that `masks` leave.

    What was closed is zero in the states of the gated model, so the map of those that remain is
    the same.
    """
    keep = masks.hidden.nonzero().squeeze(1)
    return {"weight": layer_map.weight.detach()[:, keep], "bias": layer_map.bias.detach()}


def load_map(state: dict[str, Tensor]) -> nn.Linear:
    """Yield the linear map of a stored `state`."""
    size, width = state["weight"].shape
    layer_map = nn.Linear(width, size)
    layer_map.load_state_dict(state)
    return layer_map


def open_layers(masks: Masks) -> Tensor:
    """Yield `(L,)` booleans: a layer exists while one of its sub-layers is open."""
    return ~(masks.skips_attention & masks.skips_feedforward)


def left_layers(shape: MuxedBertShape) -> Tensor:
    """Yield `(L,)` booleans: a layer exists if compaction left one of its sub-layers."""
    sizes = zip(shape.head_counts, shape.feedforward_sizes, strict=True)
    return torch.tensor([heads + units > 0 for heads, units in sizes])


class LayerMatcher:
    """The distillation of layers: in pruning, after it, and of a narrow model.

    Args:
        teacher: Larger model of the same N, in evaluation mode from here on.
        layer_map: Linear map from the student's states to the teacher's; trained with the student.
        config: How strongly, and which layer learns from which.
        seed: Decides teachers and tokens that are drawn.
        precision: Processes that align their layers alike.
    """

    def __init__(
        self,
        teacher: MuxedBert,
        layer_map: nn.Linear,
        config: PruneConfig | LayerTaughtConfig,
        *,
        seed: int,
        precision: Precision,
    ) -> None:
        self.teacher, self.layer_map, self.config = teacher.eval(), layer_map, config
        self.seed, self.precision = seed, precision

    def loss(
        self,
        step: int,
        states: list[Tensor],
        teacher_states: list[Tensor],
        exists: Tensor,
        attended: tuple[Tensor, float],
    ) -> Tensor:
        """Yield the error of aligned layers at update `step`.

        Args:
            step: Decides what is drawn.
            states: L states `(B, T, D or J)` of the student.
            teacher_states: L states `(B, T, D)` of the teacher, of the same groups.
            exists: `(L,)` booleans, see `align_layers`.
            attended: `(B, T)` booleans, and which part of those of the whole batch they are.
        """
        mask, mask_share = attended
        word = self.config.layer_alignment
        random = np.random.default_rng([self.seed, step])
        teachers = choose_teachers(word, len(teacher_states), random)
        targets = [teacher_states[layer] for layer in teachers]
        if word == "fixed":
            pairs = same_layers(exists)
        else:
            places = _drawn(mask, self.config.alignment_tokens, random)
            distances = layer_distances(states, targets, self.layer_map, places)
            pairs = align_layers(word, self._over_processes(distances, mask_share), exists)
        return layer_distillation(states, targets, self.layer_map, pairs, mask)

    def _over_processes(self, distances: Tensor, part: float) -> Tensor:
        """Yield the distances in what all processes have at once, so that all align alike."""
        processes = self.precision.processes
        if processes.count == 1:
            return distances
        told = processes.exchange((part * distances.double()).tolist())
        return torch.tensor(told, dtype=torch.float64).sum(dim=0).to(distances)


def _drawn(mask: Tensor, num_tokens: int, random: np.random.Generator) -> Tensor:
    """Yield `num_tokens` of the true places of a mask, or all for 0 or if there are no more."""
    places: NDArray[np.int64] = mask.flatten().nonzero().squeeze(1).cpu().numpy()
    if num_tokens == 0 or len(places) <= num_tokens:
        return mask
    chosen = random.choice(places, num_tokens, replace=False)
    drawn = torch.zeros_like(mask.flatten())
    drawn[torch.from_numpy(chosen).to(mask.device)] = True
    return drawn.view(mask.shape)
