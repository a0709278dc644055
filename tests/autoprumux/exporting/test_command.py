"""What `autoprumux export` refuses; nothing here needs torch."""

import importlib.util
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoprumux.api import export as export_api
from autoprumux.cli.main import app

MEASURED = "0, 1, 2, 3, 4, 5, 6, 7, 8"


@pytest.fixture(autouse=True)
def stored(study, monkeypatch):
    """What the database holds; a test may put another study in its place."""
    held = [study]
    monkeypatch.setattr(export_api, "load_stored", lambda *_, **options: held[0])
    return held


def run(*arguments: str):
    return CliRunner().invoke(app, ["export", *arguments])


def assert_refused(result, message: str, exit_code: int) -> None:
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["--budget", "two"], r"`--budget` must be points such as 2, .* got 'two'\.", 2),
        (["--budget", "-1"], r"`--budget` must be in \[0, 100\) points, got -1\.", 2),
        (["--budget", "1,3"], "An export answers one budget, got 1, 3 points; .*", 2),
        ([], "An export answers one budget, got 1, 2, 10 points; .*", 2),
        (["--budget", "2", "--trial", "4"], "`--trial` 4 and `--budget` 2 may name two .*", 2),
        (["--license", "My own"], r"`--license` must be a word .*, got 'My own'\.", 2),
        (["--budget", "0"], r"No measured model .* loses at most 0 points; .*", 1),
        (["--trial", "9"], rf"Trial 9 .* failed .*\. Trials .*: {MEASURED}\.", 1),
        (["--trial", "12"], rf"Study `qnli-embedded` has no trial 12\. .*: {MEASURED}\.", 1),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(arguments, message, exit_code):
    assert_refused(run("--out", "model", *arguments), message, exit_code)


def test_a_study_without_its_baseline_is_told_to_search_on(stored):
    stored[0] = replace(stored[0], trials=())

    for arguments in (["--budget", "2"], ["--trial", "0"]):
        result = run("--out", "model", *arguments)
        assert_refused(result, ".* no measured dense baseline .*Run `autoprumux search .*", 1)


def test_a_database_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.undo()

    result = run("--out", "model", "--storage", "sqlite:////nowhere/at/all.db")

    assert result.exit_code == 1
    assert re.fullmatch("error: There is no database at .*\n", result.stderr)


def test_a_checkpoint_that_is_gone_names_those_that_are_there(study):
    shutil.rmtree(study.trials[4].measurement.checkpoint)
    shutil.rmtree(study.trials[6].measurement.checkpoint)

    assert_refused(
        run("--out", "model", "--trial", "4"),
        r"The checkpoint of trial 4 \(N=2 s=0\.60\) is gone: there is no model in .*trial-4\. "
        r"Choose one that is there with `--trial` \(0, 1, 2, 3, 5, 7, 8\), or train it again .*",
        1,
    )


def test_a_cache_that_is_gone_as_a_whole_leaves_another_study(study):
    for trial in study.trials[:-1]:
        shutil.rmtree(trial.measurement.checkpoint)

    assert_refused(
        run("--out", "model", "--trial", "4"),
        r".* all other trials are gone too; train it again with .* another `--study` name\.",
        1,
    )


def test_a_graph_needs_packages_that_are_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        export_api, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )

    assert_refused(
        run("--out", "model", "--trial", "4", "--onnx"),
        "`--onnx` needs onnxruntime, which is not installed: .* extra `onnx`\\.",
        2,
    )


def test_a_directory_that_exists_stays_as_it_is():
    Path("model").mkdir()
    Path("model/mine").write_text("mine")

    result = run("--out", "model", "--trial", "4")

    assert result.exit_code == 2
    assert re.fullmatch("error: `--out` model exists already, .*\n", result.stderr)
    assert Path("model/mine").read_text() == "mine"


def test_a_stored_recipe_that_is_not_understood_is_a_sentence(stored):
    config = {**stored[0].config, "trainer": {"task": "qnli", "finetune": {"nux_updates": 3}}}
    stored[0] = replace(stored[0], config=config)

    assert_refused(
        run("--out", "model", "--trial", "4"),
        r"This version of autoprumux does not understand the stored configuration of study "
        r"`qnli-embedded`: `trainer\.finetune\.nux_updates` is unknown; .* Use the version .*",
        1,
    )


def test_a_checkpoint_outside_of_all_known_folders_is_refused(stored, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "model"
    elsewhere.mkdir(parents=True)
    (elsewhere / "config.json").write_text("{}", encoding="utf-8")
    trials = tuple(
        replace(trial, measurement=replace(trial.measurement, checkpoint=str(elsewhere)))
        if trial.number == 4
        else trial
        for trial in stored[0].trials
    )
    stored[0] = replace(stored[0], trials=trials)

    result = run("--out", "model", "--trial", "4")

    message = r"The checkpoint of trial 4 .* is in no known folder; .* with `--cache-dir`\."
    assert_refused(result, message, 1)
