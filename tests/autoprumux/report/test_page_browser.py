"""The page in a real browser: it draws its figures, complains of nothing and sorts its table."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
TIMEOUT_S = 300

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a browser, one of {', '.join(BROWSERS)}"
)

USE = """<script>
  const trials = document.getElementById("trials");
  const order = () => [...trials.tBodies[0].rows].map((row) => row.cells[0].textContent).join();
  const press = (name) =>
    [...trials.querySelectorAll("button")].find((b) => b.textContent === name).click();
  press("accuracy, %");
  document.body.dataset.up = order();
  press("accuracy, %");
  document.body.dataset.down = order();
  const select = document.getElementById("course");
  select.value = "0";
  select.dispatchEvent(new Event("change"));
  document.body.dataset.course = document
    .getElementById("courses")
    .data.filter((trace) => trace.visible)
    .map((trace) => trace.meta)
    .join();
</script></body>"""


def visit(path: Path, folder: Path) -> tuple[str, list[str]]:
    """Open a page; yield the document after its scripts have run, and the console's lines."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def visited(page, tmp_path_factory):
    """The document of the page, used as a reader would, and the console's lines."""
    folder = tmp_path_factory.mktemp("visited")
    path = folder / "used.html"
    path.write_text(page.text.replace("</body>", USE), encoding="utf-8")
    return visit(path, folder)


def test_the_page_draws_every_figure_without_a_complaint(page, visited):
    document, complaints = visited

    assert complaints == []
    assert len(page.figures) == 9
    drawn = re.findall(
        r'<div class="chart[^"]*" id="([\w-]+)"[^>]*>\s*<div class="plot-con', document
    )
    assert sorted(drawn) == sorted(page.figures)
    assert document.count('<g class="points">') >= len(page.figures) - 4  # maps have other marks
    assert "var(--" not in re.sub(r"<(style|script)\b.*?</\1>", "", document, flags=re.DOTALL)


def test_the_trial_table_sorts_both_ways_with_empty_entries_last(page, visited):
    head, *rows = page.tables["trials"]
    column = head.index("accuracy, %")
    failed = {row[0] for row in rows if row[column] == "-"}
    accuracy = {row[0]: float(row[column]) for row in rows if row[0] not in failed}

    up = re.search(r'data-up="([^"]*)"', visited[0])[1].split(",")
    down = re.search(r'data-down="([^"]*)"', visited[0])[1].split(",")

    assert failed
    assert set(up[-len(failed) :]) == set(down[-len(failed) :]) == failed
    measured = [accuracy[number] for number in up[: -len(failed)]]
    assert measured == sorted(accuracy.values())
    measured = [accuracy[number] for number in down[: -len(failed)]]
    assert measured == sorted(accuracy.values(), reverse=True)


def test_another_training_can_be_chosen(visited):
    shown = re.search(r'data-course="([^"]*)"', visited[0])[1].split(",")

    assert set(shown) == {"0"}


def test_a_broken_or_chatty_page_would_be_seen(tmp_path):
    path = tmp_path / "broken.html"
    policy = "default-src 'none'; script-src 'unsafe-inline'"
    path.write_text(
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<img src="http://127.0.0.1:9/a.png"><script>nothing.at.all();</script>',
        encoding="utf-8",
    )

    _, complaints = visit(path, tmp_path)

    assert any("nothing is not defined" in line for line in complaints)
    assert any("Content Security Policy" in line for line in complaints)
