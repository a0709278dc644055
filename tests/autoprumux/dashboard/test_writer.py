"""Notes, plots and files in the database, as optuna-dashboard reads them."""

import csv
import dataclasses
import io
import json
import re
import shutil

import optuna
import optuna_dashboard
import pytest
from optuna.artifacts import get_all_artifact_meta

import autoprumux.dashboard.notes as notes_module
import autoprumux.dashboard.writer as writer_module
from autoprumux.answers import pareto_front
from autoprumux.dashboard.notes import OWN_TEXT_BELOW
from autoprumux.dashboard.writer import StudyWriter, with_own_text
from autoprumux.storage.artifacts import Artifacts
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

HOSTILE = "a <b>bold</b> <script>alert(1)</script> | `x` [y](javascript:z) www.evil.com"
NAME = "qnli-embedded"


def refresh(made, budgets=None, name=NAME, *, has_files=True):
    database = open_database(made.url, must_exist=True)
    storage = database.optuna_storage()
    record = Repository(database).load_study(name)
    writer = StudyWriter(storage, name)
    budgets = budgets or record.budgets
    writer.write_notes(record, budgets, database.url)
    writer.write_plots(record, budgets)
    if has_files:
        writer.write_files(record, budgets, database.url, Artifacts(made.folder, storage))
    database.close()
    return record


def attach(made, text):
    file = made.folder.parent / "new" / "report.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    Artifacts(made.folder, made.storage).attach_to_study(1, file)
    shutil.rmtree(file.parent)


@pytest.fixture(scope="module")
def refreshed(searched, tmp_path_factory):
    """A database whose notes, plots and files were written twice."""
    folder = tmp_path_factory.mktemp("refreshed")
    shutil.copy(searched.file, folder / "study.db")
    shutil.copytree(searched.folder, folder / searched.folder.name)
    copied = dataclasses.replace(searched, file=folder / "study.db")
    refresh(copied)
    refresh(copied)
    return copied


def trial_note(made, number):
    study = made.study()
    return optuna_dashboard.get_note(optuna.Trial(study, study.trials[number]._trial_id))


def number_of(made, num_instances, sparsity):
    wanted = {"num_instances": num_instances, "sparsity": sparsity}
    return next(trial.number for trial in made.study().trials if trial.params == wanted)


def test_a_search_leaves_the_note_of_its_study(searched):
    note = optuna_dashboard.get_note(searched.study())

    assert note.startswith("# qnli-embedded\n")
    assert "**built-in data: made-up examples, not GLUE**" in note
    for row in (
        "| task | qnli |",
        "| data | builtin (builtin:qnli:0123) |",
        "| model | builtin |",
        "| budgets, points of accuracy | 1, 3 |",
        "| mux widths N | 1, 2 |",
        "| sparsities s | 0, 0.6, 0.9 |",
        "| trials | 5 complete, 1 failed, 0 running |",
    ):
        assert row in note
    assert re.search(r"\n\| 3 \| N=\d s=0\.\d0 \| \d\.\d\d \([^|]*\) \| \d\.\d\dx \|", note)
    assert f"autoprumux query --storage {searched.url} --study qnli-embedded" in note


def test_a_search_leaves_a_note_of_each_measured_trial(searched):
    note = trial_note(searched, number_of(searched, 1, 0.9))

    assert note.startswith("# N=1 s=0.90\n")
    assert re.search(r"\*\*Why chosen:\*\* \S", note)
    assert "**Budgets:** meets 3 points; misses 1 point (loses 2." in note
    assert "| sparsity achieved | 0.9000 |" in note
    assert re.search(r"\| accuracy loss, points \(paired 95 % interval\) \| 2\.\d\d \(", note)
    assert "| heads per layer | 1, 1, 1, 1 |" in note
    assert "| prune | 100 | " in note


def test_a_note_shows_what_a_trial_was_chosen_before_with_the_scores(searched):
    baseline, first = trial_note(searched, 0), trial_note(searched, 1)

    assert "Chosen before" not in baseline
    _, _, ranking = first.partition("## Chosen before\n\n")
    _, _, *rows = ranking.split("\n\n")[0].splitlines()
    scores = [float(row.split("|")[-2]) for row in rows]
    assert len(rows) == 5  # of six cells without the baseline
    assert all(re.fullmatch(r"\| N=\d s=0\.\d0( \| [\d.e+-]+){5} \|", row) for row in rows)
    assert scores[0] >= 0.95 * max(scores)


def test_a_search_leaves_a_note_of_why_a_trial_failed(searched):
    note = trial_note(searched, number_of(searched, 2, 0.9))

    assert re.search(r"\*\*Failed \(\w+.*\):\*\* \S", note)
    assert "Measured" not in note


