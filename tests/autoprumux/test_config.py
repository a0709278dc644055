import json
from dataclasses import replace

import pytest

from autoprumux.config import (
    SearchConfig,
    config_hash,
    parse_budgets,
    recipe_differences,
    study_to_dict,
)
from autoprumux.errors import ConfigError, UsageError
from autoprumux.study_files import load_study, parse_setting


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        ("2", (0.02,)),
        ("0", (0.0,)),
        ("1.5", (0.015,)),
        ("3,1,10", (0.01, 0.03, 0.1)),
        ("1,1", (0.01,)),
        ("0:1:0.5", (0.0, 0.005, 0.01)),
        ("0:1:0.3", (0.0, 0.003, 0.006, 0.009)),
    ],
)
def test_budgets_in_points_become_ascending_fractions(text, budgets):
    assert parse_budgets(text) == budgets


def test_a_range_of_budgets_holds_both_of_its_ends():
    budgets = parse_budgets("0:10:0.5")

    assert len(budgets) == 21
    assert budgets[-1] == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-1", r"`--budget` must be in \[0, 100\) points, got -1"),
        ("100", r"`--budget` must be in \[0, 100\) points, got 100"),
        ("nan", r"`--budget` must be in \[0, 100\) points, got nan"),
        ("two", "`--budget` must be points such as 2, .*got 'two'"),
        ("", "`--budget` must be points such as 2, .*got ''"),
        ("1:2", "`--budget` must be points such as 2, .*got '1:2'"),
        ("5:1:1", "must go upwards, got '5:1:1'"),
        ("0:1:0", "must go upwards, got '0:1:0'"),
        ("0:90:0.01", "at most 1001 budgets, got 9001"),
    ],
)
def test_an_unusable_budget_is_refused_with_its_value(text, message):
    with pytest.raises(UsageError, match=message):
        parse_budgets(text)


@pytest.mark.parametrize(
    "setting",
    [
        "search.max_trials=3",
        "search.timeout_s=60",
        "search.budget='1,3'",
        "search.sampler=random",
        "search.stop_chance=0.1",
        "trainer.checkpoint_interval_s=5",
        "trainer.narrow.num_updates=5",  # without blocks, nothing narrow is trained
        "name=other",
    ],
)
def test_caps_and_questions_leave_the_recipe_alone(setting):
    before, after = load_study("embedded"), load_study("embedded", [parse_setting(setting)])

    assert before != after
    assert config_hash(before) == config_hash(after)
    assert recipe_differences(study_to_dict(before), after) == []


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        (
            "trainer.finetune.num_updates=300",
            "`trainer.finetune.num_updates`: stored 600, now 300",
        ),
        ("search.seed=3", "`search.seed`: stored 0, now 3"),
        ("search.widths=[1, 2]", "`search.widths`: stored [1, 2, 5, 10], now [1, 2]"),
        ("task=sst2", "`trainer.task`: stored 'qnli', now 'sst2'"),
    ],
)
def test_a_changed_recipe_has_another_hash_and_its_difference_is_named(setting, difference):
    before, after = load_study("embedded"), load_study("embedded", [parse_setting(setting)])
    stored = json.loads(json.dumps(study_to_dict(before)))

    assert config_hash(before) != config_hash(after)
    assert recipe_differences(stored, after) == [difference]


def test_blocks_and_their_narrow_model_are_part_of_the_recipe():
    blocks = parse_setting("trainer.model.widening=blocks")
    before, after = load_study("embedded", [blocks]), load_study("embedded")
    longer = load_study("embedded", [blocks, parse_setting("trainer.narrow.num_updates=5")])

    assert len({config_hash(config) for config in (before, after, longer)}) == 3
    assert recipe_differences(study_to_dict(before), longer) == [
        "`trainer.narrow.num_updates`: stored 1600, now 5"
    ]


def test_a_recipe_from_before_blocks_is_that_of_keys():
    config = load_study("embedded")
    stored = json.loads(json.dumps(study_to_dict(config)))
    del stored["trainer"]["model"]["widening"], stored["trainer"]["narrow"]

    assert recipe_differences(stored, config) == []


def test_a_stretch_is_part_of_the_recipe_and_none_is_that_of_before():
    stretched = load_study("embedded", [parse_setting("trainer.finetune_pruned.stretch=0.5")])
    config = load_study("embedded")
    stored = json.loads(json.dumps(study_to_dict(config)))

    assert config_hash(stretched) != config_hash(config)
    assert recipe_differences(stored, stretched) == [
        "`trainer.finetune_pruned.stretch`: stored 'nothing', now 0.5"
    ]
    del stored["trainer"]["finetune_pruned"]["stretch"]
    assert recipe_differences(stored, config) == []


def test_a_recipe_from_before_an_option_was_added_is_that_of_its_default():
    config = load_study("embedded")
    warm = load_study("embedded", [parse_setting("trainer.finetune.temperature=4")])
    stored = json.loads(json.dumps(study_to_dict(config)))
    assert stored["trainer"]["finetune"].pop("temperature") == 2.0

    assert config_hash(config) == "c79c13cb656744c8"  # of this preset before there was the option
    assert recipe_differences(stored, config) == []
    assert recipe_differences(stored, warm) == [
        "`trainer.finetune.temperature`: stored 'nothing', now 4.0"
    ]


def test_a_search_built_in_python_is_checked_too():
    with pytest.raises(
        ConfigError, match=r"`search.budget` must be in \[0, 100\) points, got 250"
    ):
        replace(SearchConfig(), budgets=(2.5,))
