"""Masked-language modelling on multiplexed input, taught by an N = 1 model, or that alone.

Retrieval can go on beside it (`trainers.phases.retrieval`), and replaced-word detection join it
(`trainers.phases.alteration`): masked-language modelling alone teaches a small model to compare
two segments only after very many updates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from trainers.data.encoding import Encoded
from trainers.measure.batching import GroupSampler, make_batch
from trainers.models.batch import Batch
from trainers.models.heads import DetectionHead, TokenHead
from trainers.models.muxed_bert import MuxedBert
from trainers.phase_config import PretrainConfig
from trainers.phases.alteration import alter
from trainers.phases.loop import (
    clip_and_step,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from trainers.phases.losses import masked_mse
from trainers.phases.precision import Precision
from trainers.phases.retrieval import (
    Slots,
    Vocabulary,
    bag_loss,
    bag_share,
    retrieval_loss,
    slot_loss,
)
from trainers.phases.update import Losses, MicroBatches, share


def corrupt(
    batch: Batch,
    probability: float,
    special_ids: tuple[int, ...],
    mask_id: int,
    vocabulary: Vocabulary,
) -> tuple[Batch, Tensor]:
    """Choose tokens to predict and hide them: 80 % `[MASK]`, 10 % random, 10 % unchanged (BERT).

    Uses torch's global generator, which the loop seeds for every update.

    Returns:
        The corrupted batch and `(B, N, T)` booleans of the chosen tokens, never special ones.
    """
    ids = batch.input_ids
    is_special = torch.isin(ids, torch.tensor(special_ids, device=ids.device))
    chosen = (torch.rand(ids.shape, device=ids.device) < probability) & batch.attention_mask
    chosen &= ~is_special
    draw = torch.rand(ids.shape, device=ids.device)
    ranks = torch.randint(len(vocabulary.tokens), ids.shape, device=ids.device)
    hidden = torch.where(
        draw < 0.8, mask_id, torch.where(draw < 0.9, vocabulary.tokens[ranks], ids)
    )
    return replace(batch, input_ids=torch.where(chosen, hidden, ids)), chosen


@dataclass(frozen=True)
class _Drawn:
    """A batch with everything random about it."""

    clean: Batch
    """What is to be predicted."""
    batch: Batch
    """What the model reads."""
    chosen: Tensor
    """`(B, N, T)` booleans: tokens to predict."""
    is_changed: Tensor
    """`(B, N, T)` booleans: replaced words."""
    slots: Slots | None
    """Whose tokens are retrieved, if any are."""

    @property
    def is_second(self) -> Tensor:
        """`(B, N, T)` booleans: tokens of second segments."""
        return self.batch.token_type_ids == 1

    def rows(self, rows: slice) -> "_Drawn":
        """Yield some of the groups."""
        return _Drawn(
            self.clean.rows(rows),
            self.batch.rows(rows),
            self.chosen[rows],
            self.is_changed[rows],
            None if self.slots is None else self.slots.rows(rows),
        )


class PretrainProgram:
    """Masked-language modelling of all instances, plus an N = 1 model's states as targets.

    The states are matched at every real token: what the demultiplexer yields for instance i must
    be what the N = 1 model computes from sequence i alone. Both read the same tokens, some of them
    hidden; none is hidden if the weight of masked-language modelling is zero.

    Args:
        model: Model to train.
        head: Token head, trained along.
        teacher: N = 1 model with the same hidden size, fine-tuned or not, or none.
        corpus: Encoded unlabelled texts.
        special_ids: Ids never hidden; the last is `[MASK]`.
        config: Schedule and weights.
        seed: Decides groups and masks.
        precision: Autocast for the forward pass.
    """

    def __init__(
        self,
        model: MuxedBert,
        head: TokenHead,
        teacher: MuxedBert | None,
        corpus: Encoded,
        special_ids: tuple[int, ...],
        config: PretrainConfig,
        *,
        seed: int,
        precision: Precision,
    ) -> None:
        self.model, self.head, self.config, self.corpus = model, head, config, corpus
        self.teacher = (
            teacher.eval() if teacher is not None and config.distill_weight > 0 else None
        )
        self.special_ids, self.precision = special_ids, precision
        self.sampler = GroupSampler(corpus, model.shape.num_instances, config, seed)
        vocabulary = Vocabulary(corpus, model.shape.vocab_size, special_ids)
        self.vocabulary = vocabulary.to(precision.device)
        trained: dict[str, nn.Module] = {"model": model, "token_head": head}
        if config.detect_weight > 0:
            self.altered = alter(corpus, special_ids, seed)
            self.detection_head = DetectionHead(model.shape.dense_hidden_size)
            trained["detection_head"] = self.detection_head.to(precision.device)
        self.modules: Mapping[str, nn.Module] = trained
        optimizer = make_optimizer(list(trained.values()), config)
        self.optimizers: Mapping[str, Optimizer] = {"model": optimizer}
        self.micro_batches = MicroBatches()

    def update(self, step: int) -> dict[str, Tensor]:
        """See `Program.update`."""
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
        clean = make_batch(self.corpus, groups, self.precision.device)
        is_changed = torch.zeros_like(clean.attention_mask)
        if self.config.detect_weight > 0:
            clean, is_changed = self._alter(clean, groups)
        batch, chosen = self._hide(clean)
        chosen &= ~is_changed.any(dim=-1, keepdim=True)  # an altered text predicts nothing
        slots = Slots.draw(clean, 1) if self._retrieves else None
        return partial(self._losses, _Drawn(clean, batch, chosen, is_changed, slots))

    def _hide(self, clean: Batch) -> tuple[Batch, Tensor]:
        """Yield what the model reads and which tokens it is to predict."""
        if self.config.mlm_weight == 0:
            return clean, torch.zeros_like(clean.attention_mask)
        probability, ids = self.config.mask_probability, self.special_ids
        return corrupt(clean, probability, ids, ids[-1], self.vocabulary)

    @property
    def _retrieves(self) -> bool:
        return self.config.retrieval_weight > 0 and self.model.shape.num_instances > 1

    def _losses(self, whole: "_Drawn", rows: slice) -> dict[str, Tensor]:
        """Yield the weighted sum `loss` of a part of the batch, and what is in it."""
        drawn = whole.rows(rows)
        with self.precision.autocast():
            states = self.model.encode(drawn.batch)[-1]
            values = dict(self._parts(states, drawn, whole))
        loss = torch.zeros((), device=states.device)
        for name, value in values.items():
            loss = loss + self._weights[name] * value
        return {"loss": loss, **values}

    @cached_property
    def _weights(self) -> dict[str, float]:
        config = self.config
        return {
            "mlm_loss": config.mlm_weight,
            "detect_loss": config.detect_weight,
            "bag_loss": config.bag_weight,
            "retrieval_loss": config.retrieval_weight,
            "state_loss": config.distill_weight,
        }

    def _parts(
        self, states: Tensor, drawn: "_Drawn", whole: "_Drawn"
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses that count, by name, for the part of a batch that `drawn` is."""
        clean, batch, config = drawn.clean, drawn.batch, self.config
        named = (self.model, self.head)
        if config.mlm_weight > 0:
            loss = self._mlm_loss(states, clean, drawn.chosen)
            yield "mlm_loss", share(drawn.chosen, whole.chosen) * loss
        if config.detect_weight > 0:
            yield "detect_loss", self._detect_loss(states, drawn, whole)
        if config.bag_weight > 0:
            bag = bag_loss(*named, states, clean, self.vocabulary)
            yield "bag_loss", bag_share(clean, whole.clean) * bag
        if drawn.slots is not None and whole.slots is not None:
            loss = slot_loss(*named, states, clean, drawn.slots, self.vocabulary)
            yield "retrieval_loss", drawn.slots.share(whole.slots) * loss
        if self.teacher is not None:
            part = share(batch.attention_mask, whole.batch.attention_mask)
            yield "state_loss", part * self._state_loss(self.teacher, states, batch)

    def evaluate(self) -> float | None:
        """No held-out score; the last weights are kept."""
        return None

    def _alter(self, clean: Batch, groups: NDArray[np.int64]) -> tuple[Batch, Tensor]:
        """Replace half of the texts by their altered versions; the global generator draws."""
        length = clean.input_ids.shape[-1]
        is_altered = torch.rand(groups.shape)[..., None] < 0.5  # (B, N, 1)
        altered = torch.from_numpy(self.altered.input_ids[groups, :length])
        is_changed = torch.from_numpy(self.altered.is_changed[groups, :length]) & is_altered
        device = clean.input_ids.device
        ids = torch.where(is_altered.to(device), altered.to(device), clean.input_ids)
        return replace(clean, input_ids=ids), is_changed.to(device)

    def _mlm_loss(self, states: Tensor, clean: Batch, chosen: Tensor) -> Tensor:
        tokens = self.model.token_states(states, _indices(chosen))
        ids = clean.input_ids[chosen]
        return retrieval_loss(self.model, self.head, tokens, ids, self.vocabulary)

    def _detect_loss(self, states: Tensor, drawn: "_Drawn", whole: "_Drawn") -> Tensor:
        """Cross-entropy over tokens of second segments, and over sequences with one."""
        is_second, is_changed = drawn.is_second, drawn.is_changed
        if not is_second.any():
            return states.new_zeros(())  # single texts alone
        tokens = self.model.token_states(states, _indices(is_second))
        token_logits = self.detection_head.token(tokens).squeeze(-1)
        token_loss = F.binary_cross_entropy_with_logits(
            token_logits.float(), is_changed[is_second].float()
        )
        has_second = is_second.any(dim=-1)  # (B, N)
        sequences = self.model.sequence_states(states)[has_second]
        sequence_logits = self.detection_head.sequence(sequences).squeeze(-1)
        sequence_loss = F.binary_cross_entropy_with_logits(
            sequence_logits.float(), is_changed.any(dim=-1)[has_second].float()
        )
        sequence_share = share(has_second, whole.is_second.any(dim=-1))
        return share(is_second, whole.is_second) * token_loss + sequence_share * sequence_loss

    def _state_loss(self, teacher: MuxedBert, states: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            target = teacher.encode(batch.as_single())[-1]  # (B * N, T, D)
        groups, slots, places = _indices(batch.attention_mask)
        student = self.model.token_states(states, (groups, slots, places))
        target = target[groups * self.model.shape.num_instances + slots, places]
        return masked_mse(student, target, torch.ones_like(slots))


def _indices(chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Yield groups, instances and positions, `(K,)` each, where `(B, N, T)` `chosen` is true."""
    groups, slots, places = chosen.nonzero(as_tuple=True)
    return groups, slots, places
