import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from autoprumux.config import study_to_dict
from autoprumux.errors import ConfigError, UsageError
from autoprumux.study_files import (
    Override,
    load_study,
    load_task,
    parse_setting,
    stored_study,
)
from trainers.config import ModelConfig, TaskConfig, TrainerConfig


@pytest.fixture
def study_file(tmp_path: Path):
    def write(text: str, name: str = "mine.toml") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_study_file_changes_only_what_it_names(study_file):
    path = study_file("[trainer.finetune]\nnum_updates = 7\n[search]\nbudget = '1,3'\n")

    study = load_study(path)

    assert study.trainer.finetune.num_updates == 7
    assert study.trainer.prune == TrainerConfig().prune
    assert study.search.budgets == (0.01, 0.03)


@pytest.mark.parametrize("word", ["fixed", "free", "ordered", "random", "windowed"])
def test_a_study_file_chooses_how_it_prunes_by_words(study_file, word):
    path = study_file(
        f"""
        [trainer.prune]
        gates = ["heads", "intermediate"]
        sparsity_convention = "cofi"
        layer_alignment = "{word}"
        """
    )

    prune = load_study(path).trainer.prune

    assert prune.gates == ("heads", "intermediate")
    assert (prune.sparsity_convention, prune.layer_alignment) == ("cofi", word)


def test_gates_that_do_not_exist_are_reported_with_those_that_do(study_file):
    path = study_file("[trainer.prune]\ngates = ['heads', 'mlp']\n")

    with pytest.raises(ConfigError, match=r"`trainer.prune.gates` must be one or more of heads, "):
        load_study(path)


def test_a_study_is_named_after_its_task_and_its_file(study_file):
    assert load_study("embedded").name == "qnli-embedded"
    assert load_study(study_file("task = 'sst2'"), []).name == "sst2-mine"
    assert load_study("embedded", [Override("name", "other", "--study")]).name == "other"


def test_a_file_may_extend_a_preset_or_a_file_beside_it(study_file):
    study_file("extends = 'embedded'\n[search]\nmax_trials = 3\nseed = 5\n", "base.toml")

    study = load_study(study_file("extends = 'base.toml'\n[search]\nseed = 6\n"))

    assert (study.search.max_trials, study.search.seed) == (3, 6)


def test_files_that_extend_each_other_are_refused(study_file):
    path = study_file("extends = 'mine.toml'")

    with pytest.raises(ConfigError, match="`extends` goes in a circle"):
        load_study(path)


def test_all_mistakes_of_a_file_are_reported_together(study_file):
    path = study_file(
        """
        nam = 3
        [search]
        widths = [0, 1]
        sparsities = [0, 1.2]
        budget = "-1"
        sampler = "gird"
        seed = true
        [trainer]
        device = "tpu"
        [trainer.fintune]
        num_updates = 3
        [trainer.finetune_pruned]
        num_evaluations = 0
        num_updates = "many"
        """
    )

    with pytest.raises(ConfigError) as caught:
        load_study(path)

    lines = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    assert sorted(lines) == sorted(
        [
            "`nam` is unknown; did you mean `name`?",
            "`search.widths` must be at least 1, got 0.",
            "`search.sparsities` must be in [0, 1), got 1.2.",
            "`search.budget` must be in [0, 100) points, got -1.",
            "`search.sampler` must be one of performance_model, random, grid, tpe, gp, nsga2, "
            "brute_force, got 'gird'.",
            "`search.seed` must be a whole number, got True.",
            "`trainer.device` must be one of auto, cpu, cuda, got 'tpu'.",
            "`trainer.fintune.num_updates` is unknown; "
            "did you mean `trainer.finetune.num_updates`?",
            "`trainer.finetune_pruned.num_evaluations` must be at least 1, got 0.",
            "`trainer.finetune_pruned.num_updates` must be a whole number, got 'many'.",
        ]
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("search.widths", [2, 5], "must contain 1, the dense baseline's, got 2, 5"),
        ("search.widths", [1, 1], "must not repeat a value, got 1, 1"),
        ("search.widths", [1.5], "must be a list of whole numbers, got [1.5]"),
        ("search.sparsities", [0.6], "must contain 0, the dense baseline's, got 0.6"),
        ("search.max_trials", 0, "must be at least 1, got 0"),
        ("search.timeout_s", -1, "must be 0 (no limit) or more seconds, got -1"),
        ("search.stop_chance", 1, "must be in [0, 1), got 1"),
        ("search.stop_gain", -0.1, "must be 0 or more, got -0.1"),
        ("search.seed", -1, "must be 0 or more, got -1"),
        ("trainer.prune.temperature", 0, "must be positive, got 0"),
        ("search", 3, "must be a table"),
    ],
)
def test_a_mistake_is_told_in_the_users_own_words(key, value, message):
    with pytest.raises(ConfigError, match=re.escape(f"`--option` {message}")):
        load_study("embedded", [Override(key, value, "--option")])


