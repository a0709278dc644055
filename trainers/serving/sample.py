"""Sequences that an exported model is compared with its checkpoint on.

R rows, a multiple of N; T tokens.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from trainers.config import DataConfig
from trainers.data.builtin import generate
from trainers.data.encoding import Encoded, encode
from trainers.data.load import load_splits
from trainers.data.tasks import Task
from trainers.errors import ConfigError, DataError
from trainers.models.batch import Batch

NUM_ROWS = 256
"""Sequences of a sample; some more, so that all groups are full, some fewer if there are fewer."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Texts, and what a model reads of them."""

    texts: tuple[tuple[str, ...], ...]
    """R rows of one or two texts."""
    encoded: Encoded
    """Their tokens."""
    why_made_up: str
    """Why the validation set could not be read; empty if the texts are of it."""

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `token_type_ids`, `(R, T)` whole numbers each."""
        encoded = self.encoded
        is_real = np.arange(encoded.input_ids.shape[1]) < encoded.lengths[:, None]
        return {
            "input_ids": torch.from_numpy(encoded.input_ids),
            "attention_mask": torch.from_numpy(is_real.astype(np.int64)),
            "token_type_ids": torch.from_numpy(encoded.token_type_ids),
        }

    def groups(self, num_instances: int) -> Batch:
        """Yield the rows as groups of rows that follow one another."""
        length = self.rows["input_ids"].shape[1]
        ids, mask, types = (
            self.rows[name].view(-1, num_instances, length)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        return Batch(ids, mask != 0, types)


def draw_sample(
    config: DataConfig,
    task: Task,
    tokenizer: Tokenizer,
    num_instances: int,
    fingerprint: str | None = None,
) -> Sample:
    """Yield the first validation examples, or made-up texts where these cannot be read.

    Args:
        config: Where the validation set is, and the length of a sequence.
        task: Its texts are single ones or pairs.
        tokenizer: Of the model.
        num_instances: N.
        fingerprint: Of the data that the model was measured on; others are not taken for them.
            None takes whatever is there.
    """
    texts, why_made_up = _read_texts(config, task, fingerprint)
    num_groups = -(-min(NUM_ROWS, len(texts)) // num_instances)
    chosen = [texts[i] for i in np.resize(np.arange(len(texts)), num_groups * num_instances)]
    return Sample(tuple(chosen), encode(tokenizer, chosen, config.max_length), why_made_up)


def _read_texts(
    config: DataConfig, task: Task, fingerprint: str | None
) -> tuple[tuple[tuple[str, ...], ...], str]:
    try:
        splits = load_splits(config, task)
    except (DataError, ConfigError) as error:
        why_made_up = str(error)
    else:
        if fingerprint in (None, splits.fingerprint):
            return splits.validation.texts, ""
        why_made_up = f"`{config.source}` holds other examples than in training."
    likeness = "qnli" if len(task.text_columns) == 2 else "sst2"
    return generate(likeness, NUM_ROWS, config.seed, "validation").texts, why_made_up
