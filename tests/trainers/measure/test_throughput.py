import time

import numpy as np
import pytest
import torch

from trainers.config import ThroughputConfig
from trainers.errors import ShapeError
from trainers.locks import file_lock
from trainers.measure.throughput import LOCK_NAME, full_batch, measure_throughput, time_interleaved

CPU = torch.device("cpu")


def test_sleeping_passes_are_timed_as_long_as_they_sleep():
    passes = [lambda: time.sleep(0.04), lambda: time.sleep(0.08)]

    seconds = time_interleaved(passes, num_warmup=1, num_repeats=5, device=CPU)

    assert seconds.shape == (2, 5)
    # Sleeping is never too short, and the quickest repeat is hardly disturbed.
    assert seconds.min(axis=1) == pytest.approx([0.04, 0.08], rel=0.05)


def test_passes_take_turns_and_the_warm_up_is_not_timed():
    calls = []
    passes = [lambda: calls.append("model"), lambda: calls.append("baseline")]

    seconds = time_interleaved(passes, num_warmup=2, num_repeats=3, device=CPU)

    assert calls == ["model", "baseline"] * 5
    assert seconds.shape == (2, 3)


def test_what_ends_a_timing_is_asked_before_every_pass_and_not_timed():
    asked, ran = [], []

    def between():
        asked.append(time.sleep(0.02))
        if len(asked) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_interleaved(
            [lambda: ran.append(1)], num_warmup=2, num_repeats=3, device=CPU, between=between
        )
    seconds = time_interleaved(
        [lambda: None], num_warmup=0, num_repeats=3, device=CPU, between=lambda: time.sleep(0.02)
    )

    assert len(ran) == 3
    assert seconds.max() < 0.02


def test_batches_are_full_of_real_tokens_and_attended_everywhere(make_encoded):
    examples = make_encoded(5, length=8)

    batch = full_batch(examples, num_instances=2, num_groups=4, length=12, device=CPU)

    assert batch.input_ids.shape == (4, 2, 12)
    assert batch.attention_mask.all()
    for row, ids in enumerate(batch.input_ids.flatten(0, 1).numpy()):
        length = examples.lengths[row % 5]
        assert np.array_equal(ids[:length], examples.input_ids[row % 5, :length][:12])
        assert set(ids) <= set(examples.input_ids[row % 5, :length])


@pytest.fixture
def paced(monkeypatch):
    """Replace the clock's work by fixed durations: 10, 20, 30 ms and a baseline of 20 ms."""
    seconds = np.array([[0.01, 0.02, 0.03], [0.02, 0.02, 0.02]])
    monkeypatch.setattr(
        "trainers.measure.throughput.time_interleaved", lambda *args, **options: seconds
    )


@pytest.mark.usefixtures("paced")
def test_a_full_group_counts_all_its_sequences(make_model, make_encoded):
    config = ThroughputConfig(batch_size=6, num_repeats=3, num_warmup=1)

    result = measure_throughput(
        make_model(5), make_model(1), make_encoded(), config, length=10, device=CPU
    )

    assert result.throughput == pytest.approx(6 * 5 / 0.02)
    assert result.baseline_throughput == pytest.approx(6 / 0.02)
    assert result.speedup == pytest.approx(5.0)  # median of 10, 5 and 3.33
    assert result.speedup_q1 < result.speedup < result.speedup_q3
    assert result.throughput_q1 < result.throughput < result.throughput_q3
    assert (result.num_repeats, result.batch_size, result.length) == (3, 6, 10)
    assert (result.device, result.dtype) == ("cpu", "float32")
    assert result.num_threads == torch.get_num_threads()


