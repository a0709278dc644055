"""`autoprumux report`."""

from pathlib import Path
from typing import Annotated

import typer

from autoprumux.api.stored import report_task
from autoprumux.cli.options import (
    Storage,
    StoredBudgets,
    StoredTask,
    StudyName,
    Verbose,
    in_one_sentence,
    show,
)
from autoprumux.config import DEFAULT_STORAGE

REPORT_EPILOG = """\b
Example:
  autoprumux report --task qnli --out report.html
"""


@in_one_sentence("Each file is whole: as it was, or new.")
def report(
    *,
    task: StoredTask = None,
    budget: StoredBudgets = None,
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("report.html"),
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also the front as a picture for a paper.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Write one HTML page about a study, which needs no network when it is opened.

    Front, budgets, surfaces, calibration, trials, trainings and where they come from.
    """
    record = report_task(task, budget, study=study, storage=storage, out=out, png=png)
    show(f"The report of study {record.name} ({len(record.trials)} trials) is in {out}.")
    if png is not None:
        print(f"The figure of its front is in {png}.")
