import time

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from trainers.data import builtin
from trainers.data.builtin import (
    KIND_SHARES,
    LABEL_NOISE,
    generate,
    split_of,
    unlabelled_texts,
    vocabulary,
)
from trainers.data.examples import KINDS, Examples
from trainers.data.tasks import TASKS
from trainers.errors import DataError

NAMES = tuple(TASKS)
PAIRS = ("mnli", "qnli", "qqp")
SPLITS = ("train", "held_out", "validation")
MAX_LENGTH = 32  # `DataConfig.max_length`


def normalise(row):
    return tuple(sorted(" ".join(text.lower().split()) for text in row))


def of_kind(examples: Examples, kind: str) -> Examples:
    assert examples.kinds is not None
    return examples.take(np.flatnonzero(examples.kinds == KINDS.index(kind)))


def fit_bag_of_words(train: Examples):
    """Logistic regression on the word counts of each text: blind to order and to matches."""
    vectorizers = [CountVectorizer(token_pattern=r"\S+") for _ in train.texts[0]]
    for column, vectorizer in enumerate(vectorizers):
        vectorizer.fit([row[column] for row in train.texts])

    def count(examples: Examples):
        return scipy.sparse.hstack(
            [
                vectorizer.transform([row[column] for row in examples.texts])
                for column, vectorizer in enumerate(vectorizers)
            ]
        )

    model = LogisticRegression(max_iter=1000, C=0.3).fit(count(train), train.labels)
    return lambda examples: model.score(count(examples), examples.labels)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_yields_the_same_examples_and_another_seed_others(name):
    first, again, other = (generate(name, 300, seed, "train") for seed in (7, 7, 8))

    assert first.texts == again.texts
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.kinds, again.kinds)
    assert first.texts != other.texts


@pytest.mark.parametrize("name", NAMES)
def test_more_examples_begin_with_the_fewer(name):
    fewer, more = generate(name, 200, 0, "train"), generate(name, 900, 0, "train")

    assert more.texts[:200] == fewer.texts
    assert np.array_equal(more.labels[:200], fewer.labels)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_is_in_two_splits_nor_twice_in_one(name):
    sizes = {"train": 24000, "held_out": 1000, "validation": 4000}
    rows = {split: generate(name, sizes[split], 0, split).texts for split in SPLITS}
    normalised = {split: {normalise(row) for row in rows[split]} for split in SPLITS}

    assert not normalised["train"] & normalised["validation"]
    assert not normalised["train"] & normalised["held_out"]
    assert not normalised["held_out"] & normalised["validation"]
    assert all(len(set(rows[split])) == sizes[split] for split in SPLITS)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_is_in_two_splits_even_across_seeds(name):
    train = {
        normalise(row) for seed in range(3) for row in generate(name, 3000, seed, "train").texts
    }
    validation = {normalise(row) for row in generate(name, 3000, 9, "validation").texts}

    assert not train & validation


@settings(max_examples=50)
@given(st.lists(st.text("ab ", max_size=6), min_size=2, max_size=2))
def test_order_of_the_texts_does_not_change_the_split(row):
    assert split_of(tuple(row)) == split_of(tuple(reversed(row)))


def test_corpus_without_labels_has_only_training_texts_and_both_shapes():
    rows = unlabelled_texts(2000, 3)

    assert len(rows) == 2000
    assert {split_of(row) for row in rows} == {"train"}
    assert {len(row) for row in rows} == {1, 2}
    assert rows == unlabelled_texts(2000, 3)