def test_a_hostile_name_stays_text(searched):
    note = optuna_dashboard.get_note(searched.study(HOSTILE))

    text, *_ = note.partition("```")
    assert r"\<script\>alert(1)\<\/script\>" in text
    assert not re.search(r"(?<!\\)[<\[]", text.replace("[//]: #", ""))


def test_the_notes_tell_the_budgets_of_the_present_search(made, run_search):
    run_search(made.file, "--widths", "1,2", "--sparsities", "0,0.6,0.9", "--budget", "0.5")

    note = trial_note(made, number_of(made, 1, 0.9))

    assert "**Budgets:** misses 0.5 points (loses 2." in note
    assert "| budgets, points of accuracy | 0.5 |" in optuna_dashboard.get_note(made.study())


def test_writing_again_changes_nothing_in_the_database(refreshed):
    made = refreshed
    before, files = made.attributes(), {path.name for path in made.folder.iterdir()}

    refresh(made)

    assert made.attributes() == before
    assert {path.name for path in made.folder.iterdir()} == files


def test_text_of_the_users_own_stays(made):
    study = made.study()
    optuna_dashboard.save_note(study, optuna_dashboard.get_note(study) + "\nSeen by me.")
    trial = optuna.Trial(study, study.trials[0]._trial_id)
    optuna_dashboard.save_note(trial, "Mine alone.")

    refresh(made, budgets=(0.05,), has_files=False)

    note = optuna_dashboard.get_note(made.study())
    assert "| budgets, points of accuracy | 5 |" in note
    assert note.endswith(f"{OWN_TEXT_BELOW}\n\nSeen by me.\n")
    assert trial_note(made, 0).startswith("# N=1 s=0.00\n")
    assert trial_note(made, 0).endswith("\n\nMine alone.\n")


def test_of_many_trials_the_front_and_the_newest_have_notes(made, monkeypatch):
    monkeypatch.setattr(notes_module, "MOST_NOTES", 3)
    monkeypatch.setattr(writer_module, "MOST_NOTES", 3)
    study = made.study()
    hidden = number_of(made, 1, 0.9)
    before = {number for number in range(6) if trial_note(made, number)}

    record = refresh(made, has_files=False)

    front = {candidate for candidate, _ in pareto_front(record.measured)}
    noted = {trial.candidate for trial in record.trials if trial_note(made, trial.number)}
    assert before == set(range(6))
    assert len(noted) == 3
    assert noted <= front or front <= noted
    assert "Of 6 trials 3 have a note" in optuna_dashboard.get_note(made.study())

    optuna_dashboard.save_note(optuna.Trial(study, study.trials[hidden]._trial_id), "Mine.")
    refresh(made, has_files=False)

    assert trial_note(made, hidden).startswith("# N=1 s=0.90\n")
    assert trial_note(made, hidden).endswith("\n\nMine.\n")


def test_notes_that_are_no_longer_written_leave_no_attributes(made, monkeypatch):
    monkeypatch.setattr(notes_module, "MOST_NOTES", 1)
    monkeypatch.setattr(writer_module, "MOST_NOTES", 1)

    refresh(made, has_files=False)

    keys = [key for key in made.attributes() if re.match(r"dashboard:\d+:note_", key)]
    study_of_one = {key.split(":")[1] for key in keys}
    assert len(study_of_one) == 2  # a trial of each of the two studies in the database


def test_a_search_writes_no_further_notes_of_single_trials_beyond_the_limit(made, monkeypatch):
    monkeypatch.setattr(writer_module, "MOST_NOTES", 5)
    database = open_database(made.url, must_exist=True)
    writer = StudyWriter(database.optuna_storage(), NAME)
    record = Repository(database).load_study(NAME)
    before = made.attributes()

    writer.write_note(record, (0.001,), 0)
    unchanged = made.attributes()
    monkeypatch.setattr(writer_module, "MOST_NOTES", 6)
    writer.write_note(record, (0.001,), 0)
    database.close()

    assert unchanged == before
    assert "meets 0.1 points" in trial_note(made, 0)


def test_a_shorter_note_leaves_nothing_of_a_longer_one(made):
    study = made.study()
    optuna_dashboard.save_note(study, f"{OWN_TEXT_BELOW}\n{'long ' * 2000}")
    refresh(made, has_files=False)
    assert optuna_dashboard.get_note(study).endswith("long\n")
    optuna_dashboard.save_note(study, "")

    refresh(made, has_files=False)

    assert "long" not in optuna_dashboard.get_note(study)
    assert optuna_dashboard.get_note(study).startswith("# qnli-embedded\n")


def test_an_own_note_counts_as_changed_for_who_edits_it_in_the_dashboard(made):
    before = made.storage.get_study_system_attrs(1)["dashboard:note_ver"]

    refresh(made, budgets=(0.05,), has_files=False)

    after = made.storage.get_study_system_attrs(1)
    assert after["dashboard:note_ver"] == before + 1


