"""Token, position and type embeddings, and the mixing of N sequences; tables for inference."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.errors import ShapeError
from trainers.models.batch import Batch, is_all, is_traced
from trainers.models.contextual_mux import ContextualMultiplexer
from trainers.models.encoder import masked_layer_norm
from trainers.models.folding import (
    EmbeddingWeights,
    FoldedEmbeddings,
    fingerprint,
    fold_embeddings,
)
from trainers.models.index_prefix import InstancePrefix
from trainers.models.mux import HadamardMultiplexer
from trainers.models.shape import MuxedBertShape

LARGEST_FOLDED_TABLE = 64_000_000
"""Numbers in a table (256 MB as float32) that single-pass models fold unasked; see `fold`."""


class Embeddings(nn.Module):
    """Token, position and type embeddings with layer norm, and the mixing of N sequences.

    `two_pass` (DataMUX) applies the block to each sequence and again to the mixture. `single_pass`
    mixes token and type embeddings first: h = LN(mean_i key_i * (token_i + type_i) + position), so
    that at inference each token costs one row of a table scaled by the keys beforehand. P prefix
    positions, if the demultiplexer reads any, stand before the T of the text.

    Args:
        shape: Sizes of the model.
    """

    def __init__(self, shape: MuxedBertShape) -> None:
        super().__init__()
        size = shape.hidden_size
        self.embed_mode = shape.embed_mode
        self.masks_padding = shape.mask_mode != "none"
        self.tokens = nn.Embedding(shape.vocab_size, size)
        self.positions = nn.Embedding(shape.max_positions, size)
        self.token_types = nn.Embedding(shape.num_token_types, size)
        self.norm = nn.LayerNorm(size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.dropout)
        self.mux: Multiplexer | None = None
        if shape.num_instances > 1:
            self.mux = make_multiplexer(shape)
        self.prefix = InstancePrefix(shape) if shape.num_prefix > 0 else None
        self._folded: tuple[Tensor, tuple[object, ...]] | None = None
        self._asked: tuple[FoldedEmbeddings, tuple[object, ...]] | None = None
        nn.Module.register_load_state_dict_post_hook(self, _drop_folded)

    def forward(self, batch: Batch, hidden: Tensor | None) -> Tensor:
        """Yield `(B, P + T, D)` mixed embeddings; `hidden` is the `(D,)` gate or none."""
        if hidden is None and self._may_read_tables(batch):
            assert self._asked is not None
            return self._asked[0](batch.input_ids, batch.token_type_ids)
        positions = self.positions.weight[: batch.input_ids.shape[-1]]  # (T, D)
        if self.prefix is not None:
            positions = torch.cat([self.prefix.positions.weight, positions])  # (P + T, D)
        if self.mux is not None and self.embed_mode == "single_pass":
            mixed = self._mix_tables(batch)
            return self.dropout(self._norm(mixed + positions, hidden))
        embedded = self.dropout(self._norm(self._embed(batch) + positions, hidden))
        if self.mux is None:
            return embedded.squeeze(1)
        if isinstance(self.mux, ContextualMultiplexer):
            mixed = self.mux(embedded, self._mask_of_instances(batch), hidden)
            added = positions + self.token_types.weight[0]
            return self.dropout(self._norm_gated(mixed, added, hidden))
        mixed = self.mux(embedded) + positions + self.token_types.weight[0]
        return self.dropout(self._norm(mixed, hidden))

    def train(self, mode: bool = True) -> "Embeddings":
        """Switch mode; a table folded for inference is dropped, since weights may change."""
        self._folded = self._asked = None
        super().train(mode)
        return self

    def fold(self, length: int) -> None:
        """See `MuxedBert.fold`."""
        self._asked = None
        if not isinstance(self.mux, HadamardMultiplexer) or self.training:
            return
        prefix = self.prefix
        weights = EmbeddingWeights(
            tokens=self.tokens.weight,
            positions=self.positions.weight[:length],
            token_types=self.token_types.weight,
            keys=self.mux.keys,
            norm=self.norm,
            prefix=None if prefix is None else (prefix(), prefix.positions.weight),
        )
        folded = fold_embeddings(weights, is_two_pass=self.embed_mode == "two_pass")
        self._asked = None if folded is None else (folded, fingerprint(self.parameters()))

    def _may_read_tables(self, batch: Batch) -> bool:
        """Whether `fold` made tables that hold for this batch; drop them if weights changed."""
        if self._asked is None or torch.is_grad_enabled():
            return False
        folded, made_of = self._asked
        if torch.compiler.is_compiling():  # compiled code cannot ask; its weights are fixed
            return batch.input_ids.shape[-1] <= folded.length
        if made_of != fingerprint(self.parameters()):
            self._asked = None
            return False
        device = batch.input_ids.device.type
        return (
            batch.input_ids.shape[-1] <= folded.length
            and not torch.is_autocast_enabled(device)  # it would round the products
        )

    def _norm(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        if hidden is None:
            normed: Tensor = self.norm(x)
            return normed
        return masked_layer_norm(x * hidden, self.norm, hidden)

    def _norm_gated(self, mixed: Tensor, added: Tensor, hidden: Tensor | None) -> Tensor:
        """Normalise a mixture that has the gate already and a term that has not."""
        if hidden is None:
            normed: Tensor = self.norm(mixed + added)
            return normed
        return masked_layer_norm(mixed + added * hidden, self.norm, hidden)

    def _embed(self, batch: Batch) -> Tensor:
        """Yield `(B, N, P + T, D)` token and type embeddings."""
        embedded = self.tokens(batch.input_ids) + self.token_types(batch.token_type_ids)
        if self.prefix is None:
            return embedded
        return torch.cat([self.prefix().expand(embedded.shape[0], -1, -1, -1), embedded], dim=2)

    def _mask_of_instances(self, batch: Batch) -> Tensor | None:
        """Yield `(B, N, P + T)` booleans that are false at padding, or none."""
        if not self.masks_padding or is_all(batch.attention_mask):
            return None
        num_prefix = 0 if self.prefix is None else self.prefix.positions.num_embeddings
        return F.pad(batch.attention_mask, (num_prefix, 0), value=True)

    def _mix_tables(self, batch: Batch) -> Tensor:
        assert isinstance(self.mux, HadamardMultiplexer)
        is_worth_folding = not (self.training or torch.is_grad_enabled() or is_traced())
        if not is_worth_folding or not self._can_fold():
            return self.mux(self._embed(batch))
        table = self._table()
        num_groups, num_instances, length = batch.input_ids.shape
        slots = torch.arange(num_instances, device=batch.input_ids.device)[:, None]
        num_types = num_instances * self.token_types.num_embeddings
        # Rows of types end where those of tokens begin, and count down: an id that is too large
        # lies beyond an end of the table, where it is refused, and never in another's rows.
        rows = torch.cat(
            [
                torch.add(num_types + slots, batch.input_ids, alpha=num_instances),
                torch.sub(num_types - 1 - slots, batch.token_type_ids, alpha=num_instances),
            ],
            dim=1,
        )  # (B, 2N, T)
        bags = rows.transpose(1, 2).reshape(num_groups * length, -1)
        mixed = F.embedding_bag(bags, table, mode="sum").view(num_groups, length, -1)
        if self.prefix is None:
            return mixed
        prefix = self.mux(self.prefix()[None])  # (1, P, D)
        return torch.cat([prefix.expand(num_groups, -1, -1), mixed], dim=1)

    def _can_fold(self) -> bool:
        assert isinstance(self.mux, HadamardMultiplexer)
        return len(self.mux.keys) * self.tokens.weight.numel() <= LARGEST_FOLDED_TABLE

    def _table(self) -> Tensor:
        """Yield the table of `_fold`, made anew if weights were written to, moved or cast."""
        made_of = fingerprint(self.parameters())
        if self._folded is None or self._folded[1] != made_of:
            self._folded = self._fold(), made_of
        return self._folded[0]

    def _fold(self) -> Tensor:
        assert isinstance(self.mux, HadamardMultiplexer)
        keys = self.mux.keys / len(self.mux.keys)
        tokens, types = (
            (w.weight[:, None] * keys).flatten(0, 1) for w in (self.tokens, self.token_types)
        )
        return torch.cat([types.flip(0), tokens])  # (types * N + V * N, D)


Multiplexer = HadamardMultiplexer | ContextualMultiplexer


def make_multiplexer(shape: MuxedBertShape) -> Multiplexer:
    """Build the multiplexer that the words of `shape` name.

    Raises:
        ShapeError: If they contradict each other.
    """
    if shape.multiplexer == "contextual":
        if shape.embed_mode == "single_pass":
            raise ShapeError("The contextual multiplexer needs the embed mode `two_pass`.")
        return ContextualMultiplexer(shape)
    is_learned = shape.multiplexer == "learned_hadamard"
    return HadamardMultiplexer(
        shape.num_instances, shape.hidden_size, shape.key_norm, is_learned=is_learned
    )


def _drop_folded(embeddings: nn.Module, _: object) -> None:
    assert isinstance(embeddings, Embeddings)
    embeddings._folded = embeddings._asked = None  # they hold the weights from before
