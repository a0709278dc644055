"""Texts to token ids: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to a largest length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainers.errors import CheckpointError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What every tokenizer of the BERT family has."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of many sequences, padded on the right to the longest."""

    input_ids: NDArray[np.int64]
    """`(n, T)`; 0 where padded."""
    lengths: NDArray[np.int64]
    """`(n,)` tokens of each sequence, specials included."""
    token_type_ids: NDArray[np.int64]
    """`(n, T)`; 1 in the second segment."""
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
        CheckpointError: If the tokenizer adds no `[CLS]` and `[SEP]`.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    inputs = [text if len(text) == 2 else text[0] for text in texts]
    encodings = tokenizer.encode_batch(inputs)
    lengths = np.array([len(e.ids) for e in encodings], dtype=np.int64)
    width = int(lengths.max()) if len(lengths) else 0
    input_ids = np.zeros((len(lengths), width), dtype=np.int64)
    token_type_ids = np.zeros_like(input_ids)
    for row, encoding in enumerate(encodings):
        input_ids[row, : len(encoding.ids)] = encoding.ids
        token_type_ids[row, : len(encoding.ids)] = encoding.type_ids
    first = tokenizer.token_to_id("[CLS]")
    if first is None or (len(lengths) and (input_ids[:, 0] != first).any()):
        raise CheckpointError(
            "The tokenizer must put [CLS] before and [SEP] after a text, as BERT's."
        )
    return Encoded(input_ids, lengths, token_type_ids, labels)


def special_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Yield the ids of `SPECIAL_TOKENS`, in their order.

    Raises:
        CheckpointError: If one is missing.
    """
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    missing = [token for token, index in ids.items() if index is None]
    if missing:
        raise CheckpointError(
            f"The tokenizer lacks {', '.join(missing)}; one of the BERT family is needed."
        )
    return tuple(index for index in ids.values() if index is not None)
