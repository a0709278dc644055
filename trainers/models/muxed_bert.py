"""The multiplexed classifier: embeddings, multiplexer, encoder, demultiplexer, heads."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.errors import ShapeError
from trainers.models.contextual_mux import ContextualMultiplexer
from trainers.models.demux import RsaDemultiplexer
from trainers.models.encoder import Encoder, masked_layer_norm
from trainers.models.folding import (
    EmbeddingWeights,
    FoldedEmbeddings,
    fingerprint,
    fold_embeddings,
)
from trainers.models.heads import SequenceHead
from trainers.models.index_prefix import IndexPrefixDemultiplexer, InstancePrefix
from trainers.models.masks import Masks
from trainers.models.mux import HadamardMultiplexer
from trainers.models.published_demux import PublishedRsaDemultiplexer
from trainers.models.shape import MuxedBertShape

INITIAL_STD = 0.02
"""Standard deviation of new weights, as in BERT."""
LARGEST_FOLDED_TABLE = 64_000_000
"""Numbers in a table (256 MB as float32) that single-pass models fold unasked; see `fold`."""
CHUNK_SIZE = 2**20
"""Numbers in the hidden states (4 MB as float32) that a CPU thread takes through all layers at a
time: few enough to stay in its caches, enough for whole matrix products."""


@dataclass(frozen=True)
class Batch:
    """Token ids of groups of sequences, each `(B, N, T)`; `attention_mask` is boolean."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move to `device`."""
        return Batch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.token_type_ids.to(device),
        )

    def split(self, num_groups: int) -> Iterator["Batch"]:
        """Yield batches of at most `num_groups` groups, in order."""
        parts = (self.input_ids, self.attention_mask, self.token_type_ids)
        for chunk in zip(*(part.split(num_groups) for part in parts), strict=True):
            yield Batch(*chunk)

    def as_single(self) -> "Batch":
        """Yield the same sequences as groups of one, `(B * N, 1, T)`, in order."""
        length = self.input_ids.shape[-1]
        return Batch(
            self.input_ids.reshape(-1, 1, length),
            self.attention_mask.reshape(-1, 1, length),
            self.token_type_ids.reshape(-1, 1, length),
        )


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
        self.masks_padding = shape.mask_mode == "union"
        self.tokens = nn.Embedding(shape.vocab_size, size)
        self.positions = nn.Embedding(shape.max_positions, size)
        self.token_types = nn.Embedding(shape.num_token_types, size)
        self.norm = nn.LayerNorm(size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.dropout)
        self.mux: Multiplexer | None = None
        if shape.num_instances > 1:
            self.mux = make_multiplexer(shape)
        self.prefix = InstancePrefix(shape) if shape.num_prefix > 0 else None
        self._folded: Tensor | None = None
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
        if self._folded is None:
            self._folded = self._fold()
        num_groups, num_instances, length = batch.input_ids.shape
        vocab_size, num_types = self.tokens.num_embeddings, self.token_types.num_embeddings
        slots = torch.arange(num_instances, device=batch.input_ids.device)[:, None]
        rows = torch.cat(
            [
                batch.input_ids + slots * vocab_size,
                batch.token_type_ids + slots * num_types + num_instances * vocab_size,
            ],
            dim=1,
        )  # (B, 2N, T)
        bags = rows.transpose(1, 2).reshape(num_groups * length, -1)
        mixed = F.embedding_bag(bags, self._folded, mode="sum").view(num_groups, length, -1)
        if self.prefix is None:
            return mixed
        prefix = self.mux(self.prefix()[None])  # (1, P, D)
        return torch.cat([prefix.expand(num_groups, -1, -1), mixed], dim=1)

    def _can_fold(self) -> bool:
        assert isinstance(self.mux, HadamardMultiplexer)
        return len(self.mux.keys) * self.tokens.weight.numel() <= LARGEST_FOLDED_TABLE

    def _fold(self) -> Tensor:
        assert isinstance(self.mux, HadamardMultiplexer)
        keys = self.mux.keys[:, None] / len(self.mux.keys)  # (N, 1, D)
        tables = [(keys * w.weight).flatten(0, 1) for w in (self.tokens, self.token_types)]
        return torch.cat(tables)  # (N * V + N * types, D)


