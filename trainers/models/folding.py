"""The embedding block of a wide model as table look-ups, for inference.

Symbols: `e`, `p`, `s` rows of the token, position and type table less their mean over `D`; `k_i`
key of instance i over N; `g`, `c`, `eps` gain, bias and epsilon of the layer norm; `S` types.

Subtracting the mean is linear, so an embedded token is g * r (e + p + s) + c, where

    r = (|e + p + s|^2 / D + eps)^(-1/2)

depends on token, position and type alone and is read from a table `(V, S * T)`. The mixture of two
passes at position t is then

    sum_i r_i k_i * g * e_i + (sum_i r_i k_i * g) * p_t + sum_i r_i k_i * g * s_i + sum_i k_i * c

The first sum is one weighted `embedding_bag` over a table for each instance, `k_i * g * e`, which
reads every row once; the second and third are products with N and N * S rows, the last is
constant. In a single pass r = 1, and no positions are in the sum. All of it is exact but for
rounding.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST_TABLE = 128_000_000
"""Numbers in the tables of all instances (512 MB as float32). Where they would be larger, one
table serves all instances: mixing then takes twice the time on a CPU, a few per cent of all."""
LARGEST_SCALES = 128_000_000
"""Numbers in the table of scales; nothing is folded that would need more."""
VOCABULARY_BLOCK = 8192
"""Tokens whose scales are computed at a time, in float64."""
NUMBERS_IN_CACHE = 2**18
"""Size of what is computed at a time with one table: 1 MB, a core's second-level cache."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingWeights:
    """Weights of an embedding block that can be folded."""

    tokens: Tensor
    """`(V, D)`."""
    positions: Tensor
    """`(T, D)`, as many as will be read."""
    token_types: Tensor
    """`(S, D)`."""
    keys: Tensor
    """`(N, D)`."""
    norm: nn.LayerNorm
    prefix: tuple[Tensor, Tensor] | None = None
    """Tokens `(N, P, D)` and positions `(P, D)` that stand before every text, if any do."""


def fingerprint(parameters: Iterable[Tensor]) -> tuple[tuple[object, ...], ...]:
    """Yield what changes whenever one of `parameters` is replaced, moved or written to.

    Writing through `.data` escapes it, as it escapes autograd.
    """
    return tuple(
        (p.data_ptr(), 0 if p.is_inference() else p._version, p.dtype, p.device)
        for p in parameters
    )


def fold_embeddings(weights: EmbeddingWeights, *, is_two_pass: bool) -> "FoldedEmbeddings | None":
    """Make the tables, or none in half precision or with more scales than `LARGEST_SCALES`.

    Args:
        weights: Weights to fold.
        is_two_pass: Whether each instance passes through the block before it is mixed.
    """
    num_scales = len(weights.tokens) * len(weights.token_types) * len(weights.positions)
    if weights.tokens.dtype not in (torch.float32, torch.float64):
        return None
    if is_two_pass and num_scales > LARGEST_SCALES:
        return None
    return FoldedEmbeddings(weights, is_two_pass=is_two_pass)


