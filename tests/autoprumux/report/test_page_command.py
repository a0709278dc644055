"""The command: what it writes, what it refuses, and that its page is whole, small and harmless."""

import errno
import importlib.util
import os
import re
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.records import Candidate
from autoprumux.report.page.document import render_page
from autoprumux.report.page.front import front_info, series_of
from autoprumux.report.page.paper import write_front

MAX_BYTES = 6_000_000
MAX_CPU_SECONDS = 30.0
"""For a study of 500 trials; about 8 on a 2-core machine of 2024."""
EVIL = "<script>alert(1)</script>"
ADDRESS_ATTRIBUTES = {"src", "href", "action", "data", "poster", "srcset", "xlink:href"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, so that whatever is left behind is seen."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture(scope="module")
def big_page(tmp_path_factory, store, lengthen, read_page):
    """The page of 500 trials with long histories, and the processor time it took."""
    folder = tmp_path_factory.mktemp("big")
    study = store(
        folder,
        500,
        widths=tuple(range(1, 21)),
        sparsities=(0.0, *(round(0.5 + 0.02 * i, 2) for i in range(24))),
        failing=frozenset({Candidate(20, 0.9), Candidate(3, 0.7)}),
        num_points=1,
    )
    record = study.record()
    trials = tuple(
        replace(t, measurement=t.measurement and lengthen(t.measurement, 200))
        for t in record.trials
    )
    started = time.process_time()
    text = render_page(replace(record, trials=trials), record.budgets, study.url)
    seconds = time.process_time() - started
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return read_page(path), seconds


def run(arguments):
    return CliRunner().invoke(app, ["report", *arguments])


def assert_refused(result, message, exit_code=2):
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr


def external_addresses(page):
    """Addresses in tags and style sheets that a browser would load from elsewhere."""
    found = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ADDRESS_ATTRIBUTES and value and not value.startswith("#")
    ]
    styles = re.findall(r"<style>.*?</style>|style=\"[^\"]*\"", page.text, re.DOTALL)
    return found + [style for style in styles if re.search(r"url\(|@import", style)]


def test_the_command_writes_the_page_and_says_where(study, folder, read_page):
    result = run(["--task", "qnli", "--storage", study.url, "--budget", "3"])

    assert result.exit_code == 0, result.stderr
    assert result.stdout == "The report of study qnli-embedded (16 trials) is in report.html.\n"
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    _, row = read_page(folder / "report.html").tables["answers"]
    assert row[0] == "3"


def test_help_ends_in_an_example():
    lines = run(["--help"]).stdout.rstrip().splitlines()

    assert lines[-2].strip() == "Example:"
    assert lines[-1].strip().startswith("autoprumux report ")


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["--budget", "two"], "`--budget` must be points such as 2, .* got 'two'\\.", 2),
        (["--study", "none"], r".* holds no study `none`; it holds `qnli-embedded` .*", 1),
        (
            ["--out", "no/r.html"],
            "`--out` no/r.html cannot be written: there is no folder no\\.",
            2,
        ),
        (["--out", "."], r"`--out` must be a file, got the folder \.\.", 2),
        (["--png", "no/f.png"], "`--png` no/f.png cannot be written: there is no folder no\\.", 2),
        (["--png", "front.jpg"], r"`--png` must end in \.png, got front\.jpg\.", 2),
        (
            ["--out", "a.png", "--png", "a.png"],
            r"`--out` and `--png` must be two files, got a\.png twice\.",
            2,
        ),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(study, folder, arguments, message, exit_code):
    result = run(["--storage", study.url, *arguments])

    assert_refused(result, message, exit_code)
    assert list(folder.iterdir()) == []


def test_a_missing_database_is_one_sentence(folder):
    result = run(["--storage", "sqlite:///none.db"])

    assert_refused(result, "There is no database at `none.db`. Run `autoprumux search` .*", 1)
    assert list(folder.iterdir()) == []


def test_an_old_page_is_replaced(study, folder):
    old = folder / "report.html"
    old.write_text("old", encoding="utf-8")
    number = old.stat().st_ino

    assert run(["--storage", study.url]).exit_code == 0

    assert old.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert old.stat().st_ino != number  # a new file took its place, nobody saw half a page


@pytest.mark.parametrize("option", ["--out", "--png"])
def test_a_full_disk_is_one_sentence_and_keeps_the_old_files(study, folder, monkeypatch, option):
    arguments = ["--storage", study.url, "--out", "a.html", "--png", "a.png"]
    assert run(arguments).exit_code == 0
    name = {"--out": "a.html", "--png": "a.png"}[option]
    before = (folder / name).read_bytes()

    def fill(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if option == "--out":
        monkeypatch.setattr(Path, "write_text", fill)
    else:
        monkeypatch.setattr(
            "autoprumux.report.page.paper.write_front", lambda info, path: fill(path)
        )
    result = run(arguments)

    assert_refused(result, f"`{option}` {name} cannot be written: No space left on device\\.")
    assert (folder / name).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["a.html", "a.png"]


@pytest.mark.parametrize(
    ("package", "arguments", "what"),
    [
        ("plotly", [], "`autoprumux report`"),
        ("matplotlib", ["--png", "front.png"], "`--png`"),
    ],
)
def test_a_package_that_is_not_installed_is_one_sentence(
    study, folder, monkeypatch, package, arguments, what
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "autoprumux.report.page.write.find_spec",
        lambda name: None if name == package else find(name),
    )

    result = run(["--storage", study.url, *arguments])

    assert_refused(
        result,
        f"{what} needs {package}, which is not installed: run `pip install {package}`, "
        "or install autoprumux with its extra `report`\\.",
    )
    assert list(folder.iterdir()) == []


def test_a_report_loads_no_torch(study):
    code = (
        "import sys; from pathlib import Path; from autoprumux.api.stored import report_task\n"
        f"report_task(storage={study.url!r}, out=Path('r.html'), png=Path('f.png'))\n"
        "print({'torch', 'transformers', 'datasets', 'optuna'} & set(sys.modules))"
    )
    root = str(Path(__file__).parents[3])

    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )

    assert found.stdout.strip() == "set()"


