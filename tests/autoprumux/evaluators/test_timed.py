from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprumux.errors import InputError
from autoprumux.evaluators import timed
from autoprumux.evaluators.timed import default_name, model_timer
from autoprumux.records import EncoderShape
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.structure_latency import dense_shape
from trainers.config import ThroughputConfig, TrainerConfig
from trainers.measure.untrained import untrained_model
from trainers.models.checkpoints import read_shape, save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import builtin_directory

TINY = TrainerConfig(
    device="cpu", throughput=ThroughputConfig(batch_size=2, length=8, num_warmup=1, num_repeats=3)
)
PRUNED = EncoderShape(5, 120, (2, 1, 0, 0), (0, 33, 7, 0))


def test_a_profile_tells_the_setting_and_has_a_name_that_does():
    with model_timer(TINY, num_threads=1) as timer:
        profile = timer.profile()
        named = timer.profile("laptop")

    assert profile.name == "cpu-1thread-float32-b2-l8" == default_name(profile)
    assert (profile.batch_size, profile.length, profile.num_threads) == (2, 8, 1)
    assert profile.processor
    assert named == replace(profile, name="laptop")


def test_the_number_of_threads_is_torchs_again_afterwards():
    before = torch.get_num_threads()

    with model_timer(TINY, num_threads=before + 1) as timer:
        assert timer.profile().num_threads == before + 1

    assert torch.get_num_threads() == before


def test_the_shipped_model_is_described():
    with model_timer(TINY) as timer:
        encoder = timer.encoder((1, 2, 10))

    assert (encoder.num_layers, encoder.dense_hidden_size, encoder.head_size) == (4, 128, 32)
    assert dense_shape(encoder, 1) == EncoderShape(1, 128, (4,) * 4, (512,) * 4)
    assert (encoder.embed_mode, encoder.demultiplexer) == ("single_pass", "rsa")


@pytest.fixture
def timed_shapes(monkeypatch):
    """Pairs of a model's shape and that of the baseline, as they are timed."""
    shapes = []
    original = timed.measure_throughput

    def remember(model, baseline, *rest, **options):
        shapes.append((model.shape, baseline.shape))
        return original(model, baseline, *rest, **options)

    monkeypatch.setattr(timed, "measure_throughput", remember)
    return shapes


def test_a_model_whose_folder_is_gone_is_timed_untrained(tmp_path: Path, timed_shapes):
    with model_timer(TINY) as timer:
        found = timer.measure(PRUNED, str(tmp_path / "gone"))

    (model, baseline) = timed_shapes[0]
    assert (model.num_instances, model.hidden_size) == (5, 120)
    assert (model.head_counts, model.feedforward_sizes) == ((2, 1, 0, 0), (0, 33, 7, 0))
    assert baseline == baseline.dense(1)
    assert (found.batch_size, found.length, found.num_repeats) == (2, 8, 3)
    assert found.speedup > 1


def test_a_model_whose_folder_is_here_is_loaded(tmp_path: Path, monkeypatch):
    loaded = []
    original = timed.load_model
    monkeypatch.setattr(timed, "load_model", lambda d: loaded.append(d) or original(d))
    directory = builtin_directory(2)

    with model_timer(TINY) as timer:
        found = timer.measure(EncoderShape(2, 128, (4,) * 4, (512,) * 4), str(directory))
        again = timer.measure_directory(directory)

    assert loaded == [directory]
    assert found.throughput > 0
    assert again.throughput > 0


def test_calibration_shapes_are_timed_in_order_each_after_the_baseline(monkeypatch):
    def rounds(passes, **_):
        assert len(set(passes[::2])) == 1
        assert len({*passes}) == 1 + len(passes) // 2
        own = np.arange(2.0, 2 + len(passes) // 2)
        seconds = np.stack([np.ones_like(own), own], axis=1).reshape(-1, 1)
        return seconds * np.array([[1.0, 2.0, 1.0, 1.0, 1.0]])

    monkeypatch.setattr(timed, "time_rounds", rounds)
    with model_timer(TINY) as timer:
        shapes = calibration_shapes(timer.encoder((1, 2)), (1, 2), 8)
        timings, num_rounds = timer.time_shapes(shapes, 10.0)

    assert num_rounds == 5
    assert [timing.shape for timing in timings] == shapes
    assert [timing.seconds for timing in timings] == pytest.approx(range(1, len(shapes) + 1))
    assert [timing.share for timing in timings] == pytest.approx(range(1, len(shapes) + 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"length": 4000}, r"`--length` must be at most 32, the positions of the model, got 4000"),
        ({"batch_size": 5000}, r"`--batch-size` is too large to calibrate with: .* smaller one"),
    ],
)
def test_a_setting_that_cannot_be_timed_is_refused_as_the_user_spelt_it(changed, message):
    config = replace(TINY, throughput=replace(TINY.throughput, **changed))
    shape = EncoderShape(1, 128, (4,) * 4, (512,) * 4)

    with model_timer(config) as timer, pytest.raises(InputError, match=message):
        timer.time_shapes([shape], limit_s=0.001)


def test_a_stored_structure_of_another_model_is_refused():
    with (
        model_timer(TINY) as timer,
        pytest.raises(InputError, match="has 2 layers, but `builtin` has 4"),
    ):
        timer.measure(EncoderShape(1, 128, (4, 4), (9, 9)), "")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with (
        pytest.raises(InputError, match="`--device` is `cuda`, but torch sees no CUDA device"),
        model_timer(replace(TINY, device="cuda")),
    ):
        pass


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path):
    with model_timer(TINY) as timer, pytest.raises(InputError, match="No model can be loaded"):
        timer.measure_directory(tmp_path)


def test_a_pruned_model_is_compared_with_the_dense_one_of_its_kind(tmp_path: Path, timed_shapes):
    dense = read_shape(builtin_directory(5))
    shape = replace(
        dense, hidden_size=120, head_counts=(2, 1, 0, 0), feedforward_sizes=(0, 33, 7, 0)
    )
    save_model(untrained_model(shape, torch.device("cpu")), tmp_path)

    with model_timer(TINY) as timer:
        timer.measure_directory(tmp_path)

    assert timed_shapes == [(shape, dense.dense(1))]


def test_calibration_shapes_are_timed_as_models_are_served(monkeypatch):
    folded = []
    original = MuxedBert.fold
    monkeypatch.setattr(
        MuxedBert, "fold", lambda model, length: folded.append(length) or original(model, length)
    )

    with model_timer(TINY) as timer:
        timer.time_shapes([EncoderShape(2, 128, (4,) * 4, (512,) * 4)], 10.0)

    assert folded == [8]


def test_making_the_models_counts_towards_the_time_for_them(monkeypatch):
    clock, left = iter((100.0, 103.5)), []
    monkeypatch.setattr(timed.time, "monotonic", lambda: next(clock))

    def rounds(passes, *, limit_s, **_):
        left.append(limit_s)
        return np.ones((len(passes), 5))

    monkeypatch.setattr(timed, "time_rounds", rounds)
    with model_timer(TINY) as timer:
        timer.time_shapes([EncoderShape(1, 128, (4,) * 4, (512,) * 4)], 10.0)

    assert left == [6.5]