class FoldedEmbeddings:
    """Tables made of an embedding block; they hold the weights of the moment.

    Args:
        weights: Weights to fold, float32 or float64.
        is_two_pass: Whether each instance passes through the block before it is mixed.
    """

    @torch.no_grad()
    def __init__(self, weights: EmbeddingWeights, *, is_two_pass: bool) -> None:
        self.norm, self.is_two_pass = weights.norm, is_two_pass
        self.length, self.num_types = len(weights.positions), len(weights.token_types)
        keys = weights.keys / len(weights.keys)
        self.constants = weights.positions
        self.scales: Tensor | None = None
        tokens, types, self.positions = weights.tokens, weights.token_types, weights.positions
        if is_two_pass:
            self.scales = _scales(weights)
            self.constants = keys.sum(dim=0) * weights.norm.bias + weights.positions + types[0]
            tokens, types, self.positions = map(_centred, (tokens, types, self.positions))
            keys = keys * weights.norm.weight
        self.keys = keys  # (N, D)
        self.types = (keys[:, None] * types).flatten(0, 1)  # (N * S, D)
        self.has_own_tables = len(keys) * tokens.numel() <= LARGEST_TABLE
        self.tokens = tokens
        if self.has_own_tables:  # (V * N, D): an id that is too large is in no instance's rows
            self.tokens = (tokens[:, None] * keys).flatten(0, 1)
        self.prefix = None if weights.prefix is None else self._mix_prefix(weights)

    def __call__(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Yield `(B, P + T, D)` embeddings of `(B, N, T)` tokens, T at most `length`."""
        num_groups, num_instances, length = input_ids.shape
        rows = input_ids.transpose(1, 2).reshape(-1, num_instances)  # (B * T, N)
        types = token_type_ids.transpose(1, 2).reshape(-1, num_instances)
        weights = self._weights(rows, types, length)
        mixed = self._mix_tokens(rows, weights)
        shares = weights.new_zeros(*rows.shape, self.num_types)
        shares.scatter_(2, types.unsqueeze(2), weights.unsqueeze(2))  # (B * T, N, S)
        mixed = mixed.addmm_(shares.flatten(1), self.types).view(num_groups, length, -1)
        if self.is_two_pass:
            mixed.addcmul_((weights @ self.keys).view_as(mixed), self.positions[:length])
        embedded: Tensor = self.norm(mixed.add_(self.constants[:length]))
        if self.prefix is None:
            return embedded
        return torch.cat([self.prefix.expand(num_groups, -1, -1), embedded], dim=1)

    def _weights(self, rows: Tensor, types: Tensor, length: int) -> Tensor:
        """Yield the scale r of each token, `(B * T, N)`."""
        if self.scales is None:
            return self.keys.new_ones(rows.shape)
        places = torch.arange(length, device=rows.device).repeat(len(rows) // length)
        columns = types * self.length + places[:, None]
        return self.scales.take(rows * (self.num_types * self.length) + columns)

    def _mix_tokens(self, rows: Tensor, weights: Tensor) -> Tensor:
        if self.has_own_tables:
            num_instances = rows.shape[1]
            slots = torch.arange(num_instances, device=rows.device)
            bags = torch.add(slots, rows, alpha=num_instances)
            return F.embedding_bag(bags, self.tokens, mode="sum", per_sample_weights=weights)
        mixed = self.keys.new_zeros(len(rows), self.keys.shape[1])
        step = max(1, NUMBERS_IN_CACHE // self.keys.shape[1])
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            for slot, key in enumerate(self.keys):
                embedded = F.embedding(rows[block, slot], self.tokens)
                mixed[block].addcmul_(embedded.mul_(weights[block, slot, None]), key)
        return mixed

    def _mix_prefix(self, weights: EmbeddingWeights) -> Tensor:
        """Yield the `(P, D)` embeddings of the prefix, the same for every group."""
        assert weights.prefix is not None
        tokens, positions = weights.prefix
        keys = weights.keys / len(weights.keys)
        if not self.is_two_pass:
            mixed: Tensor = self.norm(torch.einsum("npd,nd->pd", tokens, keys) + positions)
            return mixed
        mixed = torch.einsum("npd,nd->pd", self.norm(tokens + positions), keys)
        return self.norm(mixed + positions + weights.token_types[0])


def _centred(table: Tensor) -> Tensor:
    return table - table.mean(dim=-1, keepdim=True)


def _scales(weights: EmbeddingWeights) -> Tensor:
    """Yield r for every token, type and position, `(V, S * T)`."""
    places = weights.token_types.double()[:, None] + weights.positions.double()  # (S, T, D)
    places = _centred(places).flatten(0, 1)
    size, blocks = places.shape[1], []
    for block in weights.tokens.split(VOCABULARY_BLOCK):
        tokens = _centred(block.double())
        squares = tokens.square().sum(dim=1, keepdim=True) + places.square().sum(dim=1)
        variance = (squares + 2 * tokens @ places.T).clamp(min=0) / size
        blocks.append(torch.rsqrt(variance + weights.norm.eps).to(block.dtype))
    return torch.cat(blocks)
