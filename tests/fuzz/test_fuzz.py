"""Some hundred inputs per target in every run of the tests; docs/security.md has more."""

import pytest

from fuzz.__main__ import fuzz
from fuzz.seeds import HURTFUL, seeds
from fuzz.targets import TARGETS, TooSlowError, run

NUM_EXAMPLES, BATCH = 30, 10


@pytest.mark.parametrize("target", TARGETS)
def test_right_inputs_are_taken(target):
    assert all(run(target, content) for content in seeds(target))


@pytest.mark.parametrize("target", TARGETS)
def test_hurtful_words_alone_end_in_a_sentence(target):
    for word in HURTFUL:
        run(target, word.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("target", TARGETS)
def test_changed_inputs_end_in_a_sentence(target):
    assert fuzz(target, NUM_EXAMPLES, 1, batch=BATCH) >= NUM_EXAMPLES * (1 + BATCH)


def test_an_error_that_is_not_ours_counts_as_a_defect(monkeypatch):
    def fail(_: bytes) -> None:
        raise KeyError("labels")

    monkeypatch.setattr("fuzz.targets.TARGETS", {"tsv": fail})

    with pytest.raises(KeyError):
        run("tsv", b"")


def test_an_input_that_takes_too_long_counts_as_a_defect(monkeypatch):
    def loop(_: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzz.targets.TARGETS", {"tsv": loop})
    monkeypatch.setattr("fuzz.targets.LIMIT_S", 1)

    with pytest.raises(TooSlowError):
        run("tsv", b"")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_thousands_of_changed_inputs_end_in_a_sentence(target):
    assert fuzz(target, 300, 2, batch=20) >= 6300
