"""The multiplexed classifier: embeddings, multiplexer, encoder, demultiplexer, heads."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.errors import ShapeError
from trainers.models.batch import Batch, check_ids, check_sizes, is_all, is_traced
from trainers.models.demux import RsaDemultiplexer
from trainers.models.embeddings import Embeddings
from trainers.models.encoder import Encoder
from trainers.models.heads import SequenceHead
from trainers.models.index_prefix import IndexPrefixDemultiplexer
from trainers.models.masks import Masks, check_masks
from trainers.models.published_demux import PublishedRsaDemultiplexer
from trainers.models.shape import MuxedBertShape

INITIAL_STD = 0.02
"""Standard deviation of new weights, as in BERT."""
CHUNK_SIZE = 2**20
"""Numbers in the hidden states (4 MB as float32) that a CPU thread takes through all layers at a
time: few enough to stay in its caches, enough for whole matrix products."""


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
            ShapeError: If the batch has another N, is longer than the position table, has parts of
                different shapes or, on a CPU, ids that are in no table; or if the masks are of
                another shape, or of a model that is compacted already.
        """
        if masks is not None and not is_traced():
            check_masks(masks, self.shape)
        return self.encoder(*self._embed(batch, masks), masks)

    def attended(self, batch: Batch) -> Tensor:
        """Yield `(B, P + T)` booleans: the prefix, and where any instance has a token.

        P is 0, but N with the demultiplexer `index_prefix`.
        """
        return F.pad(batch.attention_mask.any(dim=1), (self.shape.num_prefix, 0), value=True)

    def _embed(self, batch: Batch, masks: Masks | None) -> tuple[Tensor, Tensor | None]:
        """Yield `(B, P + T, D)` embeddings and the `(B, P + T)` mask, if one is needed."""
        if not is_traced():
            check_sizes(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        _, num_instances, length = batch.input_ids.shape
        if num_instances != self.shape.num_instances:
            raise ShapeError(
                f"The model multiplexes {self.shape.num_instances} instances, got {num_instances}."
            )
        if length > self.shape.max_positions:
            raise ShapeError(
                f"Sequences have at most {self.shape.max_positions} tokens, got {length}."
            )
        states = self._look_up(batch, None if masks is None else masks.hidden)
        return states, self.attended(batch) if self._needs_mask(batch) else None

    def _look_up(self, batch: Batch, hidden: Tensor | None) -> Tensor:
        """Yield the embeddings; ids that a table refused are told as an error of ours."""
        if is_traced():
            embedded: Tensor = self.embeddings(batch, hidden)
            return embedded
        try:
            return self.embeddings(batch, hidden)
        except (IndexError, RuntimeError):
            if batch.input_ids.device.type == "cpu":  # a GPU is lost after such an error
                check_ids(batch, self.shape.vocab_size, self.shape.num_token_types)
            raise

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
        num_read = self.shape.num_prefix + 1  # with [CLS]
        if masks is not None:
            embedded = self._embed(batch, masks)
            return self.classify(self.encoder.first_states(*embedded, num_read, masks))
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
        if torch.compiler.is_compiling():  # it cannot ask for the mode
            return iter([batch])
        is_chunked = torch.is_inference_mode_enabled() and batch.input_ids.device.type == "cpu"
        if not is_chunked:
            return iter([batch])
        size = (batch.input_ids.shape[-1] + self.shape.num_prefix) * self.shape.hidden_size
        return batch.split(max(1, CHUNK_SIZE * torch.get_num_threads() // size))

    def _needs_mask(self, batch: Batch) -> bool:
        if self.shape.num_instances > 1 and self.shape.mask_mode != "union":
            return False
        return not is_all(batch.attention_mask.any(dim=1))


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


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the weights of a linear or embedding layer as BERT does; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
