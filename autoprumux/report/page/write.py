"""Writes the page and the picture: each is there whole, or its place is as it was."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from autoprumux.errors import UsageError
from autoprumux.leftovers import whole_file
from autoprumux.records import StudyRecord


def require_places(out: Path, png: Path | None) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        UsageError: If a file cannot be where it is asked for, or a package that draws is missing.
    """
    _require_package("plotly", "`autoprumux report`")
    _require_place(out, "--out")
    if png is None:
        return
    _require_package("matplotlib", "`--png`")
    _require_place(png, "--png")
    if png.suffix.lower() != ".png":
        raise UsageError(f"`--png` must end in .png, got {png}.")
    if png.resolve() == out.resolve():
        raise UsageError(f"`--out` and `--png` must be two files, got {out} twice.")


def write_report(
    study: StudyRecord,
    budgets: Sequence[float],
    storage: str,
    *,
    out: Path,
    png: Path | None = None,
) -> None:
    """Write the page to `out` and, if asked for, the front to `png`.

    Args:
        study: With its trials.
        budgets: Those to answer, fractions.
        storage: Database URL without passwords.
        out: The page; a file that is there is replaced.
        png: The picture, likewise.

    Raises:
        UsageError: If a file cannot be written, or nothing is measured that `png` could show.
        StorageError: If the stored configuration of `study` names no widths or sparsities.
    """
    if png is not None and not study.measured:
        raise UsageError(
            f"`--png` has nothing to draw: study `{study.name}` has no measured model."
        )

    from autoprumux.report.page.document import render_page

    page = render_page(study, budgets, storage)
    _write_whole(out, "--out", lambda path: path.write_text(page, encoding="utf-8"))
    if png is not None:
        from autoprumux.report.page.front import front_info
        from autoprumux.report.page.paper import write_front

        info = front_info(study, budgets)
        _write_whole(png, "--png", lambda path: write_front(info, path))


def _require_package(name: str, what: str) -> None:
    if find_spec(name) is None:
        raise UsageError(
            f"{what} needs {name}, which is not installed: run `pip install {name}`, or install "
            "autoprumux with its extra `report`."
        )


def _require_place(path: Path, option: str) -> None:
    if path.is_dir():
        raise UsageError(f"`{option}` must be a file, got the folder {path}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"`{option}` {path} cannot be written: there is no folder {path.parent}.")


def _write_whole(path: Path, option: str, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new file beside `path`, then put it in the place of `path`."""
    try:
        with whole_file(path.resolve()) as new:
            write(new)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"`{option}` {path} cannot be written: {reason}.") from error
