"""Every command on studies that have little to go on: an answer, or one sentence with a remedy."""

import math
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import SEARCH, BuiltinEvaluator, run

from autoprumux.errors import TrialError
from autoprumux.evaluators.recording import Recording
from autoprumux.evaluators.recording_files import load_recording, save_recording
from autoprumux.records import Candidate, Failure

BASELINE = Candidate(1, 0.0)
GRID = ["--widths", "1,2,5", "--sparsities", "0,0.6,0.7,0.8", "--set", "search.stop_chance=0"]
STUDY = ["--study", "qnli-embedded"]
STORAGE = ["--storage", "sqlite:///study.db"]

NO_BASELINE = r"Study `qnli-embedded` has no measured dense baseline .* Run `autoprumux search .*"
NO_RECORDED = r"The recording `poor` has no measured dense baseline \(N=1 s=0\.00\), so .*"
MIXED = (
    r"Study `qnli-embedded` was measured in several settings, .* baseline with `device` "
    r"'synthetic', trial 3 with `device` 'H200'\. {}"
)
TIME_ANEW = r"Time all its models on one machine \(`autoprumux bench qnli-embedded`\) and .*"
DAMAGED = (
    r"The database holds what autoprumux did not write: `accuracy` of measurement must be a "
    r"number, got 'NaN'\. Restore a copy, .*"
)
TOO_SMALL = r"Study `qnli-embedded` is too small to validate: .*, and the fullest has 0\..*"


@dataclass(frozen=True, kw_only=True)
class Poor:
    """A study, how to make it, and what commands say of it."""

    spoil: Callable[[BuiltinEvaluator], None] = lambda evaluator: None
    """Changes the evaluator of the search that makes it."""
    options: list[str] = field(default_factory=list)
    """Of that search and of the one that resumes it."""
    sql: str = ""
    """Changes what it stored."""
    of_recording: Callable[[Recording], Recording] | None = None
    """Changes the recording of a good study to one of such a study."""
    in_recording: tuple[str, str] = ("", "")
    """A text in its rows, and another in place of the first such."""
    budget: str = "2"
    exit_code: int = 0
    """Of the search that makes it."""
    answers: dict[str, str] = field(default_factory=dict)
    """By command: what stdout holds, an expression."""
    errors: dict[str, str] = field(default_factory=dict)
    """By command: the whole message, an expression."""


def interrupt(evaluator: BuiltinEvaluator) -> None:
    def evaluate(*_: object) -> None:
        raise KeyboardInterrupt

    evaluator.evaluate = evaluate


def fail(*, but_the_baseline: bool) -> Callable[[BuiltinEvaluator], None]:
    def spoil(evaluator: BuiltinEvaluator) -> None:
        evaluate = evaluator.evaluate

        def failing(candidate, seed, report):
            if candidate.is_baseline and but_the_baseline:
                return evaluate(candidate, seed, report)
            raise TrialError("The loss is not a number.", cause="nan")

        evaluator.evaluate = failing

    return spoil


def yield_nan(evaluator: BuiltinEvaluator) -> None:
    evaluate = evaluator.evaluate

    def spoilt(candidate, seed, report):
        found = evaluate(candidate, seed, report)
        return found if candidate.is_baseline else replace(found, accuracy=math.nan)

    evaluator.evaluate = spoilt


def keep(chosen: Callable[[Candidate], bool]) -> Callable[[Recording], Recording]:
    return lambda r: replace(r, trials=tuple(t for t in r.trials if chosen(t.candidate)))


def all_failed(recording: Recording) -> Recording:
    failure = Failure(cause="nan", message="The loss is not a number.")
    failed = (replace(t, measurement=None, failure=failure) for t in recording.trials)
    return replace(recording, trials=tuple(failed))


def others_failed(recording: Recording) -> Recording:
    baseline, *_ = recording.trials
    return replace(recording, trials=(baseline, *all_failed(recording).trials[1:]))


NONE_FASTER = "no measured model is faster than the dense baseline"
PAGE_OF_NO_BASELINE = "This study has no measured dense baseline"
RECORDED = r"The recording is in "
ONLY_BASELINE = {
    "query": NONE_FASTER,
    "search": f"Within 2.0 points: {NONE_FASTER}.",
    "record": RECORDED,
    "report": NONE_FASTER,
    "replay": r"within 2\.0 points: N=1 s=0\.00, 1\.00x",
}

