import hashlib
import json
from dataclasses import fields, is_dataclass, replace

import pytest

from trainers.config import (
    AccuracyConfig,
    DataConfig,
    ModelConfig,
    TaskConfig,
    ThroughputConfig,
    TrainerConfig,
    added_defaults,
    check_candidate,
    decisive,
    to_dict,
)
from trainers.errors import ConfigError
from trainers.phase_config import (
    FinetuneConfig,
    FinetunePrunedConfig,
    NarrowConfig,
    PhaseConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
)


@pytest.mark.parametrize(
    ("kind", "name", "value", "rule"),
    [
        (DataConfig, "max_length", 7, "at least 8"),
        (DataConfig, "num_train", -1, r"0 \(all\) or more"),
        (DataConfig, "num_validation", -5, r"0 \(all\) or more"),
        (DataConfig, "num_held_out", 0, "at least 1"),
        (ModelConfig, "multiplexer", "mean", "one of gaussian_hadamard, learned_hadamard, co.*"),
        (ModelConfig, "demultiplexer", "mlp", "one of rsa, index_prefix"),
        (ModelConfig, "demux_norm", "none", "one of all, published"),
        (ModelConfig, "mask_mode", "all", "one of union, none, multiplexer"),
        (ModelConfig, "key_norm", -0.5, r"0 \(automatic\) or positive"),
        (ModelConfig, "num_demux_layers", 0, "at least 1"),
        (PrimeConfig, "num_updates", -1, "0 or more"),
        (PrimeConfig, "batch_size", 0, "at least 1"),
        (PrimeConfig, "max_sequences", 0, "at least 1"),
        (PrimeConfig, "learning_rate", 0.0, "positive"),
        (PrimeConfig, "learning_rate", float("nan"), "positive"),
        (PrimeConfig, "warmup", 1.0, r"in \[0, 1\)"),
        (PrimeConfig, "weight_decay", -0.1, "0 or more"),
        (PretrainConfig, "mask_probability", 0.0, r"in \(0, 1\)"),
        (PretrainConfig, "mask_probability", 1.0, r"in \(0, 1\)"),
        (PretrainConfig, "distill_weight", -1.0, "0 or more"),
        (PretrainConfig, "detect_weight", -1.0, "0 or more"),
        (PretrainConfig, "retrieval_weight", -1.0, "0 or more"),
        (PretrainConfig, "mlm_weight", -1.0, "0 or more"),
        (PretrainConfig, "teacher", "finetune", "one of source, finetuned"),
        (PrimeConfig, "patience", -1, "0 or more"),
        (FinetuneConfig, "retrieval_weight", -1.0, "0 or more"),
        (NarrowConfig, "retrieval_weight", 0.1, "0, for a narrow model reads one .*"),
        (FinetunePrunedConfig, "retrieval_weight", 0.1, "0, for the token table of a .*"),
        (FinetuneConfig, "num_evaluations", 0, "at least 1"),
        (FinetuneConfig, "distill_weight", 1.1, r"in \[0, 1\]"),
        (FinetuneConfig, "state_distill_weight", -1.0, "0 or more"),
        (FinetuneConfig, "temperature", 0.0, "positive"),
        (FinetuneConfig, "decay", "cosine", "one of linear, none"),
        (FinetunePrunedConfig, "stretch", -0.1, r"in \[0, 1\]"),
        (FinetunePrunedConfig, "stretch", 1.5, r"in \[0, 1\]"),
        (FinetunePrunedConfig, "layer_distill_weight", 1.0, r"in \[0, 1\)"),
        (FinetunePrunedConfig, "alignment_tokens", -1, "0 or more"),
        (FinetunePrunedConfig, "teacher", "wide", "one of same_width, plain, both"),
        (FinetunePrunedConfig, "layer_alignment", "v4", "one of fixed, free, ordered, .*"),
        (NarrowConfig, "layer_distill_weight", 1.0, r"in \[0, 1\)"),
        (NarrowConfig, "layer_alignment", "none", "one of fixed, free, ordered, .*"),
        (NarrowConfig, "temperature", 0.0, "positive"),
        (NarrowConfig, "state_distill_weight", 0.5, "0, for a narrow model has states of .*"),
        (PruneConfig, "teacher", "narrow", "one of same_width, plain, both"),
        (PruneConfig, "alignment_tokens", -1, "0 or more"),
        (PruneConfig, "state_distill_weight", -1.0, "0 or more"),
        (PruneConfig, "gate_learning_rate", 0.0, "positive"),
        (PruneConfig, "multiplier_learning_rate", 0.0, "positive"),
        (PruneConfig, "layer_alignment", "v4", "one of fixed, free, ordered, random, windowed"),
        (PruneConfig, "sparsity_convention", "all", "one of weights, cofi"),
        (PruneConfig, "rung_updates", 0, "at least 1"),
        (PruneConfig, "sparsity_warmup", 0.0, r"in \(0, 1\]"),
        (PruneConfig, "sparsity_warmup", 1.5, r"in \(0, 1\]"),
        (PruneConfig, "layer_distill_weight", -1.0, "0 or more"),
        (PruneConfig, "logit_distill_weight", -1.0, "0 or more"),
        (PruneConfig, "label_weight", -1.0, "0 or more"),
        (PruneConfig, "temperature", 0.0, "positive"),
        (PruneConfig, "tolerance", 0.0, r"in \(0, 1\)"),
        (AccuracyConfig, "num_compositions", 0, "at least 1"),
        (AccuracyConfig, "batch_size", 0, "at least 1"),
        (ThroughputConfig, "batch_size", 0, "at least 1"),
        (ThroughputConfig, "num_repeats", 0, "at least 1"),
        (ThroughputConfig, "num_warmup", -1, "0 or more"),
        (ThroughputConfig, "length", -1, r"0 \(automatic\) or more"),
        (TrainerConfig, "device", "tpu", "auto, cpu or cuda"),
        (TrainerConfig, "precision", "float16", "float32, bfloat16 or auto"),
        (TrainerConfig, "checkpoint_interval_s", 0.0, "positive"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_its_name_and_rule(kind, name, value, rule):
    table = f"{kind.section}." if issubclass(kind, PhaseConfig) else ""
    with pytest.raises(ConfigError, match=rf"{table}{name}` must be {rule}, got {value!r}\."):
        kind(**{name: value})


@pytest.mark.parametrize("ladder", [(0.6, 0.6), (0.7, 0.6), (0.0, 0.6), (0.6, 1.0)])
def test_a_ladder_that_does_not_rise_is_refused(ladder):
    with pytest.raises(ConfigError, match=r"`prune.ladder` must be rising sparsities in \(0, 1\)"):
        PruneConfig(ladder=ladder)


@pytest.mark.parametrize(
    ("ladder", "sparsity", "rungs"),
    [
        ((), 0.7, (0.7,)),
        ((0.6, 0.7, 0.8), 0.6, (0.6,)),
        ((0.6, 0.7, 0.8), 0.8, (0.6, 0.7, 0.8)),
        ((0.6, 0.7, 0.8), 0.75, (0.6, 0.7, 0.75)),
        ((0.6, 0.7, 0.8), 0.5, (0.5,)),
        ((0.3, 0.6), 0.1 + 0.2, (0.3,)),  # 0.30000000000000004
        ((0.3, 0.6), 0.6000000000000001, (0.3, 0.6)),
    ],
)
def test_a_sparsity_is_climbed_to_over_the_rungs_below_it(ladder, sparsity, rungs):
    assert PruneConfig(ladder=ladder).rungs(sparsity) == rungs


@pytest.mark.parametrize("gates", [(), ("heads", "mlp")])
def test_gates_of_no_known_kind_are_refused(gates):
    with pytest.raises(ConfigError, match=r"`prune.gates` must be one or more of heads, head_la"):
        PruneConfig(gates=gates)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"demux_norm": "published", "num_demux_layers": 1},
            "`published` needs `model.num_demux_layers` of at least 2, got 1",
        ),
        (
            {"demux_norm": "published", "demultiplexer": "index_prefix"},
            "variant of `model.demultiplexer` = `rsa`, got `index_prefix`; use `all`",
        ),
        (
            {"mask_mode": "multiplexer"},
            "`contextual` attends to, got `gaussian_hadamard`; use `union` or `none`",
        ),
        (
            {"multiplexer": "contextual", "embed_mode": "single_pass"},
            "`model.embed_mode` must be `two_pass`, got `single_pass`",
        ),
    ],
)
def test_multiplexing_options_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_columns": ()}, "one or two names"),
        ({"text_columns": ("a", "b", "c")}, "one or two names"),
        ({"labels": ("only",)}, "at least two labels"),
        ({"labels": ("same", "same")}, "free of repeats"),
    ],
)
def test_an_impossible_task_is_refused(changes, message):
    values = {"name": "mood", "text_columns": ("text",), "labels": ("sad", "glad"), **changes}

    with pytest.raises(ConfigError, match=message):
        TaskConfig(**values)


