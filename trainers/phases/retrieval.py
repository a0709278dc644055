"""Naming tokens from demultiplexed states: the losses that phases share, and their score.

Symbols: `B` groups, `N` instances, `T` tokens, `D` hidden size, `V'` tokens that occur.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.data.encoding import Encoded
from trainers.measure.batching import make_batch
from trainers.measure.parts import Parts
from trainers.models.batch import Batch
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import MuxedBert
from trainers.phases.update import share

MAX_SCORED = 512
"""Held-out texts that retrieval is scored on: thousands of tokens, a second or so."""
SCORED_GROUPS = 32
"""Groups in a batch of scoring."""
LOGITS_AT_ONCE = 1 << 24
"""Numbers in a matrix of logits when scoring, 64 MiB; those of a whole batch take gigabytes."""


class Vocabulary:
    """The tokens that occur in a corpus; logits are computed over these alone.

    Args:
        corpus: Encoded texts.
        vocab_size: V.
        extra: Ids to include in any case.
    """

    def __init__(self, corpus: Encoded, vocab_size: int, extra: tuple[int, ...] = ()) -> None:
        occurring = np.union1d(np.unique(corpus.input_ids), np.array(extra, dtype=np.int64))
        self.tokens = torch.from_numpy(occurring)
        self._rank = torch.full((vocab_size,), -1)
        self._rank[self.tokens] = torch.arange(len(occurring))

    def to(self, device: torch.device) -> "Vocabulary":
        """Move to `device`."""
        self.tokens, self._rank = self.tokens.to(device), self._rank.to(device)
        return self

    def ranks(self, ids: Tensor) -> Tensor:
        """Yield the place of each id among `tokens`."""
        return self._rank[ids]


@dataclass(frozen=True)
class Slots:
    """The instances whose tokens are asked for at each position of a batch."""

    instances: Tensor
    """`(B, K, T)`: K different ones at each position."""
    is_asked: Tensor
    """`(B, K, T)` booleans: whether the instance has a token there that is asked for."""

    @classmethod
    def draw(cls, batch: Batch, per_token: int, *, skips_first: bool = False) -> "Slots":
        """Draw instances for every position anew; the global generator decides.

        Args:
            batch: `(B, N, T)` tokens.
            per_token: K; 0, or more than N, for all N.
            skips_first: True asks for nothing at the first position, `[CLS]`.
        """
        scores = torch.rand(batch.input_ids.shape, device=batch.input_ids.device)
        instances = scores.argsort(dim=1)[:, : per_token or batch.input_ids.shape[1]]
        is_asked = batch.attention_mask.gather(1, instances)
        if skips_first:
            is_asked[..., 0] = False
        return cls(instances, is_asked)

    def rows(self, rows: slice) -> "Slots":
        """Yield those of some of the groups."""
        return Slots(self.instances[rows], self.is_asked[rows])

    def share(self, whole: "Slots") -> float:
        """Yield which part of the tokens that `whole` asks for is asked for here."""
        return share(self.is_asked, whole.is_asked)


def retrieval_loss(
    model: MuxedBert,
    head: TokenHead,
    states: Tensor,
    ids: Tensor,
    vocabulary: Vocabulary,
) -> Tensor:
    """Mean cross-entropy of tokens `ids` `(K,)`, given their demultiplexed `states` `(K, D)`.

    Zero for no token at all, as small batches may have.
    """
    logits = head(states, model.embeddings.tokens.weight, vocabulary.tokens)
    total = F.cross_entropy(logits.float(), vocabulary.ranks(ids), reduction="sum")
    return total / max(1, len(ids))


def slot_loss(
    model: MuxedBert,
    head: TokenHead,
    states: Tensor,
    batch: Batch,
    slots: Slots,
    vocabulary: Vocabulary,
) -> Tensor:
    """Mean cross-entropy of the tokens asked for (DataMUX, Murahari et al. 2022, section 3).

    Args:
        model: Model that yielded the states, N > 1.
        head: Token head.
        states: `(B, T, D)` last states.
        batch: `(B, N, T)` tokens to name; what the model has read may hide some.
        slots: Which of them are asked for.
        vocabulary: Tokens that are scored.
    """
    ids = batch.input_ids.gather(1, slots.instances)
    groups, _, places = slots.is_asked.nonzero(as_tuple=True)
    chosen = groups, slots.instances[slots.is_asked], places
    return retrieval_loss(
        model, head, model.token_states(states, chosen), ids[slots.is_asked], vocabulary
    )


def bag_loss(
    model: MuxedBert, head: TokenHead, states: Tensor, batch: Batch, vocabulary: Vocabulary
) -> Tensor:
    """Mean cross-entropy of all tokens of a sequence but `[CLS]`, given its `[CLS]` state.

    Retrieval and masked-language modelling ask for a token where it stands. A wide model that has
    learned these still cannot gather what one instance says in the state that is classified; this
    loss teaches that, and names no task.

    Args:
        model: Model that yielded the states.
        head: Token head.
        states: `(B, T, D)` last states.
        batch: `(B, N, T)` tokens to name.
        vocabulary: Tokens that are scored.
    """
    logits = head(model.sequence_states(states), model.embeddings.tokens.weight, vocabulary.tokens)
    log_shares = logits.float().log_softmax(dim=-1)  # (B, N, V')
    named = log_shares.gather(2, vocabulary.ranks(batch.input_ids[..., 1:]))  # (B, N, T - 1)
    is_real = batch.attention_mask[..., 1:]
    return -(named * is_real).sum() / is_real.sum().clamp(min=1)


def bag_share(part: Batch, whole: Batch) -> float:
    """Yield which part of the tokens that `bag_loss` averages over is in `part`."""
    return share(part.attention_mask[..., 1:], whole.attention_mask[..., 1:])


@torch.no_grad()
def retrieval_accuracy(
    model: MuxedBert,
    head: TokenHead,
    texts: Encoded,
    vocabulary: Vocabulary,
    device: torch.device,
) -> float:
    """Share of the tokens of all instances, `[CLS]` left out, that the head names rightly.

    At most `MAX_SCORED` texts, grouped in their order; the last group is filled up with the first
    texts, and the filling is not counted. Tokens outside the vocabulary count as missed.

    Raises:
        OutOfMemoryError: If not even single groups fit in memory; larger batches are halved.
    """
    model.eval()
    num_texts, width = min(MAX_SCORED, len(texts)), model.shape.num_instances
    num_groups = -(-num_texts // width)
    groups = np.resize(np.arange(num_texts), (num_groups, width))
    is_counted = (np.arange(num_groups * width) < num_texts).reshape(num_groups, width)
    parts, right = Parts(), list[Tensor]()
    for chosen in np.array_split(np.arange(num_groups), -(-num_groups // SCORED_GROUPS)):
        batch = make_batch(texts, groups[chosen], device)
        is_asked = (
            batch.attention_mask & torch.from_numpy(is_counted[chosen]).to(device)[..., None]
        )
        is_asked[..., 0] = False
        are_right = partial(_are_right, model, head, batch, is_asked, vocabulary)
        right.append(parts.map(len(chosen), are_right))
    found = torch.cat(right)
    return int(found.sum()) / max(1, len(found))


def _are_right(
    model: MuxedBert,
    head: TokenHead,
    batch: Batch,
    is_asked: Tensor,
    vocabulary: Vocabulary,
    rows: slice,
) -> Tensor:
    """Yield for each token asked for, `(K,)`, whether the head names it."""
    part, table = batch.rows(rows), model.embeddings.tokens.weight
    states = model.encode(part)[-1]
    step = max(1, LOGITS_AT_ONCE // len(vocabulary.tokens))
    found = []
    for chosen in is_asked[rows].nonzero().split(step):
        group, instance, place = chosen.unbind(1)
        tokens = model.token_states(states, (group, instance, place))
        named = head(tokens, table, vocabulary.tokens).argmax(-1)
        found.append(named == vocabulary.ranks(part.input_ids[group, instance, place]))
    return torch.cat(found)
