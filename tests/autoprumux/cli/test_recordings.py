import csv
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import BuiltinEvaluator, assert_refused, run, run_python


@pytest.mark.usefixtures("finished")
def test_a_stored_study_is_recorded_as_text(folder):
    command = ["record", "--storage", "sqlite:///study.db", "--study", "qnli-embedded"]

    result = run([*command, "--out", "recordings"])

    assert result.exit_code == 0, result.stderr
    rows = (folder / "recordings" / "qnli-builtin-builtin.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    header = json.loads((folder / "recordings" / "qnli-builtin-builtin.json").read_text())
    assert header["data_fingerprint"] == "builtin:qnli:0123"


def make_grid(folder: Path, widths: str, sparsities: str) -> Path:
    """Search a whole grid and record it in `folder`, and yield the rows."""
    storage = ["--storage", f"sqlite:///{folder}/grid.db"]
    options = ["--widths", widths, "--sparsities", sparsities]  # each trial costs time
    options += ["--max-trials", "15", "--set", "search.stop_chance=0"]
    with pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: BuiltinEvaluator())
        patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
        searched = run(["search", *storage, "--sampler", "grid", *options])
    recorded = run(["record", *storage, "--study", "qnli-embedded", "--out", str(folder)])
    assert searched.exit_code == recorded.exit_code == 0
    return folder / "qnli-builtin-builtin.csv"


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory) -> Path:
    """A database with a whole, small grid, and its recording."""
    return make_grid(tmp_path_factory.mktemp("grid"), "1,2,5", "0,0.6,0.65,0.7,0.8").parent


@pytest.fixture(scope="module")
def four_cells(tmp_path_factory) -> Path:
    """A recording of four cells."""
    return make_grid(tmp_path_factory.mktemp("cells"), "1,2", "0,0.6")


@pytest.fixture
def recorded_grid(grid_folder) -> Path:
    """The recording of a whole, small grid."""
    return grid_folder / "qnli-builtin-builtin.csv"


def test_a_recording_and_its_study_are_validated_alike(grid_folder, recorded_grid):
    stored = run(["validate", "--storage", f"sqlite:///{grid_folder}/grid.db", "--json"])
    recorded = run(["validate", "--recorded", str(recorded_grid), "--json"])

    assert stored.exit_code == recorded.exit_code == 0, stored.stderr + recorded.stderr
    (of_study,), (of_recording,) = json.loads(stored.stdout), json.loads(recorded.stdout)
    assert of_study["study"] == "qnli-embedded"
    assert of_recording["study"] == "qnli-builtin-builtin seed 0"
    assert of_study["num_fitted"] == 12
    for key in ("errors", "hits", "num_fitted", "task"):
        assert of_study[key] == of_recording[key]


def test_a_validation_prints_both_tables_with_counts(recorded_grid):
    result = run(["validate", "--recorded", str(recorded_grid)])

    assert result.exit_code == 0
    assert "surrogates fitted on 12 trials, 0 failed" in result.stdout
    row = re.search(r"accuracy  bilinear along s +left out (.*)", result.stdout)
    assert row
    assert re.match(r" +6 of 6 +\d of 6 +\d of 2 .* \d, \d, \d of 6 +\d+\.\d points$", row[1])
    assert re.search(r"performance model +unseen +\d+ of 21 ", result.stdout)


@pytest.mark.usefixtures("finished")
def test_a_study_of_a_few_trials_is_not_validated():
    result = run(["validate", "--storage", "sqlite:///study.db"])

    assert_refused(
        result, "Study `qnli-embedded` is too small to validate: one width .*", exit_code=1
    )


@pytest.mark.usefixtures("finished")
def test_a_study_that_is_not_there_is_not_validated():
    result = run(["validate", "--storage", "sqlite:///study.db", "--task", "sst2"])

    assert_refused(
        result,
        r"There is no such study to validate; there are `qnli-embedded` \(task `qnli`\)\.",
        exit_code=1,
    )


