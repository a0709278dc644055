"""Pairs whose second segment no longer agrees with the first: what replaced-word detection finds.

ELECTRA (Clark et al. 2020) learns faster than masked-language modelling because every token has a
target. Its generator is here a table of the words seen between the same two neighbours: a word of
the second segment that also stands in the first gives way to such a plausible other one, or
changes places with another shared word. Noticing that takes a comparison of the segments.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.encoding import Encoded

SWAP_PROBABILITY = 0.4
"""Share of alterations that swap two words where the text allows it: who did what to whom."""
MIN_ALTERNATIVES = 4
"""Words seen between the same neighbours that a place needs; fewer are grammar, not content."""


@dataclass(frozen=True)
class Altered:
    """An altered version of every text that allows one."""

    input_ids: NDArray[np.int64]
    """`(n, T)`; equal to the originals where there is no alteration."""
    is_changed: NDArray[np.bool_]
    """`(n, T)`."""


def alter(corpus: Encoded, special_ids: tuple[int, ...], seed: int) -> Altered:
    """Alter the second segment of every pair that shares content words with its first.

    Args:
        corpus: Encoded single texts and pairs; single texts stay as they are.
        special_ids: Ids that are never words.
        seed: Decides places and words.
    """
    rng = np.random.default_rng(seed)
    alternatives = _alternatives(corpus, special_ids)
    ids = corpus.input_ids.copy()
    for row, length in enumerate(corpus.lengths):
        original = corpus.input_ids[row, :length]
        types = corpus.token_type_ids[row, :length]
        first = set(original[types == 0].tolist()) - set(special_ids)
        places = [
            int(t)
            for t in np.flatnonzero(types == 1)
            if int(original[t]) in first
            and len(alternatives[int(original[t - 1]), int(original[t + 1])]) >= MIN_ALTERNATIVES
        ]
        if places:
            _alter_row(ids[row], places, alternatives, rng)
    return Altered(ids, ids != corpus.input_ids)


def _alternatives(
    corpus: Encoded, special_ids: tuple[int, ...]
) -> dict[tuple[int, int], list[int]]:
    seen = defaultdict[tuple[int, int], set[int]](set)
    for row, length in zip(corpus.input_ids, corpus.lengths, strict=True):
        words = row[:length].tolist()
        for before, word, after in zip(words, words[1:], words[2:], strict=False):
            if word not in special_ids:
                seen[before, after].add(word)
    found = defaultdict[tuple[int, int], list[int]](list)
    found.update({key: sorted(words) for key, words in seen.items()})
    return found


def _alter_row(
    ids: NDArray[np.int64],
    places: list[int],
    alternatives: dict[tuple[int, int], list[int]],
    rng: np.random.Generator,
) -> None:
    place = places[int(rng.integers(len(places)))]
    word = int(ids[place])
    plausible = alternatives[int(ids[place - 1]), int(ids[place + 1])]
    partners = [p for p in places if int(ids[p]) != word and int(ids[p]) in plausible]
    if partners and rng.random() < SWAP_PROBABILITY:
        partner = partners[int(rng.integers(len(partners)))]
        ids[place], ids[partner] = ids[partner], ids[place]
        return
    others = [other for other in plausible if other != word]
    ids[place] = others[int(rng.integers(len(others)))]
