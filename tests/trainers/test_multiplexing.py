"""Every way to multiplex goes through all phases."""

from dataclasses import replace

import pytest

from trainers.config import ModelConfig

MUXED_PHASES = ["prime", "pretrain", "finetune", "finetune", "prune", "finetune_pruned"]
"""The first `finetune` is that of the N = 1 teacher."""


def with_variant(config, variant):
    words = {name: word for name, word in variant.items() if name != "embed_mode"}
    model = ModelConfig(source=config.model.source, **words)
    prune = replace(config.prune, num_updates=15, gate_learning_rate=1.0)
    data = replace(config.data, num_train=64, num_validation=17)
    return replace(config, model=model, prune=prune, data=data)


def test_every_way_to_multiplex_is_trained_pruned_and_measured(train, config, tmp_path, variant):
    result = train(with_variant(config, variant), tmp_path, 2, 0.6)

    assert [phase.name for phase in result.phases] == MUXED_PHASES
    assert not any(phase.is_cached for phase in result.phases)
    assert result.sparsity == pytest.approx(0.6, abs=0.01)
    assert result.accuracy.num_examples == 17
    assert result.throughput.throughput > 0
