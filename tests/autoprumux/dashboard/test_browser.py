"""The whole way: the command, its server, and a real browser that shows what it says."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
TIMEOUT_S = 300

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a browser, one of {', '.join(BROWSERS)}"
)


@pytest.fixture(scope="module")
def address(searched, tmp_path_factory):
    """Address of the studies, as the command printed it; Ctrl-C ends the command."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(searched.file, folder / "study.db")
    shutil.copytree(searched.folder, folder / searched.folder.name)
    command = [sys.executable, "-m", "autoprumux", "dashboard", "--no-open", "--port", "0"]
    command += ["--budget", "1"]  # the search had asked for 1 and 3
    process = subprocess.Popen(
        [*command, "--storage", f"sqlite:///{folder}/study.db"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    found = re.match(r"(http://localhost:\d+/dashboard) shows sqlite:///", line)
    if found is None:
        process.kill()
        pytest.fail(f"it printed {line!r}: {process.communicate()[1]}")
    yield found[1]
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert told == "\nStopped.\n"


@pytest.fixture(scope="module")
def visit(address, tmp_path_factory):
    """Factory: `visit("/studies/1")`, the document after its scripts have run."""
    seen: dict[str, str] = {}

    def open_page(path: str) -> str:
        if path not in seen:
            seen[path] = _document(f"{address}{path}", tmp_path_factory.mktemp("profile"))
        return seen[path]

    return open_page


def _document(url: str, profile: Path) -> str:
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--window-size=1500,3600",
            "--virtual-time-budget=8000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return done.stdout


def _texts(document: str) -> set[str]:
    """Yield all texts in drawings."""
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", document))


def test_both_studies_are_listed(visit):
    document = visit("")

    assert "qnli-embedded" in document
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in document


def test_the_page_of_a_study_names_the_metrics(visit):
    document = visit("/studies/1")

    assert document.count(">accuracy</div>") == 2  # of the front and of the history
    assert ">speedup</div>" in document
    assert "Objective 0" not in document


def test_trials_are_infeasible_by_the_budget_that_was_asked_now(visit, searched):
    stored = [t for t in searched.study().trials if t.state.name == "COMPLETE"]
    assert all(t.system_attrs["constraints"][0] <= 0 for t in stored)

    assert {"Complete", "Infeasible", "Fail"} <= _texts(visit("/studies/1"))


@pytest.mark.parametrize(
    "texts",
    [
        {"Measured front", "CoFi-only (N = 1)", "dense baseline", "1 point"},
        {"Budget curve", "accuracy-loss budget, points", "measured", "predicted"},
    ],
)
def test_our_figures_are_drawn(visit, texts):
    assert texts <= _texts(visit("/studies/1"))


def test_the_files_of_a_study_are_shown(visit):
    document = visit("/studies/1")

    for name in ("front.png", "report.html", "trials.csv"):
        assert f">{name}<" in document
    assert re.search(r'<img [^>]*src="/artifacts/1/[0-9a-f-]{36}"', document)


def test_the_note_of_a_study_is_shown_as_text_and_tables(visit):
    document = visit("/studies/1/note")

    assert "<h1>qnli-embedded</h1>" in document
    assert "<strong>built-in data: made-up examples, not GLUE</strong>" in document
    assert re.search(r"<td[^>]*>mux widths N</td>\s*<td[^>]*>1, 2</td>", document)
    assert "autoprumux writes what is above" not in document


def test_a_hostile_name_is_shown_and_not_obeyed(visit):
    document = visit("/studies/2/note")

    heading = "a &lt;b&gt;bold&lt;/b&gt; &lt;script&gt;alert(1)&lt;/script&gt; | `x` [y]"
    assert f"<h1>{heading}(javascript:z) www.evil.com</h1>" in document.replace("\u2060", "")
    assert "<b>bold" not in document
    assert "<script>alert" not in document
    assert not re.search(r'href="[^"]*(evil|javascript)', document)


def test_a_trial_shows_its_note_and_its_files(visit):
    document = visit("/studies/1/trials?numbers=0")

    assert "<h1>N=1 s=0.00</h1>" in document
    assert "the dense baseline is always first" in document
    assert re.search(r"<td[^>]*>sparsity achieved</td>\s*<td[^>]*>0.0000</td>", document)
    assert "meets 1 point (loses 0.00)" in document
    assert ">log.txt<" in document
    assert ">history.csv<" in document


def test_a_failed_trial_shows_why(visit, searched):
    (failed,) = [t for t in searched.study().trials if t.state.name == "FAIL"]

    document = visit(f"/studies/1/trials?numbers={failed.number}")

    assert "<h1>N=2 s=0.90</h1>" in document
    assert re.search(r"<strong>Failed \([a-z_]+\):</strong> \w", document)
    assert ">log.txt<" in document
