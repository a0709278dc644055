import json
from dataclasses import replace

import pytest

from trainers.errors import CheckpointError
from trainers.models.shape import MuxedBertShape


def test_a_shape_survives_json(tiny_shape):
    shape = replace(tiny_shape, labels=("no", "yes"), head_counts=(4, 0, 1), num_instances=5)

    assert MuxedBertShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape


def test_sparsity_counts_heads_units_and_hidden_dimensions(tiny_shape):
    shape = replace(
        tiny_shape, hidden_size=16, head_counts=(2, 0, 4), feedforward_sizes=(0, 8, 64)
    )

    assert shape.num_encoder_parameters == 16 * (4 * 8 * 6 + 2 * 72)
    assert shape.num_prunable_parameters == 3 * (4 * 32 * 32 + 2 * 32 * 64)
    assert shape.sparsity == 1 - 5376 / 24576


def test_the_dense_shape_of_a_compacted_one_has_no_sparsity(tiny_shape):
    compacted = replace(
        tiny_shape, hidden_size=16, head_counts=(2, 0, 4), feedforward_sizes=(0, 8, 64)
    )

    assert compacted.dense(5) == replace(tiny_shape, num_instances=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "not of a `muxed_bert` model"),
        ({"num_instanses": 2}, "does not fit.*num_instanses"),
    ],
)
def test_a_config_of_another_kind_is_refused(tiny_shape, change, message):
    with pytest.raises(CheckpointError, match=message):
        MuxedBertShape.from_dict({**tiny_shape.to_dict(), **change})


def test_a_config_with_a_missing_key_is_refused(tiny_shape):
    values = tiny_shape.to_dict()
    del values["vocab_size"]

    with pytest.raises(CheckpointError, match="vocab_size"):
        MuxedBertShape.from_dict(values)