@pytest.mark.parametrize(
    ("num_instances", "num_groups"), [(1, 64), (2, 64), (5, 64), (10, 32), (400, 1)]
)
def test_wide_groups_get_fewer_groups_but_at_least_one(num_instances, num_groups):
    config = PrimeConfig(batch_size=64, max_sequences=320)

    assert config.num_groups(num_instances) == num_groups


@pytest.mark.parametrize(("num_instances", "sparsity"), [(1, 0.0), (10, 0.95), (40, 0.9999)])
def test_possible_candidates_pass(num_instances, sparsity):
    check_candidate(num_instances, sparsity)


@pytest.mark.parametrize(
    ("num_instances", "sparsity", "message"),
    [
        (0, 0.0, "`num_instances` must be at least 1, got 0"),
        (-2, 0.0, "`num_instances` must be at least 1, got -2"),
        (1001, 0.0, "`num_instances` must be at most 1000, got 1001"),
        (1, 1.0, r"`sparsity` must be in \[0, 1\), got 1\.0"),
        (1, -0.01, r"`sparsity` must be in \[0, 1\), got -0\.01"),
    ],
)
def test_impossible_candidates_are_refused(num_instances, sparsity, message):
    with pytest.raises(ConfigError, match=message):
        check_candidate(num_instances, sparsity)