def test_an_unknown_preset_is_refused_with_those_that_there_are():
    with pytest.raises(
        ConfigError, match=r"`--preset` 'embeded' is unknown; there are .*embedded"
    ):
        load_study("embeded")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[search", "is not valid TOML"),
        (b"\xff\xfe", "cannot be read: it is not UTF-8 text"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"mine.toml {message}"):
        load_study(str(path))


def test_a_task_of_ones_own_comes_from_the_study_file_or_from_its_own(study_file):
    keys = "name = 'mood'\ntext_columns = ['text']\nlabels = ['sad', 'glad']\n"
    expected = TaskConfig(name="mood", text_columns=("text",), labels=("sad", "glad"))

    inside = load_study(study_file(f"[task]\n{keys}"))
    beside = load_study("embedded", [Override("task", load_task(study_file(keys)), "--task")])

    assert inside.trainer.task == expected
    assert beside.trainer.task == expected
    assert beside.name == "mood-embedded"


def test_mistakes_of_a_task_are_reported_together():
    task = {"name": "mood", "labels": ["sad", 1], "columns": ["text"]}

    with pytest.raises(ConfigError) as caught:
        load_study("embedded", [Override("task", task, "--task")])

    assert str(caught.value).splitlines() == [
        "`task.labels` must be a list of texts, got ['sad', 1].",
        "`task.columns` is unknown; did you mean `task.text_columns`?",
        "`task.text_columns` is missing.",
    ]


def test_a_task_with_one_label_is_refused():
    task = {"name": "mood", "labels": ["sad"], "text_columns": ["text"]}

    with pytest.raises(ConfigError, match=r"`task\.labels` must be at least two labels"):
        load_study("embedded", [Override("task", task, "--task")])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("trainer.finetune.num_updates=200", 200),
        ("search.widths=[1, 2]", [1, 2]),
        ("trainer.device=cpu", "cpu"),
        ("trainer.device='cpu'", "cpu"),
        ("trainer.data.source=a=b", "a=b"),
    ],
)
def test_a_setting_is_a_toml_value_or_a_plain_word(text, value):
    setting = parse_setting(text)

    assert setting.value == value
    assert setting.spelling == setting.key == text.split("=")[0]


@pytest.mark.parametrize("text", ["search.seed", "=3", ""])
def test_a_setting_without_key_and_value_is_refused(text):
    with pytest.raises(UsageError, match=f"`--set` must look like KEY=VALUE, got '{text}'"):
        parse_setting(text)


def test_a_later_override_wins():
    study = load_study(
        "embedded", [parse_setting("search.seed=1"), parse_setting("search.seed=2")]
    )

    assert study.search.seed == 2


OWN_TASK = {"name": "mood", "text_columns": ["a", "b"], "labels": ["sad", "glad"]}


@pytest.mark.parametrize("preset", ["embedded", "minilm", "bert-base", "paper-grid"])
@pytest.mark.parametrize("task", ["sst2", OWN_TASK])
def test_a_stored_study_comes_back_as_it_was(demo_study_record, preset, task):
    settings = [Override("task", task, "--task"), Override("search.budget", "0.5,0.7,12.345", "")]
    study = load_study(preset, settings)
    stored = json.loads(json.dumps(study_to_dict(study)))

    record = demo_study_record(name=study.name, task=study.trainer.task_name, config=stored)

    assert stored_study(record) == study


def test_some_tables_of_a_stored_study_are_read_whatever_else_it_holds(demo_study_record):
    trainer = {
        "model": {"num_demux_layers": 3, "wings": 2},
        "finetune": {"num_updates": 7},
        "x": 1,
    }
    record = demo_study_record(config={"trainer": trainer, "search": {"legs": 6}})

    found = stored_study(record, only=["trainer.model", "trainer.data"])

    assert found.trainer == replace(
        TrainerConfig(), model=replace(ModelConfig(), num_demux_layers=3)
    )
    trainer["model"]["num_demux_layers"] = "three"
    with pytest.raises(ConfigError, match=r"num_demux_layers` must be a whole number"):
        stored_study(record, only=["trainer.model"])


def test_a_stored_study_that_this_version_does_not_understand_is_refused(demo_study_record):
    record = demo_study_record(config={"trainer": {"wings": 2}})

    with pytest.raises(
        ConfigError, match=r"stored configuration of study .*`trainer.wings` is un"
    ):
        stored_study(record)
