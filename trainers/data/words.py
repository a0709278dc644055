"""Texts to token ids at the speed that serving needs, without padding.

BERT's tokenizers part texts at spaces first, so no token depends on another word. `WordEncoder`
passes each distinct word through the tokenizer once and remembers its ids, which takes a fraction
of the time; every other tokenizer is called for every text. Both yield the same ids as `encode` of
`trainers.data.encoding`.

K tokens in all; a segment is what one text becomes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from trainers.data.token_tables import NO_TOKENS, TokenTable, flatten, lengths_of, starts_of
from trainers.errors import CheckpointError, ConfigError
from trainers.special_tokens import special_tokens, token_ids

LARGEST_MEMO = 200_000
"""Remembered words (some 30 MB); more than that, and all are forgotten."""
CHUNK_CHARACTERS = 1_000_000
"""Text that is tokenised at a time: each of its tokens takes some 100 bytes until then."""


class TextEncoder(Protocol):
    """Tokenises single texts or pairs, longest segment cut first."""

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> TokenTable:
        """Yield the tokens of each text or pair, in order."""


def make_encoder(tokenizer: Tokenizer, max_length: int, num_texts: int) -> TextEncoder:
    """Choose the fastest encoder that a tokenizer allows; the tokenizer itself stays as it is.

    Args:
        tokenizer: One of the BERT or the RoBERTa family.
        max_length: Largest number of tokens, specials included.
        num_texts: Largest number of texts in a sequence, 1 or 2.

    Raises:
        CheckpointError: If the tokenizer lacks a special token or puts no `[CLS]` first.
        ConfigError: If `max_length` leaves no room for a token of each text.
    """
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.no_truncation()
    smallest = own.num_special_tokens_to_add(num_texts == 2) + num_texts
    if max_length < smallest:
        raise ConfigError(
            f"`max_length` must be at least {smallest}, so that each text has a token beside the "
            f"special ones, got {max_length}."
        )
    _check_first(own)
    if _parts_at_spaces(own):
        return WordEncoder(own, max_length)
    return LibraryEncoder(own, max_length)


class LibraryEncoder:
    """Leaves everything to the tokenizer.

    Args:
        tokenizer: Its settings are changed.
        max_length: Largest number of tokens.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        tokenizer.enable_truncation(max_length, strategy="longest_first")
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> TokenTable:
        """See `TextEncoder`."""
        return TokenTable.join([self._encode(chunk) for chunk in _chunks(texts)])

    def _encode(self, texts: Sequence[tuple[str, ...]]) -> TokenTable:
        inputs = [text if len(text) == 2 else text[0] for text in texts]
        encodings = self.tokenizer.encode_batch_fast(inputs)
        ids = [encoding.ids for encoding in encodings]
        lengths = lengths_of(ids)
        full = np.flatnonzero(lengths == self.max_length).tolist()
        return TokenTable(
            flatten(ids, lengths),
            flatten([encoding.type_ids for encoding in encodings], lengths),
            lengths,
            frozenset(place for place in full if encodings[place].overflowing),
        )


