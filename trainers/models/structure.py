"""Choice of the final structure: which units survive, so that the budgeted weights remain.

Symbols: `D` hidden size, `H` heads, `F` feed-forward units, `L` layers. A structure keeps `J`
hidden dimensions, `n` heads and `u` feed-forward units, those of all layers together.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.errors import ConfigError
from trainers.models.masks import Gates, Masks, WeightCount, weight_count
from trainers.models.shape import MuxedBertShape

TOLERANCE = 1e-3
"""Largest distance from the requested sparsity; in small models one feed-forward unit is more."""


def check_reachable(
    shape: MuxedBertShape, kinds: Collection[str], convention: str, sparsity: float
) -> None:
    """Refuse a sparsity that no choice among the gated units comes close to.

    Args:
        shape: Dense shape of the model to prune.
        kinds: Gates it has, see `Gates`.
        convention: How sparsity is counted.
        sparsity: Requested sparsity in [0, 1).

    Raises:
        ConfigError: With the sparsities next to it that the gates can reach.
    """
    count = weight_count(shape, convention)
    budget = (1 - sparsity) * count.total
    sizes = _possible_sizes(shape, kinds, count, budget)
    if _is_close(sizes.counts, budget, shape, count).any():
        return
    reached = 1 - sizes.counts / count.total
    sparser = reached[sizes.counts <= budget]
    nearest = f"{reached[sizes.counts > budget].max():.4f}"
    what = f"{nearest} and {sparser.min():.4f}" if sparser.size else f"at most {nearest}"
    raise ConfigError(
        f"`prune.gates` with only {', '.join(sorted(kinds))} reaches a sparsity of {what}, "
        f"not {sparsity:.4f}; ask for what it reaches or add gates."
    )


@torch.no_grad()
def choose_structure(gates: Gates, sparsity: float) -> Masks:
    """Choose the structure of a sparsity by keeping the likeliest units.

    Units (heads, feed-forward units, hidden dimensions; whole layers where only those have gates)
    are ranked by the probability that they are open, that of their layer included. The longest
    prefix of the ranking within the parameter budget is kept, then feed-forward units of kept
    layers fill what is left of it. Should that miss the budget, the least weight changes sides.

    Args:
        gates: Learned gates.
        sparsity: Requested sparsity in [0, 1).

    Returns:
        Masks of zeros and ones. Their sparsity, by the convention of the gates, is the requested
        one to within `TOLERANCE` or one feed-forward unit, and not below it if that is possible.

    Raises:
        ConfigError: If no choice among the gated units comes close.
    """
    shape, count = gates.shape, gates.count
    check_reachable(shape, gates.kinds, gates.convention, sparsity)
    budget = (1 - sparsity) * count.total
    ranking = _Ranking.of(gates)
    masks = ranking.longest_prefix(count, budget)
    if "intermediate" in gates.kinds:
        masks = _fill_feedforward(masks, ranking.units, count, budget)
    kept = float(count.remaining(masks))
    if _is_close(np.array(kept), budget, shape, count):
        return masks
    sizes = _possible_sizes(shape, gates.kinds, count, budget)
    return ranking.top(*_nearest_sizes(masks, sizes, shape, count, budget))


@dataclass(frozen=True)
class _Sizes:
    """Sizes of structures on both sides of a budget, arrays that broadcast to `(2, J, n)`."""

    hidden: NDArray[np.int64]
    heads: NDArray[np.int64]
    units: NDArray[np.int64]
    counts: NDArray[np.float64]
    """Weights that remain."""


def _possible_sizes(
    shape: MuxedBertShape, kinds: Collection[str], count: WeightCount, budget: float
) -> _Sizes:
    """For every J and n, yield the most feed-forward units within the budget and the next more."""
    size, num_layers = shape.dense_hidden_size, shape.num_layers
    hidden = np.arange(1, size + 1) if "hidden" in kinds else np.array([size])
    hidden = hidden[:, None]  # (J, 1)
    head_step = _step(shape.dense_num_heads, "heads" in kinds, "head_layers" in kinds)
    num_heads = num_layers * shape.dense_num_heads
    heads = np.arange(0, num_heads + 1, head_step) if head_step else np.array([num_heads])
    unit_step = _step(
        shape.dense_feedforward_size, "intermediate" in kinds, "feedforward_layers" in kinds
    )
    num_units = num_layers * shape.dense_feedforward_size
    units = np.full((1, len(hidden), len(heads)), num_units)
    if unit_step:
        room = (budget / hidden - count.per_head * heads) / count.per_unit
        fitting = np.floor(room / unit_step).astype(np.int64) * unit_step
        units = np.stack([fitting, fitting + unit_step]).clip(0, num_units)
    counts = hidden * (count.per_head * heads + count.per_unit * units)
    return _Sizes(hidden, heads, units, counts)


def _step(layer_size: int, has_units: bool, has_layers: bool) -> int:
    """Yield how many units can be closed at a time; 0 if none can."""
    return 1 if has_units else layer_size if has_layers else 0


def _is_close(
    counts: NDArray[np.float64], budget: float, shape: MuxedBertShape, count: WeightCount
) -> NDArray[np.bool_]:
    tolerance = max(TOLERANCE * count.total, count.per_unit * shape.dense_hidden_size)
    return np.asarray(np.abs(counts - budget) <= tolerance)


def _nearest_sizes(
    masks: Masks, sizes: _Sizes, shape: MuxedBertShape, count: WeightCount, budget: float
) -> tuple[int, int, int]:
    """Yield the (J, n, u) close to the budget, within it if possible, nearest to `masks`."""
    hidden, heads, units = (
        float(gate.sum()) for gate in (masks.hidden, masks.heads, masks.intermediate)
    )
    changed = (
        np.abs(sizes.hidden - hidden) * (count.per_head * heads + count.per_unit * units)
        + np.abs(sizes.heads - heads) * count.per_head * hidden
        + np.abs(sizes.units - units) * count.per_unit * hidden
    )
    allowed = _is_close(sizes.counts, budget, shape, count)
    within = allowed & (sizes.counts <= budget)
    cost = np.where(within if within.any() else allowed, changed, np.inf)
    side, j, n = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(sizes.hidden[j, 0]), int(sizes.heads[n]), int(sizes.units[side, j, n])


@dataclass(frozen=True)
class _Pool:
    """Units of one kind; `scores` has one number for every piece that can be closed alone."""

    scores: Tensor
    layers: tuple[int, int]
    """Layers and units in each."""

    @classmethod
    def of(cls, scores: Tensor, has_units: bool, has_layers: bool) -> "_Pool":
        """Build from the `(L, units)` scores."""
        step = _step(scores.shape[1], has_units, has_layers)
        pieces = scores[:, ::step].flatten() if step else scores.new_empty(0)
        return cls(pieces, (scores.shape[0], scores.shape[1]))

    def mask(self, is_kept: Tensor) -> Tensor:
        """Yield the `(L, units)` gates of kept pieces; what cannot be closed is open."""
        if not len(is_kept):
            return self.scores.new_ones(self.layers)
        num_layers, num_units = self.layers
        return is_kept.repeat_interleave(num_layers * num_units // len(is_kept)).view(self.layers)

    def top(self, num_units: int) -> Tensor:
        """Yield the gates of the `num_units` likeliest units."""
        step = self.layers[0] * self.layers[1] // max(1, len(self.scores))
        order = self.scores.argsort(descending=True, stable=True)[: num_units // step]
        return self.mask(torch.zeros_like(self.scores).index_fill(0, order, 1.0))


@dataclass(frozen=True)
class _Ranking:
    hidden: _Pool
    heads: _Pool
    units: _Pool

    @classmethod
    def of(cls, gates: Gates) -> "_Ranking":
        p, kinds = gates.probabilities(), gates.kinds
        hidden = p.hidden.clone()
        hidden[hidden.argmax()] = 2.0  # first of all: a model needs one hidden dimension
        heads = p.head_layers[:, None] * p.heads
        units = p.feedforward_layers[:, None] * p.intermediate
        return cls(
            _Pool.of(hidden[None], "hidden" in kinds, False),
            _Pool.of(heads, "heads" in kinds, "head_layers" in kinds),
            _Pool.of(units, "intermediate" in kinds, "feedforward_layers" in kinds),
        )

    def longest_prefix(self, count: WeightCount, budget: float) -> Masks:
        """Keep the likeliest of all kinds together, as many as the budget allows."""
        scores = torch.cat([self.hidden.scores, self.heads.scores, self.units.scores])
        order = scores.argsort(descending=True, stable=True)
        low, high = 0, len(order)  # prefix lengths: `low` fits the budget, or nothing does
        while low < high:
            middle = (low + high + 1) // 2
            if float(count.remaining(self._prefix(order[:middle]))) <= budget:
                low = middle
            else:
                high = middle - 1
        return self._prefix(order[:low])

    def top(self, num_hidden: int, num_heads: int, num_units: int) -> Masks:
        """Keep the likeliest units of each kind."""
        return _masks(
            self.hidden.top(num_hidden), self.heads.top(num_heads), self.units.top(num_units)
        )

    def _prefix(self, chosen: Tensor) -> Masks:
        pools = (self.hidden, self.heads, self.units)
        sizes = [len(pool.scores) for pool in pools]
        flat = self.hidden.scores.new_zeros(sum(sizes)).index_fill(0, chosen, 1.0)
        parts = flat.split(sizes)
        hidden, heads, units = (pool.mask(part) for pool, part in zip(pools, parts, strict=True))
        return _masks(hidden, heads, units)


def _masks(hidden: Tensor, heads: Tensor, units: Tensor) -> Masks:
    """Yield masks from `(1, D)`, `(L, H)` and `(L, F)` gates; a layer without units is closed."""
    return Masks(
        hidden=hidden[0],
        heads=heads,
        head_layers=heads.amax(dim=1),
        intermediate=units,
        feedforward_layers=units.amax(dim=1),
    )


def _fill_feedforward(kept: Masks, units: _Pool, count: WeightCount, budget: float) -> Masks:
    """Open the likeliest units of kept layers, or of any if no layer is kept, up to the budget."""
    unit = count.per_unit * float(kept.hidden.sum())
    room = int((budget - float(count.remaining(kept))) // unit) if unit > 0 else 0
    has_survivors = kept.feedforward_layers[:, None] > 0
    free = (kept.intermediate == 0) & (has_survivors | ~has_survivors.any())
    scores = units.scores.view_as(kept.intermediate)
    candidates = torch.where(free, scores, -1.0).flatten()
    chosen = candidates.argsort(descending=True, stable=True)[: max(0, min(room, int(free.sum())))]
    intermediate = kept.intermediate.flatten().index_fill(0, chosen, 1.0).view_as(scores)
    return _masks(kept.hidden[None], kept.heads, intermediate)
