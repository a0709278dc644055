"""Texts to lists of token ids at the speed that serving needs, without padding.

BERT's tokenizers part texts at spaces first, so no token depends on another word. `WordEncoder`
passes each distinct word through the tokenizer once and remembers its ids, which takes a fraction
of the time; every other tokenizer is called for every text. Both yield the same ids as `encode` of
`trainers.data.encoding`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from tokenizers import Encoding, Tokenizer

from trainers.errors import CheckpointError, ConfigError
from trainers.special_tokens import special_tokens, token_ids

LARGEST_MEMO = 200_000
"""Remembered words (some 30 MB); more than that, and all are forgotten."""
CHUNK_CHARACTERS = 1_000_000
"""Text that the tokenizer gets in one call: it keeps some 100 bytes for each token until then."""


@dataclass(frozen=True)
class TokenLists:
    """Token ids of sequences, specials included, not padded."""

    ids: list[list[int]]
    types: list[list[int]]
    """Segment of every token."""
    cut: frozenset[int]
    """Places of the sequences that were longer than the limit and lost their end."""


class TextEncoder(Protocol):
    """Tokenises single texts or pairs, longest segment cut first."""

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> TokenLists:
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

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> TokenLists:
        """See `TextEncoder`."""
        found = TokenLists([], [], frozenset())
        cut = []
        for chunk in _chunks(texts):
            inputs = [text if len(text) == 2 else text[0] for text in chunk]
            for encoding in self.tokenizer.encode_batch_fast(inputs):
                if len(encoding.ids) == self.max_length and encoding.overflowing:
                    cut.append(len(found.ids))
                found.ids.append(encoding.ids)
                found.types.append(encoding.type_ids)
        return TokenLists(found.ids, found.types, frozenset(cut))


class WordEncoder:
    """Remembers the ids of every word between two spaces.

    Args:
        tokenizer: One that parts texts at spaces; it must neither cut nor pad.
        max_length: Largest number of tokens.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._frames = {
            1: _Frame.read(tokenizer.encode("a"), 1),
            2: _Frame.read(tokenizer.encode("a", "a"), 2),
        }
        self._memo: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> TokenLists:
        """See `TextEncoder`."""
        if len(self._memo) > LARGEST_MEMO:
            self._memo.clear()
        words = [text.split(" ") for text in chain.from_iterable(texts)]
        self._learn(words)
        look_up, parts = self._memo.__getitem__, iter(words)
        ids, types, cut = [], [], []
        for place, text in enumerate(texts):
            frame = self._frames[len(text)]
            segments = [list(chain.from_iterable(map(look_up, next(parts)))) for _ in text]
            room = self.max_length - frame.num_special
            if sum(map(len, segments)) > room:
                cut.append(place)
                sizes = _longest_first([len(segment) for segment in segments], room)
                segments = [s[:size] for s, size in zip(segments, sizes, strict=True)]
            ids.append(frame.join(segments))
            types.append(frame.types(segments))
        return TokenLists(ids, types, frozenset(cut))

    def _learn(self, words: list[list[str]]) -> None:
        new = sorted(set(chain.from_iterable(words)).difference(self._memo))
        for chunk in _chunks([(word,) for word in new]):
            spelt = [word for (word,) in chunk]
            encodings = self.tokenizer.encode_batch_fast(spelt, add_special_tokens=False)
            self._memo.update(zip(spelt, (e.ids for e in encodings), strict=True))


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

    def join(self, segments: list[list[int]]) -> list[int]:
        if len(segments) == 1:
            return self.specials[0] + segments[0] + self.specials[1]
        first, between, last = self.specials
        return first + segments[0] + between + segments[1] + last

    def types(self, segments: list[list[int]]) -> list[int]:
        types = list(self.special_types[0])
        for segment, kind, after in zip(
            segments, self.segment_types, self.special_types[1:], strict=True
        ):
            types += [kind] * len(segment)
            types += after
        return types


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