class WordEncoder:
    """Remembers the ids of every word between two spaces.

    Args:
        tokenizer: One that parts texts at spaces; it must neither cut nor pad.
        max_length: Largest number of tokens.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.max_length = max_length
        self._frames = {
            1: _Frame.read(tokenizer.encode("a"), 1),
            2: _Frame.read(tokenizer.encode("a", "a"), 2),
        }
        counts = (0, *(frame.num_special for frame in self._frames.values()))
        self._num_special = np.array(counts)
        """By the number of texts."""
        self._memo = _WordMemo(tokenizer)

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> TokenTable:
        """See `TextEncoder`."""
        if len(self._memo.numbers) > LARGEST_MEMO:
            self._memo.clear()
        return TokenTable.join([self._encode(chunk) for chunk in _chunks(texts)])

    def _encode(self, texts: Sequence[tuple[str, ...]]) -> TokenTable:
        words = [text.split(" ") for text in chain.from_iterable(texts)]
        num_words = lengths_of(words)
        starts, sizes = self._memo.find(chain.from_iterable(words), int(num_words.sum()))
        lengths = np.add.reduceat(sizes, starts_of(num_words))  # of the segments, before the cut
        num_texts = lengths_of(texts)
        kept, cut = self._cut(lengths, num_texts)
        table, first, kinds = self._frame(kept, num_texts, cut)
        places = np.repeat(first - starts_of(lengths), lengths) + np.arange(lengths.sum())  # (K,)
        types = np.repeat(kinds, lengths)
        tokens = self._memo.tokens[
            np.repeat(starts - starts_of(sizes), sizes) + np.arange(len(types))
        ]
        if cut:
            is_kept = places < np.repeat(first + kept, lengths)
            places, types, tokens = places[is_kept], types[is_kept], tokens[is_kept]
        table.ids[places], table.types[places] = tokens, types
        return table

    def _cut(
        self, lengths: NDArray[np.int64], num_texts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], frozenset[int]]:
        """Yield how many tokens of each segment stay, and the places of the cut sequences."""
        first = starts_of(num_texts)
        room = self.max_length - self._num_special[num_texts]
        cut = np.flatnonzero(np.add.reduceat(lengths, first) > room).tolist()
        kept = lengths.copy()
        for place in cut:
            span = slice(first[place], first[place] + num_texts[place])
            kept[span] = _longest_first(lengths[span].tolist(), int(room[place]))
        return kept, frozenset(cut)

    def _frame(
        self, kept: NDArray[np.int64], num_texts: NDArray[np.int64], cut: frozenset[int]
    ) -> tuple[TokenTable, NDArray[np.int64], NDArray[np.int32]]:
        """Yield a table with the special tokens alone, and start and type of every segment."""
        first_segment = starts_of(num_texts)
        lengths = np.add.reduceat(kept, first_segment) + self._num_special[num_texts]
        ids, types = np.zeros((2, lengths.sum()), np.int32)
        table = TokenTable(ids, types, lengths, cut)
        starts, kinds = np.zeros_like(kept), np.zeros(len(kept), np.int32)
        for count, frame in self._frames.items():
            rows = np.flatnonzero(num_texts == count)
            place = table.starts[rows]
            for segment in range(count + 1):
                for token, kind in zip(
                    frame.specials[segment], frame.special_types[segment], strict=True
                ):
                    table.ids[place], table.types[place] = token, kind
                    place = place + 1
                if segment < count:
                    index = first_segment[rows] + segment
                    starts[index], kinds[index] = place, frame.segment_types[segment]
                    place = place + kept[index]
        return table, starts, kinds


class _WordMemo:
    """Token ids of the words met so far."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.clear()

    def clear(self) -> None:
        self.numbers = _Numbers()
        self.tokens = NO_TOKENS
        """Of all words, in the order of their numbers."""
        self._sizes = np.zeros(0, np.int64)

    def find(
        self, words: Iterable[str], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Yield where in `tokens` those of each word start, and how many they are."""
        numbers = np.fromiter(map(self.numbers.__getitem__, words), np.int64, count)
        num_new = len(self.numbers) - len(self._sizes)
        if num_new:
            self._learn(list(islice(reversed(self.numbers), num_new))[::-1])
        return starts_of(self._sizes)[numbers], self._sizes[numbers]

    def _learn(self, words: list[str]) -> None:
        tokens, sizes = [self.tokens], [self._sizes]
        for chunk in _chunks([(word,) for word in words]):
            spelt = [word for (word,) in chunk]
            encodings = self.tokenizer.encode_batch_fast(spelt, add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            sizes.append(lengths_of(ids))
            tokens.append(flatten(ids, sizes[-1]))
        self.tokens, self._sizes = np.concatenate(tokens), np.concatenate(sizes)


class _Numbers(dict[str, int]):
    """Numbers new words in the order in which they are asked for."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class _Frame:
    """Special tokens around one or two segments, and the token types of all."""

    specials: list[list[int]]
    special_types: list[list[int]]
    segment_types: list[int]

    @classmethod
    def read(cls, encoding: Encoding, num_texts: int) -> "_Frame":
        """Take apart how the tokenizer encodes texts of one word."""
        specials: list[list[int]] = [[] for _ in range(num_texts + 1)]
        special_types: list[list[int]] = [[] for _ in range(num_texts + 1)]
        segment_types, place = [0] * num_texts, 0
        for token, kind, segment in zip(
            encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True
        ):
            if segment is None:
                specials[place].append(token)
                special_types[place].append(kind)
            else:
                place, segment_types[segment] = segment + 1, kind
        return cls(specials, special_types, segment_types)

    @property
    def num_special(self) -> int:
        return sum(map(len, self.specials))


def _longest_first(lengths: list[int], room: int) -> list[int]:
    """Yield how many tokens of each segment stay, as the tokenizers library cuts them."""
    if len(lengths) == 1:
        return [room]
    short, long = sorted(lengths)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return [short, long] if lengths[0] <= lengths[1] else [long, short]


def _parts_at_spaces(tokenizer: Tokenizer) -> bool:
    """Tell whether a space always ends a token and no token depends on what is beyond it."""
    described = json.loads(tokenizer.to_str())
    kinds = {
        part: (described[part] or {}).get("type")
        for part in ("normalizer", "pre_tokenizer", "model", "post_processor")
    }
    return (
        kinds["normalizer"] in (None, "BertNormalizer")
        and kinds["pre_tokenizer"] == "BertPreTokenizer"
        and kinds["model"] == "WordPiece"
        and kinds["post_processor"] in ("BertProcessing", "TemplateProcessing")
        and not any(" " in token["content"] for token in described["added_tokens"])
    )


def _check_first(tokenizer: Tokenizer) -> None:
    names = special_tokens(tokenizer)
    _, first = token_ids(tokenizer, (names.pad, names.first))
    if tokenizer.encode("a").ids[:1] != [first]:
        raise CheckpointError(
            f"The tokenizer must put {names.first} before and {names.separator} after a text, as "
            "BERT's or RoBERTa's does."
        )


def _chunks(texts: Sequence[tuple[str, ...]]) -> Iterator[Sequence[tuple[str, ...]]]:
    """Yield runs of texts of about `CHUNK_CHARACTERS`, at least one text each."""
    start, size = 0, 0
    for place, text in enumerate(texts):
        size += sum(map(len, text))
        if size >= CHUNK_CHARACTERS:
            yield texts[start : place + 1]
            start, size = place + 1, 0
    if start < len(texts):
        yield texts[start:]
