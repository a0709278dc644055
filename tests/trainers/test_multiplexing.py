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
    if variant.get("demultiplexer") == "index_prefix":  # see the test below
        config = replace(config, prune=replace(config.prune, layer_distill_weight=0.0))

    result = train(with_variant(config, variant), tmp_path, 2, 0.6)

    assert [phase.name for phase in result.phases] == MUXED_PHASES
    assert not any(phase.is_cached for phase in result.phases)
    assert result.sparsity == pytest.approx(0.6, abs=0.01)
    assert result.accuracy.num_examples == 17
    assert result.throughput.throughput > 0


@pytest.mark.xfail(
    reason="`PruneProgram` masks layers by the text alone, not by `MuxedBert.attended`",
    raises=RuntimeError,
)
def test_layers_are_distilled_with_positions_before_the_text(train, config, tmp_path):
    short = replace(
        with_variant(config, {"demultiplexer": "index_prefix"}),
        prime=replace(config.prime, num_updates=0),
        pretrain=replace(config.pretrain, num_updates=0),
        finetune=replace(config.finetune, num_updates=0, distill_weight=0.0),
        finetune_pruned=replace(config.finetune_pruned, num_updates=0),
    )

    result = train(short, tmp_path, 2, 0.6)

    assert [phase.name for phase in result.phases] == ["finetune", "prune"]