@pytest.mark.parametrize(
    ("name", "kind"), [("prune", PruneConfig), ("finetune_pruned", FinetunePrunedConfig)]
)
def test_states_are_matched_with_an_n_1_teacher_alone(name, kind):
    with pytest.raises(
        ConfigError, match=rf"`{name}.state_distill_weight` must be 0 unless `{name}"
    ):
        TrainerConfig(**{name: kind(state_distill_weight=0.5)})
    for teacher in ("plain", "both"):
        TrainerConfig(**{name: kind(state_distill_weight=0.5, teacher=teacher)})


def test_the_whole_configuration_becomes_plain_values_for_json():
    task = TaskConfig(name="mood", text_columns=("text",), labels=("sad", "glad"))
    config = TrainerConfig(task=task)

    values = to_dict(config)

    assert json.loads(json.dumps(values)) == values
    assert values["task"]["labels"] == ["sad", "glad"]
    assert values["prune"]["tolerance"] == config.prune.tolerance
    assert values.keys() == {item.name for item in fields(TrainerConfig)}


def test_a_pre_training_without_any_loss_is_refused():
    with pytest.raises(ConfigError, match=r"`pretrain\.mlm_weight` must be positive if no other"):
        PretrainConfig(mlm_weight=0.0, distill_weight=0.0)


def test_options_added_since_change_no_key_of_a_cache_at_their_defaults():
    """The hash is that of the recipe before there were any; if it changes, caches are lost."""
    parts = vars(TrainerConfig()).items()

    values = {name: decisive(part) if is_dataclass(part) else part for name, part in parts}

    text = json.dumps(values, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "6916a5b23ec763ad"


def test_an_added_option_decides_as_soon_as_it_has_another_value():
    config = FinetuneConfig(temperature=4.0)

    assert decisive(config) == decisive(FinetuneConfig()) | {"temperature": 4.0}
    assert dict(added_defaults())["finetune.temperature"] == 2.0
    assert to_dict(replace(config, temperature=2.0))["temperature"] == 2.0


def test_only_configurations_become_plain_values():
    with pytest.raises(ConfigError, match="dataclass is needed, got dict"):
        to_dict({"device": "cpu"})


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("qqp", "qqp"),
        (TaskConfig(name="mood", text_columns=("text",), labels=("sad", "glad")), "mood"),
    ],
)
def test_a_task_has_a_name_whoever_described_it(task, name):
    assert TrainerConfig(task=task).task_name == name
