"""From the header of a recording to the searches that make it again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprumux.config import flatten, study_to_dict
from autoprumux.errors import ConfigError, UsageError
from autoprumux.evaluators.recorded_searches import searches_of
from autoprumux.evaluators.recording import record_studies
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.records import Candidate
from trainers.config import TrainerConfig, to_dict

RECORDED = Path(__file__).parents[3] / "studies" / "recorded"
NAMES = sorted(file.stem for file in RECORDED.glob("*.json"))
BUILTIN = [name for name in NAMES if name.endswith("builtin")]
FOLDERS = {"data": "/data/here", "model": "/model/here"}


def folders_for(name: str) -> dict[str, str]:
    return {} if name in BUILTIN else FOLDERS


@pytest.mark.parametrize("name", NAMES)
def test_every_header_that_ships_resolves_to_its_own_recipe(name: str) -> None:
    header = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    defaults = dict(flatten(to_dict(TrainerConfig())))
    expected = defaults | dict(flatten(header["trainer"]))
    expected |= {f"{part}.source": folder for part, folder in folders_for(name).items()}

    for config in searches_of(load_recording(name), **folders_for(name)):
        assert dict(flatten(study_to_dict(config)["trainer"])) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_searches_of_every_header_try_all_that_is_recorded(name: str) -> None:
    recording = load_recording(name)

    configs = searches_of(recording, **folders_for(name))

    tried = set()
    for config in configs:
        search = config.search
        grid = [Candidate(n, s) for n in search.widths for s in search.sparsities]
        assert (search.sampler, search.stop_chance) == ("grid", 0.0)
        assert not search.stop_hopeless
        tried |= {(candidate, search.seed) for candidate in sorted(grid)[: search.max_trials]}
    assert {(trial.candidate, trial.seed) for trial in recording.trials} <= tried
    assert len({config.name for config in configs}) == len(recording.commands)


def test_values_of_the_header_win_over_those_of_the_preset(make_recorded_study: Any) -> None:
    recording = record_studies([make_recorded_study(seed=3)], name="", recorded="2026-11-27")

    (config,) = searches_of(recording)

    assert config.trainer == TrainerConfig(task="qnli")  # the preset's has other updates
    assert (config.name, config.search.seed) == ("qnli-seed3", 3)
    assert (config.search.widths, config.search.sparsities) == ((1, 2, 5), (0.0, 0.6, 0.9))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"with the data `SST-2`, whose folder is not recorded\. .* with `--data`\."),
        ({"model": "/m"}, r"the data `SST-2`, whose folder is not recorded"),
        ({"data": "/d"}, r"the model `model`, .* directory or Hugging Face id with `--model`\."),
    ],
)
def test_folders_that_are_not_recorded_are_asked_for(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        searches_of(load_recording("sst2-glue-minilm"), **given)


@pytest.mark.parametrize(("option", "part"), [("--data", "data"), ("--model", "model")])
def test_folders_in_place_of_what_is_built_in_are_refused(option: str, part: str) -> None:
    with pytest.raises(UsageError, match=f"the built-in {part}\\. Leave out `{option}` /x\\."):
        searches_of(load_recording("sst2-builtin-builtin"), **{part: "/x"})


def test_sources_on_the_hub_need_no_folder() -> None:
    recording = load_recording("sst2-builtin-builtin")
    trainer = {**recording.trainer}
    trainer["data"] = {**trainer["data"], "source": "glue"}
    trainer["model"] = {**trainer["model"], "source": "sentence-transformers/all-MiniLM-L6-v2"}
    recording = replace(recording, trainer=trainer)

    first, _ = searches_of(recording)
    beside, _ = searches_of(recording, model="/copy")

    assert first.trainer.data.source == "glue"
    assert first.trainer.model.source == "sentence-transformers/all-MiniLM-L6-v2"
    assert beside.trainer.model.source == "/copy"


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ((), "names no command"),
        (("autoprumux search --task sst2",), "a command without `--study`: autoprumux search"),
        (("autoprumux search --study 'a",), r"a command that is none \(No closing quotation\)"),
    ],
)
def test_a_header_without_usable_commands_is_refused(
    commands: tuple[str, ...], message: str
) -> None:
    recording = replace(load_recording("sst2-builtin-builtin"), commands=commands)

    with pytest.raises(UsageError, match=message):
        searches_of(recording)


def test_a_recipe_that_this_version_does_not_know_is_refused() -> None:
    recording = load_recording("sst2-builtin-builtin")
    recording = replace(recording, trainer={**recording.trainer, "later": {"option": 1}})

    with pytest.raises(ConfigError, match=r"`trainer\.later\.option` is unknown"):
        searches_of(recording)
