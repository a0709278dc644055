import dataclasses
from pathlib import Path

import pytest

from autoprumux.config import SearchConfig, StudyConfig, config_hash, study_to_dict
from autoprumux.errors import ConfigError
from autoprumux.hyperparameters import (
    Hyperparameter,
    make_hyperparameter,
    settings_of,
    stored_values,
    with_setting,
)
from autoprumux.records import Candidate, StudyRecord
from autoprumux.report.page.provenance import study_file
from autoprumux.study_files import load_study, parse_setting, stored_study
from trainers.config import TrainerConfig

TRAINER = TrainerConfig()
RATE, TEMPERATURE = "trainer.finetune.learning_rate", "trainer.prune.temperature"
ALIGNMENT, FREEZE = "trainer.prune.layer_alignment", "trainer.prune.freeze_embeddings"
BOTH = (
    make_hyperparameter(RATE, [1e-4, 3e-4], TRAINER),
    make_hyperparameter(TEMPERATURE, {"low": 1.0, "high": 3, "step": 1.0}, TRAINER),
)
FILE = """
extends = "embedded"

[search.hyperparameters]
"trainer.prune.layer_alignment" = ["ordered", "free"]
trainer.finetune.learning_rate = [3e-4, 7e-4]
trainer.prune.gate_learning_rate = { low = 0.01, high = 1, log = true }
"""


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    file = tmp_path / "own.toml"
    file.write_text(FILE, encoding="utf-8")
    return load_study(str(file))


def test_study_file_lists_values_and_ranges_by_key_quoted_or_not(study: StudyConfig) -> None:
    found = {h.key: h.spelling() for h in study.search.hyperparameters}

    assert found == {
        RATE: [3e-4, 7e-4],
        "trainer.prune.gate_learning_rate": {"low": 0.01, "high": 1.0, "log": True},
        ALIGNMENT: ["ordered", "free"],
    }
    assert [h.own for h in study.search.hyperparameters] == [7e-4, 0.1, "ordered"]