def test_a_validation_needs_neither_torch_nor_optuna(recorded_grid):
    code = (
        "import sys\n"
        "from autoprumux.cli.main import app\n"
        f"app(['validate', '--recorded', {str(recorded_grid)!r}], standalone_mode=False)\n"
        "print({'torch', 'transformers', 'datasets', 'optuna'} & set(sys.modules))\n"
    )

    found = run_python(code)

    assert found.stdout.splitlines()[-1] == "set()"


def test_a_replay_compares_samplers_without_training(recorded_grid, monkeypatch):
    monkeypatch.setattr(BuiltinEvaluator, "evaluate", None)
    command = ["replay", "--recorded", str(recorded_grid), "--seeds", "2"]

    text = run([*command, "--sampler", "performance_model,random"])
    as_json = run([*command, "--sampler", "performance_model", "--budget", "1,3", "--json"])

    assert text.exit_code == as_json.exit_code == 0, text.stderr + as_json.stderr
    trials = r" +\d+\.\d \(\d+\.\d-\d+\.\d\)"
    assert re.search(rf"^performance_model{3 * trials} +0\.0$", text.stdout, re.MULTILINE)
    assert re.search(rf"^random{3 * trials} +\d\S* +0\.0$", text.stdout, re.MULTILINE)
    assert re.search(
        r"^random( +\d+\.\d \(\d+-\d+\)){5}( +\d+\.\d){3}$", text.stdout, re.MULTILINE
    )
    assert "trial  0  N=1  s=0.00  accuracy 90.0    1.00x" in text.stdout
    (summary,) = json.loads(as_json.stdout)
    assert summary["num_searches"] == 2
    assert summary["p_reference_needs_fewer"] is None
    low, high = summary["mean_until_best_interval"]
    assert low <= summary["mean_until_best"] <= high
    assert [answer["budget"] for answer in summary["searches"][0]["answers"]] == [0.01, 0.03]
    assert summary["searches"][0]["answers"][1]["speedup"] == pytest.approx(
        summary["searches"][0]["answers"][1]["best_speedup"]
    )


def test_a_replay_takes_other_tasks_as_a_prior_and_no_recording_of_the_same():
    tasks = ("mnli", "qnli", "qqp", "sst2")
    names = {task: f"{task}-builtin-builtin" for task in tasks}
    command = ["replay", "--recorded", names["mnli"], "--sampler", "performance_model"]
    command += ["--seeds", "1", "--budget", "2,5,10", "--json"]

    alone, told = (
        run([*command, *prior])
        for prior in ([], ["--prior", ",".join(names[task] for task in tasks[1:])])
    )
    refused = run([*command, "--prior", names["mnli"]])

    firsts = [
        [
            answer["num_until_best"]
            for answer in json.loads(found.stdout)[0]["searches"][0]["answers"]
        ]
        for found in (alone, told)
    ]
    assert sum(firsts[1]) <= sum(firsts[0])
    assert firsts[1] != firsts[0]
    assert_refused(
        refused, "`--prior` must name recordings of other tasks than `mnli`.*", exit_code=2
    )


def test_a_recording_of_several_processors_and_a_prior_of_another_are_told(recorded_grid, folder):
    header = json.loads(recorded_grid.with_suffix(".json").read_text())
    for name, processors in (("here", ["Old 1"]), ("there", ["New 2"]), ("both", ["New", "Old"])):
        header |= {"task": name, "environment": {"processor": processors}}
        (folder / f"{name}.json").write_text(json.dumps(header))
        (folder / f"{name}.csv").write_text(recorded_grid.read_text().replace("synthetic", "cpu"))
    command = ["--recorded", "here.csv", "--sampler", "performance_model", "--seeds", "1"]

    told = run(["replay", *command, "--prior", "there.csv"])
    silent = run(["replay", *command])
    mixed = run(["validate", "--recorded", "both.csv"])

    assert told.exit_code == silent.exit_code == mixed.exit_code == 0, told.stderr + mixed.stderr
    assert silent.stderr == ""
    assert re.search(
        r"of the prior `there seed 0` the losses count and the speed-ups do not: it was measured "
        r"with `processor` 'New 2', what is replayed with `processor` 'Old 1'\n",
        told.stderr,
    )
    assert "`both` was measured on several processors (New, Old); each speed-up" in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "best"], "`--sampler` must be of performance_model, .* got 'best'\\."),
        (["--seeds", "0"], r"`--seeds` must be at least 1, got 0\."),
        (["--budget", "-1"], r"`--budget` must be in \[0, 100\) points, got -1\."),
        (["--max-trials", "0"], r"`search.max_trials` must be at least 1, got 0\."),
        (["--recorded", "nix"], "`--recorded` 'nix' is unknown; .*"),
        (["--prior", "nix"], "`--recorded` 'nix' is unknown; .*"),
    ],
)
def test_an_unusable_option_of_a_replay_is_refused(recorded_grid, arguments, message):
    result = run(["replay", "--recorded", str(recorded_grid), *arguments])

    assert_refused(result, message, exit_code=2)


