from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from trainers.data import words
from trainers.data.encoding import encode
from trainers.data.words import LibraryEncoder, WordEncoder, make_encoder
from trainers.errors import CheckpointError, ConfigError
from trainers.models.sources import load_tokenizer

PLAIN = st.lists(
    st.sampled_from(["the", "of", "was", "index", "unreadable", "film", "Zürich", "山水", "?"])
)
TEXTS = st.one_of(
    PLAIN.map(" ".join),
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            ["a", " ", "  ", "\t", "\u00a0", "\x1c", "\u0301", "İ", "ß", "ﬁ", "[SEP]", "[MASK]",
             "'s", "\u200d", "e\u0301", "漢", "-", "\x00", "\u2028", "Σ", "x" * 120]
        )
    ).map("".join),
)  # fmt: skip
ROWS = st.lists(st.one_of(st.tuples(TEXTS), st.tuples(TEXTS, TEXTS)), max_size=5)


def expected(tokenizer, row, max_length):
    """Yield ids, types and whether the end is lost, by the library alone."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_truncation()
    is_cut = len(own.encode(*row).ids) > max_length
    encoded = encode(own, [row], max_length)
    return encoded.input_ids[0].tolist(), encoded.token_type_ids[0].tolist(), is_cut


def rows_of(flat, table):
    """Yield `table.ids` or `table.types` as a list for each sequence."""
    return [part.tolist() for part in np.split(flat, table.starts[1:])][: len(table)]


@given(rows=ROWS, max_length=st.integers(5, 24))
@settings(max_examples=100, deadline=None)
def test_remembered_words_give_the_ids_of_the_tokenizer(rows, max_length):
    tokenizer = load_tokenizer("builtin")
    encoder = make_encoder(tokenizer, max_length, 2)

    found = encoder(rows)

    assert isinstance(encoder, WordEncoder)
    assert [
        (ids, types, place in found.cut)
        for place, (ids, types) in enumerate(
            zip(rows_of(found.ids, found), rows_of(found.types, found), strict=True)
        )
    ] == [expected(tokenizer, row, max_length) for row in rows]


@pytest.mark.parametrize("max_length", range(5, 13))
def test_pairs_are_cut_as_the_tokenizer_cuts_them(tokenizer, max_length):
    rows = [("the " * n, "of " * m) for n, m in product(range(9), repeat=2)]

    found = make_encoder(tokenizer, max_length, 2)(rows)

    assert rows_of(found.ids, found) == [expected(tokenizer, row, max_length)[0] for row in rows]


def test_other_tokenizers_are_called_for_every_text(roberta_directory, monkeypatch):
    monkeypatch.setattr(words, "CHUNK_CHARACTERS", 10)
    tokenizer = load_tokenizer(str(roberta_directory))
    rows = [("the thing",), ("a", "b c"), ("", ""), ("the " * 20,)]

    encoder = make_encoder(tokenizer, 12, 2)
    found = encoder(rows)

    assert isinstance(encoder, LibraryEncoder)
    assert rows_of(found.ids, found) == [expected(tokenizer, row, 12)[0] for row in rows]
    assert found.cut == {3}


def test_an_added_token_with_a_space_forbids_remembering_words(tokenizer):
    own = Tokenizer.from_str(tokenizer.to_str())
    own.add_tokens(["new york"])

    encoder = make_encoder(own, 12, 1)

    assert isinstance(encoder, LibraryEncoder)
    assert own.token_to_id("new york") in encoder([("in new york",)]).ids


def test_a_full_memory_of_words_is_emptied(tokenizer, monkeypatch):
    monkeypatch.setattr(words, "LARGEST_MEMO", 3)
    encoder = make_encoder(tokenizer, 12, 1)
    before = encoder([("index of pages that mention it",)])

    encoder([("of",)])

    assert set(encoder._memo.numbers) == {"of"}
    after = encoder([("index of pages that mention it",)])
    assert after.ids.tolist() == before.ids.tolist()


def test_the_tokenizer_itself_stays_as_it_was(tokenizer):
    before = tokenizer.to_str()

    make_encoder(tokenizer, 7, 1)([("the film",)])

    assert tokenizer.to_str() == before


@pytest.mark.parametrize(("num_texts", "smallest"), [(1, 3), (2, 5)])
def test_a_length_without_room_for_text_is_refused(tokenizer, num_texts, smallest):
    make_encoder(tokenizer, smallest, num_texts)

    with pytest.raises(ConfigError, match=f"at least {smallest}, .* got {smallest - 1}"):
        make_encoder(tokenizer, smallest - 1, num_texts)


def test_a_tokenizer_that_puts_no_cls_first_is_refused(tokenizer):
    described = Tokenizer.from_str(tokenizer.to_str())
    described.post_processor = None

    with pytest.raises(CheckpointError, match="must put \\[CLS\\] before"):
        make_encoder(described, 12, 1)
