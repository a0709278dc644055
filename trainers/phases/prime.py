"""Token-retrieval warm-up: the demultiplexer learns which token each instance has where."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.data.encoding import Encoded
from trainers.measure.batching import GroupSampler, make_batch
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
from trainers.phases.retrieval import (
    Slots,
    Vocabulary,
    bag_loss,
    bag_share,
    retrieval_accuracy,
    slot_loss,
)
from trainers.phases.update import Losses, MicroBatches


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
        # The first state names the whole sequence if it is asked for its bag.
        per_token, skips_first = self.config.slots_per_token, self.config.bag_weight > 0
        asked = Slots.draw(whole, per_token, skips_first=skips_first)
        named = (self.model, self.head)

        def losses(rows: slice) -> dict[str, Tensor]:
            batch, slots = whole.rows(rows), asked.rows(rows)
            with self.precision.autocast():
                states = self.model.encode(batch)[-1]
                loss = slot_loss(*named, states, batch, slots, self.vocabulary)
                loss = slots.share(asked) * loss
                if self.config.bag_weight > 0:
                    bag = bag_loss(*named, states, batch, self.vocabulary)
                    loss = loss + self.config.bag_weight * bag_share(batch, whole) * bag
            return {"loss": loss}

        return losses

    def evaluate(self) -> float | None:
        """Yield the share of held-out tokens that are retrieved; see `retrieval_accuracy`."""
        if self.held_out is None:
            return None
        with self.precision.autocast():
            return retrieval_accuracy(
                self.model, self.head, self.held_out, self.vocabulary, self.precision.device
            )