class MuxedBert(nn.Module):
    """Multiplexed encoder with its classification head.

    Args:
        shape: Sizes; `num_instances` = 1 gives plain BERT with its pooler.
    """

    def __init__(self, shape: MuxedBertShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.encoder = Encoder(shape)
        self.demux: Demultiplexer | None = None
        self.pooler: nn.Linear | None = None
        if shape.num_instances > 1:
            self.demux = make_demultiplexer(shape)
        else:
            self.pooler = nn.Linear(shape.hidden_size, shape.dense_hidden_size)
        self.sequence_head = SequenceHead(
            shape.dense_hidden_size, shape.num_classes, shape.dropout
        )
        self.apply(initialise)

    def encode(self, batch: Batch, masks: Masks | None = None) -> list[Tensor]:
        """Yield the mixed `(B, P + T, D)` states after each layer; see `attended` for P.

        Raises:
            ShapeError: If the batch has another N or is longer than the position table.
        """
        return self.encoder(*self._embed(batch, masks), masks)

    def attended(self, batch: Batch) -> Tensor:
        """Yield `(B, P + T)` booleans: the prefix, and where any instance has a token.

        P is 0, but N with the demultiplexer `index_prefix`.
        """
        return F.pad(batch.attention_mask.any(dim=1), (self.shape.num_prefix, 0), value=True)

    def _embed(self, batch: Batch, masks: Masks | None) -> tuple[Tensor, Tensor | None]:
        """Yield `(B, P + T, D)` embeddings and the `(B, P + T)` mask, if one is needed."""
        _, num_instances, length = batch.input_ids.shape
        if num_instances != self.shape.num_instances:
            raise ShapeError(
                f"The model multiplexes {self.shape.num_instances} instances, got {num_instances}."
            )
        if length > self.shape.max_positions:
            raise ShapeError(
                f"Sequences have at most {self.shape.max_positions} tokens, got {length}."
            )
        states = self.embeddings(batch, None if masks is None else masks.hidden)
        return states, self.attended(batch) if self._needs_mask(batch) else None

    def classify(self, states: Tensor) -> Tensor:
        """Yield `(B, N, C)` logits of the `(B, P + T, D)` last states, from `[CLS]` alone."""
        logits: Tensor = self.sequence_head(self.sequence_states(states))
        return logits

    def sequence_states(self, states: Tensor) -> Tensor:
        """Yield `(B, N, dense)` states of the sequences from the `(B, P + T, D)` last states.

        States after `[CLS]`, the first of the text, are not read and may be left out.
        """
        if self.demux is not None:
            return self.demux.sequences(states)
        assert self.pooler is not None
        return torch.tanh(self.pooler(states[:, 0])).unsqueeze(1)

    def token_states(
        self, states: Tensor, chosen: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> Tensor:
        """Yield the states of each instance's tokens from the `(B, P + T, D)` last states.

        Args:
            states: Last states, mixed.
            chosen: Groups, instances and positions in the text, `(K,)` each; without it, all.

        Returns:
            `(K, dense)` with `chosen`, else `(B, T, N, dense)`.
        """
        if self.demux is not None:
            return self.demux.tokens(states, chosen)
        return states.unsqueeze(2) if chosen is None else states[chosen[0], chosen[2]]

    def forward(self, batch: Batch, masks: Masks | None = None) -> Tensor:
        """Yield `(B, N, C)` logits in input order; see `encode` for errors."""
        if masks is not None:
            return self.classify(self.encode(batch, masks)[-1])
        num_read = self.shape.num_prefix + 1  # with [CLS]
        states = [
            self.encoder.first_states(*self._embed(chunk, None), num_read)
            for chunk in self._chunks(batch)
        ]
        return self.classify(states[0] if len(states) == 1 else torch.cat(states))

    def fold(self, length: int | None = None) -> None:
        """Make the tables that let a wide model in evaluation mode embed with one look-up.

        The logits without gradients stay the same up to rounding. Making the tables takes about a
        second, and each of the two has up to 512 MB (docs/speed.md). They are in no state dict. A
        change of the weights, a move or `train` drops them, and the model is as before. Nothing is
        folded with N = 1, with the contextual multiplexer, in training, in half precision or if
        the scales of all tokens at `length` positions would take more; autocast ignores tables.

        Args:
            length: Tokens in the longest sequence to come, without it as many as the model takes;
                batches of longer ones are embedded without the tables.
        """
        self.embeddings.fold(self.shape.max_positions if length is None else length)

    def _chunks(self, batch: Batch) -> Iterator[Batch]:
        """Yield what goes through the layers at a time: all, or what the caches of a CPU hold.

        Groups do not depend on each other, so the states are the same. Only `inference_mode` is
        cut up; nothing is trained in it.
        """
        is_chunked = torch.is_inference_mode_enabled() and batch.input_ids.device.type == "cpu"
        if not is_chunked or torch.compiler.is_compiling():
            return iter([batch])
        size = (batch.input_ids.shape[-1] + self.shape.num_prefix) * self.shape.hidden_size
        return batch.split(max(1, CHUNK_SIZE * torch.get_num_threads() // size))

    def _needs_mask(self, batch: Batch) -> bool:
        if self.shape.num_instances > 1 and self.shape.mask_mode == "none":
            return False
        return not is_all(batch.attention_mask.any(dim=1))


def is_traced() -> bool:
    """True while torch records a graph, which must serve batches with other contents too."""
    return torch.compiler.is_compiling()


def is_all(mask: Tensor) -> bool:
    """True if `mask` is true throughout; never in a traced graph, where that is open."""
    return not is_traced() and bool(mask.all())


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


Demultiplexer = RsaDemultiplexer | PublishedRsaDemultiplexer | IndexPrefixDemultiplexer
"""Every one has `tokens`, `sequences` and `state_inputs`."""


def make_demultiplexer(shape: MuxedBertShape) -> Demultiplexer:
    """Build the demultiplexer that the words of `shape` name."""
    sizes = (
        shape.num_instances,
        shape.hidden_size,
        shape.dense_hidden_size,
        shape.num_demux_layers,
        shape.layer_norm_eps,
    )
    if shape.demultiplexer == "index_prefix":
        return IndexPrefixDemultiplexer(*sizes)
    if shape.demux_norm == "published":
        return PublishedRsaDemultiplexer(*sizes, shape.dropout)
    return RsaDemultiplexer(*sizes)


def _drop_folded(embeddings: nn.Module, _: object) -> None:
    assert isinstance(embeddings, Embeddings)
    embeddings._folded = embeddings._asked = None  # they hold the weights from before


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the weights of a linear or embedding layer as BERT does; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