POOR = {
    "no baseline": Poor(
        spoil=interrupt,
        exit_code=130,
        of_recording=keep(lambda candidate: not candidate.is_baseline),
        answers={
            "search": r"Within 2\.0 points: N=.*, verified\.",
            "report": PAGE_OF_NO_BASELINE,
        },
        errors={
            **dict.fromkeys(("query", "validate", "record"), NO_BASELINE),
            "replay": NO_RECORDED,
        },
    ),
    "one width": Poor(
        options=["--widths", "1"],
        of_recording=keep(lambda candidate: candidate.num_instances == 1),
        answers={
            "query": r"2\.0  verified +1 ",
            "search": r"Within 2\.0 points: N=1 s=.*, verified\.",
            "record": RECORDED,
            "report": r"4 of 4 candidates measured",
            "replay": r"within 2\.0 points: N=1 s=0\.80, 3\.48x of the 3\.48x",
        },
        errors={"validate": TOO_SMALL},
    ),
    "only failures": Poor(
        spoil=fail(but_the_baseline=False),
        exit_code=1,
        of_recording=all_failed,
        answers={
            "search": r"Within 2\.0 points: N=.*, verified\.",
            "report": PAGE_OF_NO_BASELINE,
        },
        errors={
            **dict.fromkeys(("query", "validate", "record"), NO_BASELINE),
            "replay": NO_RECORDED,
        },
    ),
    "failures but the baseline": Poor(
        spoil=fail(but_the_baseline=True),
        of_recording=others_failed,
        answers=ONLY_BASELINE,
        errors={"validate": TOO_SMALL},
    ),
    "trained to NaN": Poor(
        spoil=yield_nan,
        of_recording=others_failed,
        answers=ONLY_BASELINE,
        errors={"validate": TOO_SMALL},
    ),
    "stored NaN": Poor(
        sql="UPDATE prumux_measurements SET accuracy = 'NaN' WHERE number = 3",
        in_recording=(",0.9,", ",nan,"),
        errors={
            **dict.fromkeys(("query", "search", "validate", "record", "report"), DAMAGED),
            "replay": r"poor\.csv, line 2: numbers must be finite, got nan\.",
        },
    ),
    "two devices": Poor(
        sql="UPDATE prumux_throughputs SET device = 'H200' WHERE number = 3",
        in_recording=("synthetic", "H200"),
        errors={
            **dict.fromkeys(("query", "search", "report"), MIXED.format(TIME_ANEW)),
            "validate": MIXED.format(r"Search again in one setting, .* to validate it\."),
            "record": (
                r"The recording of study `qnli-embedded` was .* 'synthetic', trial 3 of study "
                r"`qnli-embedded` with `device` 'H200'\. Record studies of each setting apart; .*"
            ),
            "replay": (
                r"The recording `poor` was .* baseline with `device` 'H200', .* with `device` "
                r"'synthetic' \(and 10 more\)\. Record the studies of each setting apart .*"
            ),
        },
    ),
    "a budget that nobody meets": Poor(
        budget="0",
        answers={
            "query": r" 0\.0  none meets it; closest: N=. s=.* loses .* \(--budget \d",
            "search": r"Within 0\.0 points: none meets it; closest: N=",
            "validate": "surrogates fitted on 12 trials",
            "record": RECORDED,
            "report": "none meets it; closest: N=",
            "replay": r"within 0\.0 points: N=1 s=0\.00, 1\.00x of the 1\.00x",
        },
    ),
}
COMMANDS = ("query", "search", "validate", "record", "report", "replay")


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory) -> Callable[[str], Path]:
    """Factory of folders with `study.db` and `poor.csv`, each made once."""
    made: dict[str, Path] = {}
    good = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(good)
        search(patch, BuiltinEvaluator(), [])
        record = ["record", *STORAGE, *STUDY, "--name", "poor", "--out", "."]
        assert run(record).exit_code == 0

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("poor")
            for file in good.glob("poor.*"):
                shutil.copy(file, made[name])
            prepare(POOR[name], made[name])
        return made[name]

    return make


def prepare(poor: Poor, folder: Path) -> None:
    evaluator = BuiltinEvaluator()
    poor.spoil(evaluator)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search(patch, evaluator, ["--budget", poor.budget, *poor.options], poor.exit_code)
        with sqlite3.connect("study.db") as connection:
            connection.executescript(poor.sql)
        connection.close()
        if poor.of_recording is not None:
            save_recording(poor.of_recording(load_recording("poor.csv")), Path())
        text, (old, new) = Path("poor.csv").read_text(), poor.in_recording
        assert old in text
        Path("poor.csv").write_text(text.replace(old, new, 1))


def search(
    patch: pytest.MonkeyPatch,
    evaluator: BuiltinEvaluator,
    options: list[str],
    exit_code: int = 0,
) -> None:
    fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: evaluator)
    patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
    command = [*SEARCH, "--sampler", "grid", *GRID, "--max-trials", "12"]
    result = run([*command, *options])
    assert result.exit_code == exit_code, result.stderr


def words_of(command: str, poor: Poor) -> list[str]:
    budget = ["--budget", poor.budget]
    return {
        "query": ["query", *STORAGE, *STUDY, *budget],
        "search": [*SEARCH, "--sampler", "grid", *GRID, *budget, "--max-trials", "12"],
        "validate": ["validate", *STORAGE, *STUDY],
        "record": ["record", *STORAGE, *STUDY, "--out", "."],
        "report": ["report", *STORAGE, *STUDY, *budget],
        "replay": ["replay", "--recorded", "poor.csv", "--seeds", "2", *budget],
    }[command] + (poor.options if command == "search" else [])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", POOR)
def test_every_command_answers_or_says_in_one_sentence_why_not(name, command, make_folder, folder):
    for file in make_folder(name).iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    poor = POOR[name]

    result = run(words_of(command, poor))

    assert (command in poor.answers) != (command in poor.errors)
    page = folder / "report.html"
    if command in poor.errors:
        *_, last = result.stderr.splitlines()
        assert re.fullmatch(f"error: {poor.errors[command]}", last)
        assert result.stderr.count("error: ") == 1
        assert "Traceback" not in result.stderr
        assert result.exit_code == (2 if (name, command) == ("stored NaN", "replay") else 1)
        assert result.stdout == ""
        assert not page.exists()
    else:
        assert result.exit_code == 0, result.stderr
        told = page.read_text() if command == "report" else result.stdout
        assert re.search(poor.answers[command], told), result.stdout
