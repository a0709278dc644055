import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data.builtin import unlabelled_texts
from trainers.data.encoding import Encoded, encode, special_ids
from trainers.phases.alteration import MIN_ALTERNATIVES, alter

SPECIAL = (0, 1, 2, 3, 4)
PAD, CLS, SEP = 0, 2, 3


@pytest.fixture(scope="module")
def texts():
    return unlabelled_texts(1500, 0)


@pytest.fixture(scope="module")
def corpus(tokenizer, texts):
    return encode(tokenizer, texts, 32)


def random_corpus(seed, num_words, num_texts=60):
    """Pairs and single texts over few words, so that neighbours repeat."""
    rng = np.random.default_rng(seed)
    rows, types = [], []
    for _ in range(num_texts):
        first = rng.integers(5, 5 + num_words, rng.integers(1, 5)).tolist()
        second = rng.integers(5, 5 + num_words, rng.integers(1, 5)).tolist()
        is_pair = rng.random() < 0.8
        rows.append([CLS, *first, SEP] + ([*second, SEP] if is_pair else []))
        types.append([0] * (len(first) + 2) + [1] * (len(second) + 1) * is_pair)
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((num_texts, lengths.max()), dtype=np.int64)
    token_types = np.zeros_like(ids)
    for index, (row, row_types) in enumerate(zip(rows, types, strict=True)):
        ids[index, : len(row)], token_types[index, : len(row)] = row, row_types
    return Encoded(ids, lengths, token_types)


def is_seen_between(corpus, before, word, after):
    ids = corpus.input_ids
    return bool(((ids[:, :-2] == before) & (ids[:, 1:-1] == word) & (ids[:, 2:] == after)).any())


def check_row(corpus, row, altered):
    """Every change is a word seen between the same neighbours, or a swap of two words."""
    old, new = corpus.input_ids[row], altered.input_ids[row]
    places = np.flatnonzero(altered.is_changed[row])
    assert (corpus.token_type_ids[row][places] == 1).all()
    first = set(old[: corpus.lengths[row]][corpus.token_type_ids[row][: corpus.lengths[row]] == 0])
    assert set(old[places]) <= first - set(SPECIAL)
    assert not set(new[places]) & set(SPECIAL)
    if len(places) == 2:
        assert old[places].tolist() == new[places][::-1].tolist()
    elif len(places) == 1:
        place = places[0]
        assert is_seen_between(corpus, old[place - 1], new[place], old[place + 1])
    else:
        assert len(places) == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), num_words=st.integers(2, 12))
def test_changed_words_are_plausible_between_their_neighbours_or_swapped(seed, num_words):
    corpus = random_corpus(seed, num_words)

    altered = alter(corpus, SPECIAL, seed)

    for row in range(len(corpus)):
        check_row(corpus, row, altered)


def test_words_of_real_texts_are_exchanged_and_swapped(corpus, tokenizer):
    altered = alter(corpus, special_ids(tokenizer), 0)

    num_changed = altered.is_changed.sum(axis=1)
    for row in range(len(corpus)):
        check_row(corpus, row, altered)
    assert (num_changed == 1).mean() > 0.1
    assert (num_changed == 2).mean() > 0.02
    assert num_changed.max() == 2


def test_single_texts_are_never_altered(corpus, texts, tokenizer):
    is_single = np.array([len(text) == 1 for text in texts])

    altered = alter(corpus, special_ids(tokenizer), 0)

    assert is_single.sum() > 100
    assert not altered.is_changed[is_single].any()
    assert altered.is_changed[~is_single].any()


def test_the_corpus_itself_is_left_alone(corpus, tokenizer):
    before = corpus.input_ids.copy()

    altered = alter(corpus, special_ids(tokenizer), 0)

    assert np.array_equal(corpus.input_ids, before)
    assert np.array_equal(altered.is_changed, altered.input_ids != before)


def test_the_same_seed_alters_the_same_words(corpus, tokenizer):
    first, second, other = (alter(corpus, special_ids(tokenizer), s) for s in (1, 1, 2))

    assert np.array_equal(first.input_ids, second.input_ids)
    assert not np.array_equal(first.input_ids, other.input_ids)


def test_a_special_token_never_becomes_a_word():
    """Between `a` and `b` the corpus has four words, and once the border of two segments."""
    a, b, shared = 5, 6, 7
    pair = [CLS, a, shared, b, SEP, a, shared, b, SEP]
    others = [[CLS, a, word, b, SEP] for word in (8, 9, 10)]
    border = [CLS, a, SEP, b, SEP]
    rows = [pair] * 200 + others + [border]
    lengths = np.array([len(row) for row in rows])
    ids = np.array([row + [PAD] * (9 - len(row)) for row in rows])
    types = np.zeros_like(ids)
    types[:200, 5:] = 1

    altered = alter(Encoded(ids, lengths, types), SPECIAL, 0)

    assert set(altered.input_ids[altered.is_changed].tolist()) == {8, 9, 10}


def test_places_with_too_few_alternatives_are_grammar_and_stay():
    pair = [CLS, 5, 7, 6, SEP, 5, 7, 6, SEP]
    others = [[CLS, 5, 8 + k, 6, SEP] for k in range(MIN_ALTERNATIVES - 2)]
    rows = [pair] * 20 + others
    lengths = np.array([len(row) for row in rows])
    ids = np.array([row + [PAD] * (9 - len(row)) for row in rows])
    types = np.zeros_like(ids)
    types[:20, 5:] = 1

    altered = alter(Encoded(ids, lengths, types), SPECIAL, 0)

    assert not altered.is_changed.any()