def test_a_page_of_500_trials_is_small_quick_and_whole(big_page):
    page, seconds = big_page

    assert page.path.stat().st_size < MAX_BYTES
    assert seconds < MAX_CPU_SECONDS
    assert len(page.tables["trials"]) == 501
    assert sum("sparsity_not_reached" in row[-2] for row in page.tables["trials"]) == 2
    assert "evenly spread over the trials" in page.text
    assert len(page.figures) == 9


def test_pages_load_nothing_from_elsewhere(page, big_page):
    assert external_addresses(page) == []
    assert external_addresses(big_page[0]) == []
    policies = [a["content"] for _, a in page.tags if "Content-Security-Policy" in a.values()]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")
    assert "http" not in policies[0]


@pytest.mark.parametrize(
    "addition",
    [
        '<script src="https://cdn.example/plotly.js"></script>',
        '<link href="//fonts.example/a.css">',
        "<style>@import 'https://a.example/b.css';</style>",
        '<p style="background: url(https://a.example/b.png)">x</p>',
    ],
)
def test_a_resource_from_elsewhere_would_be_seen(page, addition):
    changed = type(page)(path=page.path, text=page.text.replace("</body>", addition + "</body>"))

    assert len(external_addresses(changed)) == 1


def test_texts_of_a_study_are_no_markup(stored, folder, read_page):
    name = f"{EVIL}'\"&{{{{ 7*7 }}}}"
    message = "</script><img src=x onerror=alert(2)>"
    study = stored(16, name=name, message=message, fingerprint=f"files:{EVIL}")
    record = study.record()
    task = "</td><iframe></iframe>"
    config = {**record.config, "trainer": {"data": {"source": "</pre><svg onload=alert(3)>"}}}
    changed = replace(record, task=task, config=config)
    path = folder / "report.html"
    path.write_text(render_page(changed, record.budgets, "x'</pre><b>"), encoding="utf-8")

    page = read_page(path)

    assert page.headline == name
    assert page.texts["provenance-facts"].count(EVIL) == 2
    assert any(message in row[-2] for row in page.tables["trials"])
    assert "</pre><svg onload=alert(3)>" in page.texts["study-file"]
    assert {tag for tag, _ in page.tags} & {"img", "iframe", "svg", "b"} == set()
    assert all("onerror" not in a and "onload" not in a for _, a in page.tags)
    num_figures = len(page.figures)
    assert len(page.scripts) == num_figures + 2
    assert not any(script.startswith("alert") for script in page.scripts)


def test_the_command_takes_a_study_of_any_name(stored, folder, read_page):
    study = stored(2, name=EVIL)

    result = run(["--storage", study.url, "--study", EVIL])

    assert result.exit_code == 0, result.stderr
    assert read_page(folder / "report.html").headline == EVIL


def test_the_picture_is_a_png_of_a_papers_width(study, folder):
    result = run(["--storage", study.url, "--png", "front.png"])

    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("The figure of its front is in front.png.\n")
    data = (folder / "front.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1650, 1020)


def test_the_picture_shows_the_models_of_the_page(study, folder, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )
    record = study.record()
    info = front_info(record, record.budgets)

    write_front(info, folder / "front.png")

    (axes,) = figures[0].axes
    drawn = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    expected = {series.name: series.points for series in series_of(info)}
    assert drawn.keys() == expected.keys()
    for name, points in expected.items():
        assert list(drawn[name].get_xdata()) == [p.speedup for p in points]
        assert list(drawn[name].get_ydata()) == [100 * p.accuracy for p in points]
    labels = {text.get_text() for text in axes.texts}
    assert labels == {"1 point", "2 points", "5 points"}


def test_a_picture_of_nothing_is_refused(stored, folder):
    study = stored(0)

    result = run(["--storage", study.url, "--png", "front.png"])

    assert_refused(
        result, "`--png` has nothing to draw: study `qnli-embedded` has no measured model\\."
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_page(page, scheme):
    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)[1]
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))

    texts = {name: contrast(colours[name], colours["paper"]) for name in ("ink", "muted", "link")}
    marks = {
        name: contrast(colour, colours["paper"])
        for name, colour in colours.items()
        if name in ("pruned", "muxed", "chosen") or name.startswith("other")
    }

    assert len(marks) == 7
    assert min(texts.values()) >= 4.5, texts  # WCAG 2.1, 1.4.3
    assert min(marks.values()) >= 3.0, marks  # 1.4.11
    assert contrast(colours["note-ink"], colours["note"]) >= 4.5


def contrast(one, other):
    """Contrast ratio of two colours as WCAG 2.1 defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