def test_corpus_without_labels_shares_more_words_between_texts_than_the_tasks():
    def shared(rows):
        pairs = [row for row in rows if len(row) == 2]
        overlaps = [len(set(a.split()) & set(b.split())) / len(set(b.split())) for a, b in pairs]
        return np.mean(overlaps)

    of_tasks = [shared(generate(name, 2000, 0, "train").texts) for name in PAIRS]

    assert shared(unlabelled_texts(4000, 0)) > np.mean(of_tasks) + 0.03


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_balanced_in_each_kind(name):
    examples = generate(name, 12000, 1, "train")
    num_labels = len(TASKS[name].labels)

    for kind in KINDS:
        labels = of_kind(examples, kind).labels
        shares = np.bincount(labels, minlength=num_labels) / len(labels)
        # four standard errors of a share among the smallest kind's 1,680 examples
        assert shares == pytest.approx(1 / num_labels, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_kinds_have_their_shares(name):
    kinds = generate(name, 12000, 1, "train").kinds

    assert np.bincount(kinds) / 12000 == pytest.approx(KIND_SHARES[name], abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_noise_changes_labels_alone_and_an_oracle_stays_above_96_percent(name):
    noisy = generate(name, 8000, 2, "validation")
    clean = generate(name, 8000, 2, "validation", noise=0.0)

    oracle = np.mean(noisy.labels == clean.labels)

    assert noisy.texts == clean.texts
    assert 0.96 <= oracle < 1
    assert oracle == pytest.approx(1 - LABEL_NOISE, abs=0.006)


@pytest.mark.parametrize("name", NAMES)
def test_rules_never_give_the_same_texts_two_labels(name):
    label_of: dict[tuple[str, ...], int] = {}
    for seed in range(4):
        examples = generate(name, 3000, seed, "train", noise=0.0)
        for row, label in zip(examples.texts, examples.labels.tolist(), strict=True):
            assert label_of.setdefault(row, label) == label, row


@pytest.mark.parametrize("name", NAMES)
def test_single_words_solve_the_word_kind_and_no_other(name):
    train = generate(name, 6000, 0, "train", noise=0.0)
    validation = generate(name, 4000, 0, "validation", noise=0.0)
    chance = 1 / len(TASKS[name].labels)

    accuracy = {
        kind: fit_bag_of_words(of_kind(train, kind))(of_kind(validation, kind)) for kind in KINDS
    }

    assert accuracy["word"] >= 0.92
    # three standard errors of an accuracy of one half on 1,120 and 560 examples
    assert accuracy["match"] <= chance + 0.045
    assert accuracy["relation"] <= chance + 0.065


@pytest.mark.parametrize("name", NAMES)
def test_single_words_of_the_whole_training_split_leave_a_gap_to_the_oracle(name):
    train = generate(name, 6000, 0, "train")
    validation = generate(name, 3000, 0, "validation")

    chance, word_share = 1 / len(TASKS[name].labels), KIND_SHARES[name][0]
    # All word examples and guesses on the rest, and three standard errors of 3,000 examples.
    most = word_share + (1 - word_share) * chance + 0.02
    assert chance + 0.2 < fit_bag_of_words(train)(validation) < most < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_short_plain_words_of_the_closed_vocabulary(name):
    known = set(vocabulary())

    for row in generate(name, 6000, 0, "train").texts:
        assert len(row) == len(TASKS[name].text_columns)
        assert {word for text in row for word in text.split()} <= known
        assert sum(len(text.split()) for text in row) + len(row) + 1 <= MAX_LENGTH - 2
        assert all(3 <= len(text.split()) <= 18 for text in row)


def test_vocabulary_is_small_sorted_and_has_no_leftover_slot():
    words = vocabulary()

    assert 350 <= len(words) <= 500
    assert list(words) == sorted(set(words))
    assert all(word.isalpha() and word.islower() for word in words)


def test_every_word_of_the_vocabulary_is_used():
    used = {
        word
        for name in NAMES
        for row in generate(name, 8000, 0, "train").texts
        for text in row
        for word in text.split()
    }

    assert set(vocabulary()) == used


@pytest.mark.parametrize("name", PAIRS)
def test_share_of_new_words_does_not_tell_the_class_of_a_relation(name):
    relation = of_kind(generate(name, 20000, 0, "train", noise=0.0), "relation")
    num_new = np.array([len(set(b.split()) - set(a.split())) for a, b in relation.texts])

    means = [num_new[relation.labels == label].mean() for label in set(relation.labels.tolist())]

    assert np.ptp(means) < 0.15  # a match that fails would add one new word


def test_unknown_task_names_the_known_ones():
    with pytest.raises(DataError, match=r"no task `cola`; it has `mnli`, `qnli`, `qqp`, `sst2`"):
        generate("cola", 5, 0, "train")


def test_more_examples_than_there_are_texts_is_an_error_not_an_endless_loop(monkeypatch):
    writers = (lambda draw, label: (f"{draw.below(20)}",),) * 3
    monkeypatch.setitem(builtin._WRITERS, "sst2", writers)

    with pytest.raises(DataError, match=r"no more than about \d+ different `train` examples"):
        generate("sst2", 50, 0, "train")


@pytest.mark.parametrize("name", NAMES)
def test_generation_is_fast_enough_to_need_no_cache(name):
    start = time.process_time()

    generate(name, 25000, 0, "train")

    assert time.process_time() - start < 5  # about 0.6 s; room for a slow or busy machine
