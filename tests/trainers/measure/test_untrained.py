import numpy as np
import pytest
import torch

from trainers.errors import ConfigError
from trainers.measure.throughput import folded_pass, full_batch
from trainers.measure.untrained import (
    MAX_ROUNDS,
    MIN_ROUNDS,
    random_examples,
    time_rounds,
    untrained_model,
)

CPU = torch.device("cpu")


def test_an_untrained_model_is_the_same_every_time_and_spares_torchs_generator(make_model):
    shape = make_model(2).shape
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    first, second = untrained_model(shape, CPU), untrained_model(shape, CPU)

    assert torch.equal(torch.rand(3), expected)
    assert first.shape == shape
    assert not first.training
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(own, other)


def test_random_examples_fill_every_position_with_tokens_of_the_vocabulary():
    examples = random_examples(vocab_size=50, length=12)

    assert examples.input_ids.shape[1] == 12
    assert (examples.lengths == 12).all()
    assert 0 <= examples.input_ids.min() < examples.input_ids.max() < 50


@pytest.fixture
def paced(monkeypatch):
    """Every pass takes so many seconds of a clock that nobody else moves."""
    clock = [0.0]
    monkeypatch.setattr("trainers.measure.throughput.time.perf_counter", lambda: clock[0])

    def make(seconds):
        return lambda: clock.__setitem__(0, clock[0] + seconds)

    return make


@pytest.mark.parametrize(("limit_s", "rounds"), [(40.0, 12), (1000.0, MAX_ROUNDS), (21.0, 5)])
def test_as_many_rounds_are_timed_as_the_time_allows(paced, limit_s, rounds):
    seconds = time_rounds([paced(1.0), paced(2.0)], limit_s=limit_s, device=CPU)

    # Two rounds of 3 s warm up.
    assert seconds.shape == (2, min(rounds, int((limit_s - 6) / 3)))
    assert np.allclose(seconds, [[1.0], [2.0]])


def test_models_that_are_too_slow_for_the_time_are_refused_with_the_way_out(paced):
    with pytest.raises(ConfigError, match=r"`throughput\.batch_size` is too large .* 3\.0 s"):
        time_rounds([paced(1.0), paced(2.0)], limit_s=6 + 3 * MIN_ROUNDS - 1, device=CPU)


def test_more_work_takes_longer(make_model):
    models = [untrained_model(make_model(n).shape, CPU) for n in (1, 1)]
    examples = random_examples(models[0].shape.vocab_size, 8)
    passes = [
        folded_pass(model, full_batch(examples, 1, size, 8, CPU))
        for model, size in zip(models, (2, 512), strict=True)
    ]

    seconds = time_rounds(passes, limit_s=30.0, device=CPU)

    assert seconds.shape[1] >= MIN_ROUNDS
    assert np.median(seconds[1]) > 2 * np.median(seconds[0])
