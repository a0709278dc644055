from dataclasses import replace

import numpy as np
import pytest
import torch

from trainers.config import AccuracyConfig
from trainers.data.grouping import group_indices
from trainers.measure.accuracy import count_correct, measure_accuracy, predict
from trainers.measure.batching import make_batch

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