def test_own_text_is_kept_however_often_a_note_is_written():
    first = with_own_text("generated", "mine")

    assert with_own_text("generated", first) == first
    assert with_own_text("new", first) == first.replace("generated", "new")


def test_front_and_budget_curve_are_attached_once_and_with_colours(refreshed):
    made = refreshed
    attributes = made.attributes()
    keys = [key for key in attributes if key.startswith("dashboard:plot_data:")]
    names = {key.rsplit(":", 1)[0].removeprefix("dashboard:plot_data:") for key in keys}
    assert names == {"autoprumux-front", "autoprumux-budgets"}
    for name in names:
        prefix = f"dashboard:plot_data:{name}:"
        num = sum(key.startswith(prefix) for key in keys)
        text = "".join(attributes[f"{prefix}{i}"] for i in range(num))
        assert json.loads(text)["data"]
        assert "var(" not in text
        assert len(text) < 50_000


def test_the_files_of_a_study_are_attached_once(refreshed):
    made, record = refreshed, refresh(refreshed, has_files=False)

    metas = get_all_artifact_meta(made.study())
    by_name = {meta.filename: made.folder / meta.artifact_id for meta in metas}
    assert len(metas) == 3
    assert by_name["report.html"].read_bytes().startswith(b"<!doctype html>")
    assert by_name["front.png"].read_bytes().startswith(b"\x89PNG")
    rows = list(csv.reader(io.StringIO(by_name["trials.csv"].read_text(encoding="utf-8"))))
    assert len(rows) == 1 + len(record.trials)


def test_a_file_that_was_deleted_in_the_dashboard_is_attached_again(made):
    attach(made, "first")
    (meta,) = get_all_artifact_meta(made.study())
    made.storage.set_study_system_attr(1, f"artifacts:{meta.artifact_id}", "null")
    (made.folder / meta.artifact_id).unlink()

    attach(made, "second")

    kept = [json.loads(v) for k, v in made.attributes().items() if k.startswith("artifacts:")]
    (entry,) = [entry for entry in kept if entry is not None]
    assert (made.folder / entry["artifact_id"]).read_text(encoding="utf-8") == "second"


@pytest.mark.parametrize("identifier", ["../escaped", "/tmp/escaped", "..", ""])
def test_an_identifier_from_the_database_never_leads_out_of_the_folder(made, identifier):
    entry = {"artifact_id": identifier, "filename": "report.html"}
    made.storage.set_study_system_attr(1, "artifacts:x", json.dumps(entry))
    before = sorted(path.name for path in made.file.parent.iterdir())
    num_files = len(list(made.folder.iterdir()))

    attach(made, "text")

    assert sorted(path.name for path in made.file.parent.iterdir()) == before
    assert len(list(made.folder.iterdir())) == num_files + 1


def test_every_trial_has_its_log_and_a_measured_one_its_history(searched):
    study = searched.study()
    for trial in study.trials:
        metas = get_all_artifact_meta(trial, storage=study._storage)
        files = {meta.filename: searched.folder / meta.artifact_id for meta in metas}
        log = files["log.txt"].read_text(encoding="utf-8").splitlines()
        assert log[0].startswith(f"trial {trial.number}: N=")
        if trial.state.name == "FAIL":
            assert set(files) == {"log.txt"}
            assert "failed (" in log[-1]
        else:
            history = files["history.csv"].read_text(encoding="utf-8").splitlines()
            assert history[0] == "phase,step,name,value"
            assert "accuracy" in log[-1]


def test_a_search_goes_on_if_notes_and_files_cannot_be_written(tmp_path, run_search, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module, "trial_notes", refuse)
    (tmp_path / "study.db-artifacts").write_text("not a folder", encoding="utf-8")

    result = run_search(tmp_path / "study.db", "--budget", "3", "--max-trials", "2")

    assert result.stderr.count("no further notes for optuna-dashboard are written: ") == 1
    assert result.stderr.count("logs and histories of trials are not kept: ") == 1
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{tmp_path}/study.db")
    assert len(study.trials) == 2


def test_a_search_without_optuna_dashboard_writes_no_notes(tmp_path, run_search, monkeypatch):
    monkeypatch.setattr(writer_module, "find_spec", lambda _: None)

    run_search(tmp_path / "study.db", "--budget", "3", "--max-trials", "1")

    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{tmp_path}/study.db")
    assert optuna_dashboard.get_note(study) == ""


def test_an_artifact_folder_that_was_asked_for_and_cannot_be_is_refused(tmp_path, run_search):
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(AssertionError, match="cannot be used as a folder"):
        run_search(tmp_path / "study.db", "--artifacts", str(tmp_path / "file"))