def test_a_model_against_its_own_structure_is_about_as_fast(make_model, make_encoded):
    model = make_model(1, dtype=torch.float32)

    result = measure_throughput(
        model,
        make_model(1, dtype=torch.float32),
        make_encoded(),
        ThroughputConfig(batch_size=4, num_repeats=15),
        length=8,
        device=CPU,
    )

    assert result.speedup == 1
    assert result.speedup_q1 <= 1 <= result.speedup_q3
    assert 0.4 < result.throughput / result.baseline_throughput < 2.5


@pytest.mark.usefixtures("paced")
def test_the_speedup_of_the_baseline_is_one_by_definition(make_model, make_encoded):
    config = ThroughputConfig(batch_size=6, num_repeats=3)

    result = measure_throughput(
        make_model(1), make_model(1, seed=1), make_encoded(), config, length=10, device=CPU
    )

    assert (result.speedup_q1, result.speedup) == (pytest.approx(5 / 6), 1)
    assert result.speedup_q3 == pytest.approx(1.5)


def test_both_models_are_timed_in_evaluation_mode_without_gradients(
    make_model, make_encoded, monkeypatch
):
    modes = []

    def remember(passes, **options):
        for run in passes:
            modes.append(run().requires_grad)
        return np.ones((2, 3))

    monkeypatch.setattr("trainers.measure.throughput.time_interleaved", remember)
    model, baseline = make_model(2).train(), make_model(1).train()
    config = ThroughputConfig(batch_size=2, num_repeats=3)

    with torch.inference_mode():
        measure_throughput(model, baseline, make_encoded(), config, length=8, device=CPU)

    assert modes == [False, False]
    assert not model.training
    assert not baseline.training


def test_a_length_beyond_the_position_table_is_refused(make_model, make_encoded):
    with pytest.raises(ShapeError, match="at most 16 tokens, got 32"):
        measure_throughput(
            make_model(2),
            make_model(1),
            make_encoded(),
            ThroughputConfig(batch_size=2),
            length=32,
            device=CPU,
        )


@pytest.fixture
def rounds(monkeypatch, tmp_path):
    """Factory: let rounds of the clock have these spreads of the baseline; yields what is left."""

    def make(*spreads):
        left = [
            np.array([[0.01 * (k + 1)] * 5, [0.02, 0.02, 0.02 * (1 + s), 0.02 * (1 + s), 0.02]])
            for k, s in enumerate(spreads)
        ]
        monkeypatch.setattr(
            "trainers.measure.throughput.time_interleaved", lambda *_, **__: left.pop(0)
        )
        monkeypatch.setattr("trainers.measure.throughput.PAUSE_S", 0)
        monkeypatch.setattr("trainers.measure.throughput.LOCK_TIMEOUT_S", 0.1)
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        return left

    return make


@pytest.fixture
def measure(make_model, make_encoded):
    config = ThroughputConfig(batch_size=6, num_repeats=5)
    models = make_model(5), make_model(1)
    return lambda: measure_throughput(*models, make_encoded(), config, length=10, device=CPU)


def test_calm_machine_is_measured_once(rounds, measure):
    left = rounds(0.1, 0.0, 0.0)

    result = measure()

    assert len(left) == 2
    assert result.is_clean
    assert result.baseline_spread == pytest.approx(0.1)


def test_busy_machine_is_measured_again_until_it_is_calm(rounds, measure):
    left = rounds(0.5, 0.05, 0.0)

    result = measure()

    assert len(left) == 1
    assert result.is_clean
    assert result.throughput == pytest.approx(30 / 0.02)  # of the second round


def test_the_calmest_round_of_a_busy_machine_is_kept_and_marked(rounds, measure):
    rounds(0.5, 0.3, 0.4)

    result = measure()

    assert not result.is_clean
    assert result.baseline_spread == pytest.approx(0.3)
    assert result.throughput == pytest.approx(30 / 0.02)


def test_a_measurement_beside_another_is_marked(rounds, measure, tmp_path):
    rounds(0.0)

    with file_lock(tmp_path / LOCK_NAME):
        result = measure()

    assert result.baseline_spread == 0
    assert not result.is_clean
