"""Texts to token ids: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to a largest length.

RoBERTa's tokenizers spell these `<s> a </s>` and `<s> a </s></s> b </s>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainers.errors import CheckpointError
from trainers.special_tokens import special_tokens, token_ids


@dataclass(frozen=True)
class Encoded:
    """Token ids of many sequences, padded on the right to the longest."""

    input_ids: NDArray[np.int64]
    """`(n, T)`; the id of the padding token where padded."""
    lengths: NDArray[np.int64]
    """`(n,)` tokens of each sequence, specials included."""
    token_type_ids: NDArray[np.int64]
    """`(n, T)`; 1 in the second segment, or 0 throughout if the tokenizer does not mark it."""
    labels: NDArray[np.int64] | None = None
    """`(n,)` class ids."""

    def __len__(self) -> int:
        return len(self.lengths)


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    labels: NDArray[np.int64] | None = None,
) -> Encoded:
    """Tokenise single texts or pairs, longest segment cut first.

    Raises:
        CheckpointError: If the tokenizer lacks a special token or puts no `[CLS]` first.
    """
    names = special_tokens(tokenizer)
    pad, first = token_ids(tokenizer, (names.pad, names.first))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    inputs = [text if len(text) == 2 else text[0] for text in texts]
    encodings = tokenizer.encode_batch(inputs)
    lengths = np.array([len(e.ids) for e in encodings], dtype=np.int64)
    width = int(lengths.max()) if len(lengths) else 0
    input_ids = np.full((len(lengths), width), pad, dtype=np.int64)
    token_type_ids = np.zeros_like(input_ids)
    for row, encoding in enumerate(encodings):
        input_ids[row, : len(encoding.ids)] = encoding.ids
        token_type_ids[row, : len(encoding.ids)] = encoding.type_ids
    if any(encoding.ids[:1] != [first] for encoding in encodings):
        raise CheckpointError(
            f"The tokenizer must put {names.first} before and {names.separator} after a text, as "
            "BERT's or RoBERTa's does."
        )
    return Encoded(input_ids, lengths, token_type_ids, labels)


def special_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Yield the ids of `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` and `[MASK]`, however they are spelt.

    Raises:
        CheckpointError: If one is missing.
    """
    return token_ids(tokenizer, special_tokens(tokenizer).as_tuple())
