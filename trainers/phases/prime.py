"""Token-retrieval warm-up: the demultiplexer learns which token each instance has where."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from trainers.data.encoding import Encoded
from trainers.measure.batching import GroupSampler, make_batch
from trainers.models.batch import Batch
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import MuxedBert
from trainers.phase_config import PrimeConfig
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.precision import Precision
from trainers.phases.update import Losses, MicroBatches, share

MAX_SCORED = 512
"""Held-out texts that retrieval is scored on: thousands of tokens, a second or so."""
SCORED_GROUPS = 32
"""Groups in a batch of scoring."""


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
    """
    model.eval()
    num_texts, width = min(MAX_SCORED, len(texts)), model.shape.num_instances
    num_groups = -(-num_texts // width)
    groups = np.resize(np.arange(num_texts), (num_groups, width))
    is_counted = (np.arange(num_groups * width) < num_texts).reshape(num_groups, width)
    right = total = 0
    for chosen in np.array_split(np.arange(num_groups), -(-num_groups // SCORED_GROUPS)):
        batch = make_batch(texts, groups[chosen], device)
        is_asked = (
            batch.attention_mask & torch.from_numpy(is_counted[chosen]).to(device)[..., None]
        )
        is_asked[..., 0] = False
        group, instance, place = is_asked.nonzero(as_tuple=True)
        states = model.token_states(model.encode(batch)[-1], (group, instance, place))
        logits = head(states, model.embeddings.tokens.weight, vocabulary.tokens)
        right += int((logits.argmax(-1) == vocabulary.ranks(batch.input_ids[is_asked])).sum())
        total += len(states)
    return right / max(1, total)


class PrimeProgram:
    """Predict, at every position, the tokens of randomly chosen instances (DataMUX, section 3).

    Args:
        model: Model to train, N > 1.
        head: Token head, trained along.
        corpus: Encoded unlabelled texts.
        config: Schedule.
        seed: Decides groups and slots.
        precision: Autocast for the forward pass.
        held_out: Encoded texts to score the retrieval on; None for no score.
    """

    def __init__(
        self,
        model: MuxedBert,
        head: TokenHead,
        corpus: Encoded,
        config: PrimeConfig,
        *,
        seed: int,
        precision: Precision,
        held_out: Encoded | None = None,
    ) -> None:
        self.model, self.head, self.corpus, self.config = model, head, corpus, config
        self.precision, self.held_out = precision, held_out
        self.sampler = GroupSampler(corpus, model.shape.num_instances, config, seed)
        self.vocabulary = Vocabulary(corpus, model.shape.vocab_size).to(precision.device)
        self.modules: Mapping[str, nn.Module] = {"model": model, "token_head": head}
        optimizer = make_optimizer([model, head], config)
        self.optimizers: Mapping[str, Optimizer] = {"model": optimizer}
        self.micro_batches = MicroBatches()

    def update(self, step: int) -> dict[str, Tensor]:
        """See `Program.update`; the global generator, seeded for this step, draws the slots."""
        self.model.train()
        optimizer = self.optimizers["model"]
        set_learning_rate(optimizer, learning_rate(self.config, step))
        groups = self.sampler.groups(step)
        totals = self.micro_batches.sum_gradients(
            self.precision, self.optimizers, len(groups), lambda: self._draw(groups)
        )
        clip_and_step(optimizer)
        return totals

    def _draw(self, groups: NDArray[np.int64]) -> Losses:
        whole = make_batch(self.corpus, groups, self.precision.device)
        slots, is_asked = self._draw_slots(whole)

        def losses(rows: slice) -> dict[str, Tensor]:
            batch, part = whole.rows(rows), share(is_asked[rows], is_asked)
            with self.precision.autocast():
                states = self.model.encode(batch)[-1]
                loss = part * self._retrieval_loss(states, batch, slots[rows], is_asked[rows])
                if self.config.bag_weight > 0:
                    bag = bag_loss(self.model, self.head, states, batch, self.vocabulary)
                    loss = loss + self.config.bag_weight * bag_share(batch, whole) * bag
            return {"loss": loss}

        return losses

    def _retrieval_loss(
        self, states: Tensor, batch: Batch, slots: Tensor, is_asked: Tensor
    ) -> Tensor:
        ids = batch.input_ids.gather(1, slots)
        groups, _, places = is_asked.nonzero(as_tuple=True)
        tokens = self.model.token_states(states, (groups, slots[is_asked], places))
        return retrieval_loss(self.model, self.head, tokens, ids[is_asked], self.vocabulary)

    def _draw_slots(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Draw different instances at each position, all of them if K = N.

        Returns:
            `(B, K, T)` instances, and whether there is a token that is asked for.
        """
        num_slots = self.config.slots_per_token or batch.input_ids.shape[1]
        scores = torch.rand(batch.input_ids.shape, device=batch.input_ids.device)
        slots = scores.argsort(dim=1)[:, :num_slots]
        is_asked = batch.attention_mask.gather(1, slots)
        if self.config.bag_weight > 0:
            is_asked[..., 0] = False  # this state names the whole sequence
        return slots, is_asked

    def evaluate(self) -> float | None:
        """Yield the share of held-out tokens that are retrieved; see `retrieval_accuracy`."""
        if self.held_out is None:
            return None
        with self.precision.autocast():
            return retrieval_accuracy(
                self.model, self.head, self.held_out, self.vocabulary, self.precision.device
            )
