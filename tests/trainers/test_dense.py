from dataclasses import replace

import pytest

from trainers.config import ModelConfig
from trainers.errors import ConfigError
from trainers.models.checkpoints import load_model
from trainers.phase_config import NarrowConfig
from trainers.pipeline import Trainer


@pytest.fixture(scope="module")
def blocks(config):
    """The recipe of the tests with wide models made of blocks."""
    model = replace(config.model, widening="blocks")
    narrow = NarrowConfig(num_updates=4, num_evaluations=2, batch_size=8, learning_rate=1e-3)
    return replace(config, model=model, narrow=narrow)


@pytest.fixture(scope="module")
def result(train, blocks, cache_dir):
    """Result of (2, 0.6), the first candidate in its cache."""
    return train(blocks, cache_dir, 2, 0.6)


def test_a_narrow_model_takes_the_place_of_priming(result):
    names = [phase.name for phase in result.phases]

    assert names == ["finetune", "narrow", "finetune", "prune", "finetune_pruned"]
    assert result.sparsity == pytest.approx(0.6, abs=5e-3)


def test_the_narrow_model_is_an_nth_of_the_plain_one(result, cache_dir):
    (directory,) = cache_dir.glob("narrow-n2-*")

    shape = load_model(directory).shape

    assert shape.num_instances == 1
    assert (shape.hidden_size, *shape.head_counts) == (16, 2, 2)
    assert shape.feedforward_sizes == (32, 32)


def test_other_sparsities_share_the_wide_model(train, blocks, cache_dir, result):
    dense = train(blocks, cache_dir, 2, 0.0)

    assert [p.name for p in dense.phases if p.is_cached] == ["finetune", "narrow", "finetune"]
    assert dense.sparsity == 0


def test_the_plain_model_is_that_of_any_widening(train, config, cache_dir, blocks, result):
    plain = train(replace(blocks, model=replace(blocks.model, widening="keys")), cache_dir, 1, 0.0)

    assert all(phase.is_cached for phase in plain.phases)


def test_a_width_without_a_head_for_each_instance_is_refused_before_training(blocks, tmp_path):
    trainer = Trainer(blocks, shared_seed=0, cache_dir=tmp_path)

    with pytest.raises(ConfigError, match="the model has 4; N must be at most that, got 5"):
        trainer.train_and_measure(
            num_instances=5, sparsity=0.0, seed=0, report=lambda *event: None
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"multiplexer": "contextual"}, "or `learned_hadamard`, got `contextual`"),
        ({"demultiplexer": "index_prefix"}, "needs `model.demultiplexer` = `rsa`, got `index_pr"),
        ({"demux_norm": "published"}, "needs `model.demux_norm` = `all`, got `published`"),
    ],
)
def test_multiplexing_that_cannot_keep_blocks_apart_is_refused(changes, needed):
    with pytest.raises(ConfigError, match=needed):
        ModelConfig(widening="blocks", **changes)


def test_a_narrow_model_is_trained():
    with pytest.raises(ConfigError, match=r"`narrow\.num_updates` must be at least 1, got 0"):
        NarrowConfig(num_updates=0)