AGAIN = ["record", "--storage", "sqlite:///again.db", "--out", "again", "--again"]


def test_a_recording_is_made_again_by_one_command(folder, four_cells):
    result = run([*AGAIN, str(four_cells)])

    assert result.exit_code == 0, result.stderr
    made = folder / "again" / four_cells.name
    assert made.read_text() == four_cells.read_text()
    before, after = (
        json.loads(rows.with_suffix(".json").read_text()) for rows in (four_cells, made)
    )
    assert after["trainer"] == before["trainer"]
    assert after["commands"] == before["commands"]
    assert str(made.relative_to(folder)) in result.stdout


def measured_rows(file: Path):
    """Rows but for the phases: a second process of the stand-in trains shared ones again."""
    with file.open(newline="") as lines:
        return [{k: v for k, v in row.items() if k != "phases"} for row in csv.DictReader(lines)]


def test_what_was_stopped_while_it_was_made_again_goes_on(folder, four_cells, monkeypatch):
    tried, evaluate = [], BuiltinEvaluator.evaluate

    def stopping(self, candidate, seed, report):
        tried.append(candidate)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return evaluate(self, candidate, seed, report)

    monkeypatch.setattr(BuiltinEvaluator, "evaluate", stopping)

    stopped, resumed = run([*AGAIN, str(four_cells)]), run([*AGAIN, str(four_cells)])

    assert stopped.exit_code == 130
    assert stopped.stderr.endswith("the same command takes the searches up again.\n")
    assert resumed.exit_code == 0, resumed.stderr
    assert len(tried) == len(set(tried)) + 1 == 5
    made = folder / "again" / four_cells.name
    assert measured_rows(made) == measured_rows(four_cells)


def test_other_examples_are_refused_before_any_training(folder, four_cells, monkeypatch):
    monkeypatch.setattr(BuiltinEvaluator, "data_fingerprint", "builtin:qnli:4567")
    monkeypatch.setattr(BuiltinEvaluator, "evaluate", None)

    result = run([*AGAIN, str(four_cells)])

    message = (
        r"The recording `qnli-builtin-builtin` was made with other examples \(builtin:qnli:0123\) "
        r"than those of `builtin` \(builtin:qnli:4567\)\. .*"
    )
    assert_refused(result, message, exit_code=2)
    assert not (folder / "again.db").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either `--study` or `--again`\\."),
        (["--again", "x", "--study", "y"], "Give either `--study` or `--again`\\."),
        (["--study", "y", "--data", "d"], "`--data` goes with `--again`, got d\\."),
        (["--study", "y", "--cache-dir", "d"], "`--cache-dir` goes with `--again`, .*"),
        (["--again", "nix"], "`--recorded` 'nix' is unknown; .*"),
        (["--again", "sst2-glue-minilm"], ".*whose folder is not recorded.*`--data`\\."),
        (["--again", "sst2-builtin-builtin", "--name", "z"], ".*leave out `--name` z\\."),
    ],
)
def test_an_unusable_option_of_a_recording_is_refused(folder, arguments, message):
    result = run(["record", "--out", "again", *arguments])

    assert_refused(result, message, exit_code=2)
    assert not (folder / "again").exists()
