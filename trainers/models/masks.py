"""Hard-concrete gates, their expected sparsity and the penalty that steers it (CoFi).

Symbols: `D` hidden size, `H` heads, `F` feed-forward units, `L` layers, `z` a gate value in
[0, 1], `a` its parameter (log alpha), `p(a) = P(z > 0)`. Louizos et al. 2018; Xia,
Zhong, Chen 2022.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from trainers.errors import ShapeError
from trainers.models.shape import MuxedBertShape
from trainers.phase_config import GATE_KINDS

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


def check_masks(masks: Masks, shape: MuxedBertShape) -> None:
    """Refuse masks that do not fit the dense model of `shape`.

    Raises:
        ShapeError: If they have other shapes, or the model is compacted already.
    """
    if shape != shape.dense(shape.num_instances):
        raise ShapeError(
            f"Gates need a dense model, and this one is compacted already (sparsity "
            f"{shape.sparsity:.2f}); use the model that it was made from."
        )
    num_layers = shape.num_layers
    sizes = {
        "hidden": (shape.hidden_size,),
        "heads": (num_layers, shape.dense_num_heads),
        "head_layers": (num_layers,),
        "intermediate": (num_layers, shape.dense_feedforward_size),
        "feedforward_layers": (num_layers,),
    }
    for name, size in sizes.items():
        found = tuple(getattr(masks, name).shape)
        if found != size:
            raise ShapeError(f"`{name}` of the masks must have the shape {size}, got {found}.")


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


@dataclass(frozen=True)
class WeightCount:
    """What a sparsity convention counts: J (per_head n + per_unit u) of `total` weights remain.

    J, n and u are the open hidden dimensions, heads and feed-forward units.
    """

    per_head: float
    per_unit: float
    total: float

    def remaining(self, probabilities: Masks) -> Tensor:
        """Yield the expected number of weights that remain, gates taken as independent.

        With binary masks and the convention `weights` this is the exact count of the compacted
        encoder.
        """
        p = probabilities
        attention = (p.head_layers[:, None] * p.heads).sum()
        feedforward = (p.feedforward_layers[:, None] * p.intermediate).sum()
        return p.hidden.sum() * (self.per_head * attention + self.per_unit * feedforward)


def weight_count(shape: MuxedBertShape, convention: str) -> WeightCount:
    """Yield what `convention` counts in a model of `shape`.

    `weights` counts the matrices of attention and feed-forward layers on both sides. `cofi` is the
    published formula: every encoder bias is in the total, but only those of attention, spread
    over its weights, among what remains. A dense model of BERT's size has a sparsity of 0.000542
    by it.
    """
    size, units = shape.dense_hidden_size, shape.dense_feedforward_size
    if convention == "weights":
        return WeightCount(4 * shape.head_size, 2, shape.num_prunable_parameters)
    attention_biases = 4 * shape.dense_num_heads * shape.head_size
    biases = shape.num_layers * (attention_biases + units + size)
    per_head = 4 * shape.head_size * (size + 1) / size
    return WeightCount(per_head, 2, shape.num_prunable_parameters + biases)


class Gates(nn.Module):
    """The CoFi gates of one encoder; what has no gate stays open.

    Args:
        shape: Dense shape of the model to prune.
        kinds: Any of `GATE_KINDS`.
        convention: How sparsity is counted, see `weight_count`.
    """

    def __init__(
        self,
        shape: MuxedBertShape,
        kinds: Collection[str] = GATE_KINDS,
        convention: str = "weights",
    ) -> None:
        super().__init__()
        self.shape, self.kinds, self.convention = shape, frozenset(kinds), convention
        self.count = weight_count(shape, convention)
        for name, ones in vars(open_masks(shape)).items():
            if name in kinds:
                self.register_parameter(name, nn.Parameter(OPEN_LOG_ALPHA * ones))
            else:
                self.register_buffer(name, ones, persistent=False)

    def sample(self, generator: torch.Generator) -> Masks:
        """Draw one value of every gate."""
        drawn = {name: sample_gate(a, generator) for name, a in self.named_parameters()}
        return Masks(**dict(self.named_buffers()) | drawn)

    def probabilities(self) -> Masks:
        """Yield the probability that each gate is open."""
        open_ = {name: open_probability(a) for name, a in self.named_parameters()}
        return Masks(**dict(self.named_buffers()) | open_)

    def expected_sparsity(self) -> Tensor:
        """Yield 1 - expected remaining / all weights of the convention, differentiable."""
        return 1 - self.count.remaining(self.probabilities()) / self.count.total

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the parameters where their gradients do not vanish; call after every update."""
        for parameter in self.parameters():
            parameter.clamp_(-LOG_ALPHA_LIMIT, LOG_ALPHA_LIMIT)


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
