from dataclasses import replace

import numpy as np
import pytest
import torch

from trainers.config import AccuracyConfig
from trainers.data.encoding import Encoded
from trainers.data.grouping import group_indices
from trainers.errors import OutOfMemoryError
from trainers.measure.accuracy import (
    count_correct,
    measure_accuracy,
    predict,
    predict_logits,
)
from trainers.measure.batching import make_batch
from trainers.models.muxed_bert import MuxedBert

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_instances", [1, 2, 5])
@pytest.mark.parametrize("num_examples", [1, 5, 13, 20])
@pytest.mark.parametrize("seed", [None, 3])
def test_every_example_gets_its_prediction_whatever_the_remainder(
    make_model, make_encoded, num_instances, num_examples, seed
):
    model, examples = make_model(num_instances), make_encoded(num_examples)

    classes = predict(model, examples, CPU, seed=seed, batch_size=2)

    indices, is_real = group_indices(num_examples, num_instances, seed=seed)
    expected = np.full(num_examples, -1)
    for group, reals in zip(indices, is_real, strict=True):
        logits = model(make_batch(examples, group[None], CPU))[0]
        for example, is_here, row in zip(group, reals, logits, strict=True):
            if is_here:
                expected[example] = int(row.argmax())
    assert np.array_equal(classes, expected)


@pytest.mark.parametrize("num_instances", [2, 5])
@pytest.mark.parametrize("num_examples", [1, 3, 13])
def test_logits_are_exactly_those_of_examples_padded_with_the_documented_filler(
    make_model, make_encoded, num_instances, num_examples
):
    """The filler are the first examples again; a batch of its own makes the sums the same."""
    model, examples = make_model(num_instances), make_encoded(num_examples)
    num_padded = -(-num_examples // num_instances) * num_instances
    filled = np.resize(np.arange(num_examples), num_padded)
    padded = Encoded(
        *(part[filled] for part in (examples.input_ids, examples.lengths, examples.token_type_ids))
    )

    logits = predict_logits(model, examples, CPU, batch_size=1)

    assert np.array_equal(logits, predict_logits(model, padded, CPU, batch_size=1)[:num_examples])
    assert np.array_equal(logits, predict_logits(model, examples, CPU, batch_size=1))


def test_predictions_are_deterministic_and_leave_the_model_in_evaluation_mode(
    make_model, make_encoded
):
    model, examples = make_model(5, dropout=0.5).train(), make_encoded(13)

    first, second = (predict(model, examples, CPU, seed=1) for _ in range(2))

    assert np.array_equal(first, second)
    assert not model.training


def test_the_batch_size_does_not_change_predictions(make_model, make_encoded):
    model, examples = make_model(2), make_encoded(31)

    first, second = (predict(model, examples, CPU, batch_size=size) for size in (1, 64))

    assert np.array_equal(first, second)


@pytest.mark.parametrize("num_instances", [1, 2])
def test_accuracy_is_the_mean_of_the_correctness_bits(make_model, make_encoded, num_instances):
    model, examples = make_model(num_instances), make_encoded(37)

    result = measure_accuracy(model, examples, AccuracyConfig(), seed=0, device=CPU)

    num_compositions = 1 if num_instances == 1 else 3
    assert (result.num_examples, result.num_compositions) == (37, num_compositions)
    bits = np.unpackbits(np.frombuffer(result.correctness, np.uint8), count=37 * num_compositions)
    rows = bits.reshape(num_compositions, 37)
    assert result.accuracy == pytest.approx(rows.mean())
    expected_std = rows.mean(axis=1).std(ddof=1) if num_compositions > 1 else 0.0
    assert result.accuracy_std == pytest.approx(expected_std)
    for k, row in enumerate(rows):
        assert np.array_equal(row, predict(model, examples, CPU, seed=k) == examples.labels)


def test_compositions_differ_for_multiplexed_models(make_model, make_encoded):
    result = measure_accuracy(
        make_model(5), make_encoded(200), AccuracyConfig(num_compositions=4), seed=0, device=CPU
    )

    bits = np.unpackbits(np.frombuffer(result.correctness, np.uint8), count=800).reshape(4, 200)
    assert len({row.tobytes() for row in bits}) == 4
    assert result.accuracy_std > 0


def test_accuracy_of_perfect_and_of_wrong_labels(make_model, make_encoded):
    model, examples = make_model(1), make_encoded(20)
    classes = predict(model, examples, CPU)

    right = measure_accuracy(
        model, replace(examples, labels=classes), AccuracyConfig(), seed=0, device=CPU
    )
    wrong = measure_accuracy(
        model, replace(examples, labels=1 - classes), AccuracyConfig(), seed=0, device=CPU
    )

    assert (right.accuracy, wrong.accuracy) == (1.0, 0.0)
    assert count_correct(model, replace(examples, labels=classes), CPU) == 20


def make_scarce(model, monkeypatch, most):
    """Let the model fail on more than `most` groups; yield the list of those it took."""
    seen, forward = [], MuxedBert.forward

    def scarce(self, batch, masks=None):
        if len(batch.input_ids) > most:
            raise torch.OutOfMemoryError("no memory")
        seen.append(len(batch.input_ids))
        return forward(self, batch, masks)

    monkeypatch.setattr(MuxedBert, "forward", scarce)
    return seen


@pytest.mark.parametrize("mask_mode", ["union", "none"])
def test_batches_that_do_not_fit_in_memory_are_halved_with_the_same_logits(
    make_model, make_encoded, monkeypatch, mask_mode
):
    """Without a mask padding counts, so that halves must be padded as the whole was."""
    model, examples = make_model(2, mask_mode=mask_mode), make_encoded(75)
    expected = predict_logits(model, examples, CPU, batch_size=16)
    seen = make_scarce(model, monkeypatch, 3)

    logits = predict_logits(model, examples, CPU, batch_size=16)

    assert np.allclose(logits, expected, rtol=0, atol=1e-6)
    assert sum(seen) >= 38
    assert max(seen) <= 3


def test_accuracy_is_the_same_with_few_groups_in_memory(make_model, make_encoded, monkeypatch):
    model, examples = make_model(2), make_encoded(75)
    config = AccuracyConfig(batch_size=32)
    expected = measure_accuracy(model, examples, config, seed=0, device=CPU)
    seen = make_scarce(model, monkeypatch, 5)

    assert measure_accuracy(model, examples, config, seed=0, device=CPU) == expected
    assert max(seen) <= 5


def test_groups_that_do_not_fit_one_by_one_are_an_error_of_ours(
    make_model, make_encoded, monkeypatch
):
    model = make_model(2)
    make_scarce(model, monkeypatch, 0)

    with pytest.raises(OutOfMemoryError, match="one group at a time"):
        predict(model, make_encoded(5), CPU)
