import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch

from trainers.data.encoding import encode
from trainers.data.streams import TextRow
from trainers.errors import CheckpointError, ConfigError, DataError
from trainers.measure.accuracy import predict_logits
from trainers.models.checkpoints import load_model, save_text
from trainers.serving import predict
from trainers.serving.predict import Predictor, Tally

WORDS = [
    "the",
    "film",
    "was",
    "a",
    "dull",
    "unreadable",
    "index",
    "of",
    "pages",
    "that",
    "mention",
    "clock",
]


def make_texts(count, *, seed=0, num_texts=1, longest=12):
    rng = np.random.default_rng(seed)
    return [
        tuple(" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(num_texts))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def wide(make_directory):
    """A directory of width 5."""
    return make_directory(5, described={"text_columns": ["text"], "max_length": 16})


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(predict, "WINDOW_ROWS", 7)


@pytest.mark.parametrize("num_texts", [1, 2])
def test_without_multiplexing_probabilities_are_those_of_the_model(
    make_directory, tokenizer, num_texts, small_windows
):
    texts = make_texts(40, num_texts=num_texts)
    for seed in range(20):  # of some models all rows have one class, which would hide mistakes
        directory = make_directory(seed=seed)
        logits = predict_logits(
            load_model(directory), encode(tokenizer, texts, 14), torch.device("cpu")
        )
        best = logits.argmax(axis=1)
        if len(set(best)) > 1:
            break
    assert len(set(best)) > 1

    found = list(Predictor(directory, max_length=14).stream(texts))

    expected = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    np.testing.assert_allclose([p.probabilities for p in found], expected, atol=1e-5)
    assert [p.label for p in found] == [("no", "perhaps", "yes")[index] for index in best]
    np.testing.assert_allclose([p.probability for p in found], expected.max(axis=1), atol=1e-5)


def test_a_group_that_is_a_window_gives_the_logits_of_its_composition(wide, tokenizer):
    predictor, texts = Predictor(wide), make_texts(5)

    found = list(predictor.stream(texts))

    order = np.random.default_rng(0).permutation(5)
    lengths = encode(tokenizer, texts, 16).lengths
    order = order[np.argsort(lengths[order], kind="stable")]
    encoded = encode(tokenizer, [texts[place] for place in order], 16)
    logits = predict_logits(predictor.backend.model, encoded, torch.device("cpu"))
    expected = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    np.testing.assert_allclose([found[p].probabilities for p in order], expected, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 6, 7, 8, 23])
def test_every_row_comes_back_in_order_whatever_their_number(wide, count, small_windows):
    found = list(Predictor(wide).stream(make_texts(count)))

    assert [p.row for p in found] == list(range(1, count + 1))
    assert all(p.label in ("no", "perhaps", "yes") for p in found)
    assert all(sum(p.probabilities) == pytest.approx(1) for p in found)


def test_the_same_rows_get_the_same_predictions(wide, small_windows):
    texts = make_texts(50)

    first, second = (list(Predictor(wide).stream(texts)) for _ in range(2))

    assert first == second


def test_a_row_that_cannot_be_read_keeps_its_place_and_spoils_no_other(wide, small_windows):
    texts = make_texts(9)
    good = list(Predictor(wide).stream(texts))
    bad = [TextRow(4, (), "not UTF-8 (byte 0xff)"), 3.5, ("a", "b"), ("\ud800",), ()]

    found = list(Predictor(wide).stream([*texts[:7], *bad, *texts[7:]]))

    assert [p.error for p in found[7:12]] == [
        "not UTF-8 (byte 0xff)",
        "3.5 is no text",
        "the model needs 1 texts, got 2",
        "half a surrogate pair, which is no character",
        "the model needs 1 texts, got 0",
    ]
    assert [p.line for p in found[7:9]] == [4, 9]
    assert all(p.label is None and p.probability is None for p in found[7:12])
    assert [p.probabilities for p in found[:7]] == [p.probabilities for p in good[:7]]
    assert all(p.label for p in found[12:])


def test_empty_and_overlong_rows_are_labelled_and_marked(wide):
    texts = ["", " \t", "the " * 13, "the " * 14, "the " * 15, "the " * 4000]

    found = list(Predictor(wide).stream(texts))

    assert all(p.label for p in found)
    assert [p.is_empty for p in found] == [True, True, False, False, False, False]
    assert [p.is_cut for p in found] == [False, False, False, False, True, True]


def test_outputs_that_are_no_numbers_are_errors(make_directory):
    predictor = Predictor(make_directory())
    torch.nn.init.constant_(predictor.backend.model.sequence_head.output.bias, float("nan"))

    (found,) = predictor.stream(["the film"])

    assert (found.label, found.probabilities) == (None, ())
    assert found.error == "the output of the model is not a number"


def test_a_stream_reads_at_most_two_windows_ahead(wide, small_windows):
    read = []

    def rows():
        for number in range(1000):
            read.append(number)
            yield "the film"

    first = next(Predictor(wide).stream(rows()))

    assert first.row == 1
    assert len(read) <= 2 * 7 + 1


def test_a_stream_left_early_leaves_no_thread(wide, small_windows):
    import threading

    before = threading.active_count()
    stream = Predictor(wide).stream("the film" for _ in range(100))
    list(islice(stream, 3))

    stream.close()

    assert threading.active_count() == before


def test_an_error_of_the_source_reaches_the_reader(wide, small_windows):
    def rows():
        yield from make_texts(10)
        raise DataError("the file is gone")

    with pytest.raises(DataError, match="the file is gone"):
        list(Predictor(wide).stream(rows()))


def test_memory_does_not_grow_with_the_number_of_rows(wide, monkeypatch):
    monkeypatch.setattr(predict, "WINDOW_ROWS", 64)
    predictor, texts = Predictor(wide), make_texts(200)
    list(predictor.stream(texts))

    def peak(count):
        rows = (texts[number % 200] for number in range(count))
        tracemalloc.start()
        found = sum(1 for _ in predictor.stream(rows))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == count
        return size

    assert peak(2560) < 1.5 * peak(256)


def test_long_texts_close_a_window_early(wide, monkeypatch):
    monkeypatch.setattr(predict, "WINDOW_CHARACTERS", 100)
    windows = list(Predictor(wide)._windows(["x" * 60] * 5))

    assert [len(window.rows) for window in windows] == [2, 2, 1]


def test_the_tally_counts_tokens_and_places(wide):
    tally = Tally()

    list(Predictor(wide).stream(["the film"] * 4, tally))  # 4 tokens each, one place of 5 filled

    assert (tally.num_tokens, tally.num_positions) == (16, 20)
    assert tally.padding_share == pytest.approx(0.2)


def test_calls_look_like_a_pipeline_of_transformers(make_directory):
    predictor = Predictor(make_directory())
    pair = {"text": "the film", "text_pair": "was dull"}

    assert set(predictor("the film")[0]) == {"label", "score"}
    assert predictor(["the film"]) == predictor("the film")
    assert len(predictor(["the film", pair, ("the film", "was dull")])) == 3
    assert predictor(pair) == predictor([("the film", "was dull")])
    assert predictor(pair) != predictor("the film")
    (scores,) = predictor("the film", top_k=None)
    assert sorted(s["label"] for s in scores) == ["no", "perhaps", "yes"]
    assert [s["score"] for s in scores] == sorted((s["score"] for s in scores), reverse=True)
    assert predictor("the film", top_k=2) == [scores[:2]]
    assert predictor([]) == []


def test_calls_give_the_answers_of_the_pipeline_itself(make_directory):
    from transformers import pipeline
    from transformers.utils import logging

    import trainers.models.hugging_face  # noqa: F401  registers our classes

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    directory, texts = make_directory(), [text for (text,) in make_texts(6)]

    theirs = pipeline("text-classification", model=str(directory), device="cpu")

    found = Predictor(directory)(texts)
    expected = theirs(texts)
    assert [f["label"] for f in found] == [e["label"] for e in expected]
    assert [f["score"] for f in found] == pytest.approx([e["score"] for e in expected], abs=1e-5)


def test_a_call_refuses_an_input_that_has_no_label(wide):
    with pytest.raises(DataError, match="Input 2 cannot be classified: 7 is no text"):
        Predictor(wide)(["the film", 7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 25}, "`max_length` must be at most 24, .* got 25"),
        ({"max_length": 0}, "`max_length` must be at least 3"),
        ({"num_texts": 2}, "trained on 1 texts in a row \\(text\\), got 2"),
        ({"num_texts": 3}, "takes 1 or 2 texts in a row, got 3"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"device": "tpu"}, "`device` must be `auto`, `cpu` or `cuda`, got `tpu`"),
        ({"backend": "jax"}, "`backend` must be `torch` or `onnx`, got `jax`"),
    ],
)
def test_arguments_that_cannot_be_obeyed_are_refused(wide, options, message):
    with pytest.raises(ConfigError, match=message):
        Predictor(wide, **options)


def test_the_length_is_that_of_the_training_or_else_the_longest(make_directory, wide):
    assert Predictor(wide).max_length == 16
    assert Predictor(wide, max_length=9).max_length == 9
    assert Predictor(make_directory()).max_length == 24


def test_a_tokenizer_of_another_model_is_refused(make_directory, tokenizer):
    directory = make_directory()
    grown = type(tokenizer).from_str(tokenizer.to_str())
    grown.add_tokens(["zyzzyva"])
    save_text(grown.to_str(), directory / "tokenizer.json")

    with pytest.raises(CheckpointError, match="tokens, but the model knows"):
        Predictor(directory)
