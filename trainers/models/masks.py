"""Hard-concrete gates, expected sparsity and the choice of the final structure (CoFi).

Symbols: `D` hidden size, `H` heads, `F` feed-forward units, `L` layers, `z` a gate value in
[0, 1], `a` its parameter (log alpha), `p(a) = P(z > 0)`. Louizos et al. 2018; Xia,
Zhong, Chen 2022.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from trainers.models.shape import MuxedBertShape

BETA = 2 / 3
"""Temperature of the hard-concrete distribution."""
GAMMA, ZETA = -0.1, 1.1
"""Stretch limits: samples outside [0, 1] are clamped, so that exact zeros occur."""
LOG_ALPHA_LIMIT = math.log(100)
"""Parameters are kept in [-log 100, log 100], where gradients do not vanish."""
OPEN_LOG_ALPHA = 2.94
"""Start of every gate: open with probability 0.99."""


@dataclass(frozen=True)
class Masks:
    """Gate values of one forward pass, shared by all examples."""

    hidden: Tensor
    """`(D,)`, shared by all layers and the embeddings."""
    heads: Tensor
    """`(L, H)`."""
    head_layers: Tensor
    """`(L,)`."""
    intermediate: Tensor
    """`(L, F)`."""
    feedforward_layers: Tensor
    """`(L,)`."""

    @property
    def skips_attention(self) -> Tensor:
        """`(L,)` booleans: the attention sub-layer passes its input on unchanged."""
        return (self.head_layers == 0) | ~(self.heads != 0).any(dim=1)

    @property
    def skips_feedforward(self) -> Tensor:
        """`(L,)` booleans: the feed-forward sub-layer passes its input on unchanged."""
        return (self.feedforward_layers == 0) | ~(self.intermediate != 0).any(dim=1)


def open_masks(shape: MuxedBertShape) -> Masks:
    """Yield masks of ones for a dense model of `shape`."""
    num_layers = shape.num_layers
    return Masks(
        hidden=torch.ones(shape.dense_hidden_size),
        heads=torch.ones(num_layers, shape.dense_num_heads),
        head_layers=torch.ones(num_layers),
        intermediate=torch.ones(num_layers, shape.dense_feedforward_size),
        feedforward_layers=torch.ones(num_layers),
    )


def open_probability(log_alpha: Tensor) -> Tensor:
    """Yield P(z > 0) = sigmoid(a - beta log(-gamma / zeta)), clamped away from 0 and 1."""
    probability = torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))
    return probability.clamp(1e-6, 1 - 1e-6)


def sample_gate(log_alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Draw z from the hard-concrete distribution, differentiable in `log_alpha`."""
    noise = torch.rand(log_alpha.shape, generator=generator, device=log_alpha.device)
    noise = noise.clamp(1e-6, 1 - 1e-6)
    logit = torch.log(noise) - torch.log1p(-noise)
    stretched = torch.sigmoid((logit + log_alpha) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def remaining_parameters(probabilities: Masks, head_size: int) -> Tensor:
    """Yield the expected number of encoder weights, gates taken as independent.

    With binary masks this is the exact count of the compacted encoder (biases excluded).
    """
    attention = (probabilities.head_layers[:, None] * probabilities.heads).sum()
    feedforward = (probabilities.feedforward_layers[:, None] * probabilities.intermediate).sum()
    return probabilities.hidden.sum() * (4 * head_size * attention + 2 * feedforward)


class Gates(nn.Module):
    """The five kinds of CoFi gates of one encoder.

    Args:
        shape: Dense shape of the model to prune.
    """

    def __init__(self, shape: MuxedBertShape) -> None:
        super().__init__()
        self.shape = shape
        for name, tensor in vars(open_masks(shape)).items():
            start = torch.full_like(tensor, OPEN_LOG_ALPHA)
            self.register_parameter(name, nn.Parameter(start))

    def sample(self, generator: torch.Generator) -> Masks:
        """Draw one value of every gate."""
        return Masks(**{k: sample_gate(a, generator) for k, a in self.named_parameters()})

    def probabilities(self) -> Masks:
        """Yield the probability that each gate is open."""
        return Masks(**{name: open_probability(a) for name, a in self.named_parameters()})

    def expected_sparsity(self) -> Tensor:
        """Yield 1 - expected remaining / prunable encoder weights, differentiable."""
        remaining = remaining_parameters(self.probabilities(), self.shape.head_size)
        return 1 - remaining / self.shape.num_prunable_parameters

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the parameters where their gradients do not vanish; call after every update."""
        for parameter in self.parameters():
            parameter.clamp_(-LOG_ALPHA_LIMIT, LOG_ALPHA_LIMIT)

    @torch.no_grad()
    def binary_masks(self, sparsity: float) -> Masks:
        """Choose the structure that reaches `sparsity` by keeping the likeliest units.

        Units (heads, feed-forward units, hidden dimensions) are ranked by the probability that
        they are open, that of their layer included; the longest ranking prefix within the
        parameter budget is kept, then feed-forward units of kept layers fill what is left of it.

        Args:
            sparsity: Requested sparsity in [0, 1).

        Returns:
            Masks of zeros and ones whose encoder has at most the budgeted weights, and less by
            fewer than one feed-forward unit's wherever a kept layer has units to give.
        """
        p = self.probabilities()
        scores = Masks(
            hidden=p.hidden,
            heads=p.head_layers[:, None] * p.heads,
            head_layers=p.head_layers,
            intermediate=p.feedforward_layers[:, None] * p.intermediate,
            feedforward_layers=p.feedforward_layers,
        )
        budget = (1 - sparsity) * self.shape.num_prunable_parameters
        kept = self._longest_prefix(scores, budget)
        return self._fill_feedforward(kept, scores.intermediate, budget)

    def _longest_prefix(self, scores: Masks, budget: float) -> Masks:
        hidden = scores.hidden.clone()
        hidden[hidden.argmax()] = 2.0  # first of all: a model needs one hidden dimension
        parts = [hidden, scores.heads.flatten(), scores.intermediate.flatten()]
        order = torch.cat(parts).argsort(descending=True, stable=True)
        low, high = 0, len(order)  # prefix lengths: `low` fits the budget
        while low < high:
            middle = (low + high + 1) // 2
            if self._count(self._prefix_masks(order, middle)) <= budget:
                low = middle
            else:
                high = middle - 1
        return self._prefix_masks(order, low)

    def _prefix_masks(self, order: Tensor, length: int) -> Masks:
        flat = torch.zeros(len(order), device=order.device)
        flat[order[:length]] = 1.0
        num_layers, num_heads = self.shape.num_layers, self.shape.dense_num_heads
        sizes = [self.shape.dense_hidden_size, num_layers * num_heads]
        hidden, heads, intermediate = flat.split([*sizes, len(order) - sum(sizes)])
        heads = heads.view(num_layers, num_heads)
        intermediate = intermediate.view(num_layers, -1)
        return Masks(
            hidden=hidden,
            heads=heads,
            head_layers=heads.amax(dim=1),
            intermediate=intermediate,
            feedforward_layers=intermediate.amax(dim=1),
        )

    def _fill_feedforward(self, kept: Masks, scores: Tensor, budget: float) -> Masks:
        unit = 2 * float(kept.hidden.sum())
        room = int((budget - self._count(kept)) // unit) if unit > 0 else 0
        has_survivors = kept.feedforward_layers[:, None] > 0
        free = (kept.intermediate == 0) & (has_survivors | ~has_survivors.any())
        candidates = torch.where(free, scores, -1.0).flatten()
        chosen = candidates.argsort(descending=True, stable=True)[: min(room, int(free.sum()))]
        intermediate = kept.intermediate.flatten().index_fill(0, chosen, 1.0).view_as(scores)
        return Masks(
            hidden=kept.hidden,
            heads=kept.heads,
            head_layers=kept.head_layers,
            intermediate=intermediate,
            feedforward_layers=intermediate.amax(dim=1),
        )

    def _count(self, masks: Masks) -> float:
        return float(remaining_parameters(masks, self.shape.head_size))


class Lagrangian(nn.Module):
    """Penalty that drives the expected sparsity to its target: l1 (s - t) + l2 (s - t)^2.

    The multipliers are learned by gradient ascent (`maximize=True`), so the penalty acts against
    too little and too much sparsity alike (CoFi, section 2.2).
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(()))
        self.quadratic = nn.Parameter(torch.zeros(()))

    def forward(self, sparsity: Tensor, target: float) -> Tensor:
        """Yield the penalty for an expected `sparsity` against `target`."""
        gap = sparsity - target
        return self.linear * gap + self.quadratic * gap * gap


def masks_to(masks: Masks, like: Tensor) -> Masks:
    """Move masks to the device and dtype of `like`."""
    return Masks(**{item.name: getattr(masks, item.name).to(like) for item in fields(masks)})
