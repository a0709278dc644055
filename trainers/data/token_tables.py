"""Token ids of many sequences as arrays without padding; n sequences, K tokens in all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

NO_TOKENS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class TokenTable:
    """Token ids of sequences one after the other, specials included, not padded."""

    ids: NDArray[np.int32]
    """`(K,)` tokens of all sequences."""
    types: NDArray[np.int32]
    """`(K,)` segment of every token."""
    lengths: NDArray[np.int64]
    """`(n,)` tokens of each sequence."""
    cut: frozenset[int]
    """Places of the sequences that were longer than the limit and lost their end."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """`(n,)` place of the first token of each sequence."""
        return starts_of(self.lengths)

    @classmethod
    def join(cls, tables: Sequence["TokenTable"]) -> "TokenTable":
        """Yield the sequences of all tables, in order."""
        if not tables:
            return cls(NO_TOKENS, NO_TOKENS, np.zeros(0, np.int64), frozenset())
        before = np.cumsum([0, *map(len, tables)]).tolist()
        pairs = zip(before, tables, strict=False)
        return cls(
            np.concatenate([table.ids for table in tables]),
            np.concatenate([table.types for table in tables]),
            np.concatenate([table.lengths for table in tables]),
            frozenset(first + place for first, table in pairs for place in table.cut),
        )


def lengths_of(lists: Sequence[Sequence[object]]) -> NDArray[np.int64]:
    """Yield the length of each list."""
    return np.fromiter(map(len, lists), np.int64, len(lists))


def flatten(lists: Sequence[Sequence[int]], lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    """Yield the numbers of all lists, one after the other."""
    return np.fromiter(chain.from_iterable(lists), np.int32, int(lengths.sum()))


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Yield where each of some runs begins that follow one another."""
    return np.cumsum(lengths) - lengths