def test_options_replace_a_key_or_the_whole_table(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(FILE, encoding="utf-8")
    one = parse_setting(f"search.hyperparameters.{RATE}={{low=1e-4, high=1e-3}}")
    none = parse_setting("search.hyperparameters={}")
    other = parse_setting(f"search.hyperparameters={{{TEMPERATURE}=[1.0, 2.0]}}")

    replaced, removed, swapped = (
        load_study(str(file), [o]).search.hyperparameters for o in (one, none, other)
    )

    assert [h.spelling() for h in replaced if h.key == RATE] == [{"low": 1e-4, "high": 1e-3}]
    assert len(replaced) == 3
    assert removed == ()
    assert [h.key for h in swapped] == [TEMPERATURE]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (f"{RATE}=[1e-4,2e-4]", "must contain 0.0007, the study's own value, which the dense"),
        (f"{RATE}={{low=1e-4,high=2e-4}}", "must reach 0.0007, the study's own value"),
        (f"{RATE}=[7e-4,-1]", r"must be positive, got -1\.0\."),
        (f"{RATE}=[7e-4,'fast']", "takes numbers, got 'fast'"),
        (f"{RATE}=[7e-4,inf]", "takes numbers, got inf"),
        (f"{RATE}=7e-4", "must be a list of values or a table with `low` and `high`, got 0.0007"),
        (f"{RATE}=[7e-4]", "must list two values or more, got 0.0007"),
        (f"{RATE}=[]", "must list two values or more, got none"),
        (f"{RATE}=[7e-4,7e-4]", "must not repeat a value, got 0.0007, 0.0007"),
        (f"{RATE}={{low=7e-4}}", "`high` is missing; a range has"),
        (f"{RATE}={{low=7e-4,hgh=1}}", "`hgh` is unknown; a range has"),
        (f"{RATE}={{low=1e-2,high=1e-3}}", "needs `low` below `high`, got 0.01 and 0.001"),
        (f"{RATE}={{low=1e-4,high=1e-3,log=1}}", "`log` must be true or false, got 1"),
        (f"{TEMPERATURE}={{low=0.0,high=3.0,log=true}}", "needs `low` above 0 for `log`"),
        (f"{TEMPERATURE}={{low=1.0,high=3.0,log=true,step=1.0}}", "takes `log` or `step`, got bo"),
        (f"{TEMPERATURE}={{low=1.0,high=3.0,step=0.7}}", "needs a `step` that leads from 1.0 to"),
        (f"{TEMPERATURE}={{low=1.5,high=3.5,step=1.0}}", "must reach 2, the study's own value"),
        (f"{TEMPERATURE}={{low=-1.0,high=3.0}}", r"must be positive, got -1\.0"),
        (f"{ALIGNMENT}=['ordered','near']", "takes the words fixed, free, .*, got 'near'"),
        (f"{FREEZE}=[true,1]", "takes true and false, got 1"),
        (f"{FREEZE}={{low=0,high=1}}", "has no range, as it is no number; list its values"),
        ("trainer.prune.num_updates=[400,1.5]", r"takes whole numbers, got 1\.5"),
        ("trainer.prune.gates=[['heads'],['hidden']]", "as each of its values is a list"),
        ("trainer.prune.speed=[1,2]", "cannot be searched; keys of the training phases can"),
        ("trainer.model.num_demux_layers=[1,2]", "cannot be searched; keys of the training"),
        ("search.seed=[1,2]", "cannot be searched; keys of the training phases can"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_that_names_the_key(setting: str, sentence: str) -> None:
    key = setting.partition("=")[0]

    with pytest.raises(ConfigError, match=sentence) as caught:
        load_study("embedded", [parse_setting(f"search.hyperparameters.{setting}")])

    assert str(caught.value).startswith(f"`search.hyperparameters.{key}`")
    assert "\n" not in str(caught.value)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`search\.hyperparameters` must be a table, got 3"):
        load_study("embedded", [parse_setting("search.hyperparameters=3")])


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_samplers_of_all_values_need_an_end_of_them(sampler: str) -> None:
    endless = parse_setting(f"search.hyperparameters.{TEMPERATURE}={{low=1.0, high=3.0}}")
    chosen = parse_setting(f"search.sampler={sampler}")

    with pytest.raises(ConfigError, match=f"needs a list or a range with `step`.*{sampler}"):
        load_study("embedded", [endless, chosen])


def test_own_value_must_be_the_recipes() -> None:
    wrong = Hyperparameter(key=RATE, own=1.0, values=(1.0, 2.0))

    with pytest.raises(ConfigError, match=r"has 1 as the study's own value, but .* is 0.0003"):
        StudyConfig(name="x", search=SearchConfig(hyperparameters=(wrong,)))


def test_stored_study_is_the_study_again(study: StudyConfig) -> None:
    config = study_to_dict(study)
    record = StudyRecord(
        name=study.name,
        task="qnli",
        config=config,
        config_hash=config_hash(study),
        data_fingerprint="",
        seed=0,
        budgets=(0.02,),
    )

    assert stored_study(record) == study
    assert stored_values(config, Candidate(2, 0.6, ((RATE, 3e-4),))) == {
        RATE: 3e-4,
        "trainer.prune.gate_learning_rate": 0.1,
        ALIGNMENT: "ordered",
    }


def test_study_file_of_a_report_makes_the_study_again(study: StudyConfig, tmp_path: Path) -> None:
    record = StudyRecord(
        name=study.name,
        task="qnli",
        config=study_to_dict(study),
        config_hash="",
        data_fingerprint="",
        seed=0,
        budgets=(0.02,),
    )
    file = tmp_path / "again.toml"
    file.write_text(study_file(record), encoding="utf-8")

    assert load_study(str(file)) == study


def test_the_recipe_changes_with_what_is_searched_and_not_without_anything(
    study: StudyConfig,
) -> None:
    plain = load_study("embedded")
    search = dataclasses.replace(study.search, hyperparameters=study.search.hyperparameters[:2])

    hashes = {
        config_hash(plain),
        config_hash(study),
        config_hash(dataclasses.replace(study, search=search)),
    }

    assert len(hashes) == 3
    assert "hyperparameters" not in study_to_dict(plain)["search"]


def test_settings_of_a_cell_begin_with_the_studys_own() -> None:
    settings = list(settings_of(BOTH, Candidate(2, 0.6)))

    assert settings[0] == Candidate(2, 0.6)
    assert len(set(settings)) == len(settings) == 6
    assert str(settings[-1]) == "N=2 s=0.60 finetune.learning_rate=0.0001 prune.temperature=3"


def test_what_does_not_concern_a_cell_is_not_varied_there() -> None:
    dense = list(settings_of(BOTH, Candidate(2, 0.0)))
    prime = make_hyperparameter("trainer.prime.learning_rate", [1e-4, 3e-4], TRAINER)

    assert dense == [Candidate(2, 0.0), Candidate(2, 0.0, ((RATE, 1e-4),))]
    assert with_setting([prime], Candidate(1, 0.6), [1e-4]) == Candidate(1, 0.6)
    assert with_setting([prime], Candidate(2, 0.6), [1e-4]) != Candidate(2, 0.6)


def test_values_that_differ_by_rounding_are_the_listed_one() -> None:
    tenths = make_hyperparameter(
        "trainer.prune.sparsity_warmup", {"low": 0.1, "high": 0.9, "step": 0.1}, TRAINER
    )

    assert tenths.snapped(0.1 + 0.1 + 0.1) == tenths.snapped(0.3)
    assert tenths.snapped(0.5000000000001) == 0.5
    assert len(tenths.listed or ()) == 9


def test_drawn_values_are_of_the_kind_and_range_of_the_key() -> None:
    log = make_hyperparameter(RATE, {"low": 1e-5, "high": 1e-3, "log": True}, TRAINER)
    whole = make_hyperparameter(
        "trainer.prune.num_updates", {"low": 100, "high": 900, "log": True}, TRAINER
    )

    drawn = [log.draw(share / 10) for share in range(10)]

    assert drawn == sorted(drawn, key=float)
    assert drawn[0] == 1e-5
    assert drawn[5] == 1e-4
    assert all(isinstance(whole.draw(share / 10), int) for share in range(10))
