"""`autoprumux dashboard`."""

import os
import sys
import webbrowser
from typing import Annotated

import typer

from autoprumux.api.dashboard import DEFAULT_HOST, DEFAULT_PORT, open_dashboard
from autoprumux.cli.options import (
    Artifacts,
    Storage,
    StoredBudgets,
    StoredTask,
    StudyName,
    Verbose,
    in_one_sentence,
)
from autoprumux.config import DEFAULT_STORAGE

DASHBOARD_EPILOG = """\b
Example:
  autoprumux dashboard --task qnli --port 8081
"""


@in_one_sentence("", exit_code=0)
def dashboard(
    *,
    task: StoredTask = None,
    budget: StoredBudgets = None,
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    artifacts: Artifacts = None,
    host: Annotated[
        str,
        typer.Option(metavar="NAME", help="Where to listen; others than this machine may see it."),
    ] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(metavar="NUM", help="Port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address, open no browser.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Show the studies in optuna-dashboard, with notes, plots and files.

    Prints the address and runs until Ctrl-C. Anybody who reaches it can edit notes.
    """
    with open_dashboard(
        task,
        budget,
        study=study,
        storage=storage,
        artifacts=artifacts,
        address=(host, port),
        tell=lambda sentence: print(f"note: {sentence}", file=sys.stderr),
    ) as opened:
        print(f"{opened.address} shows {opened.database}; Ctrl-C stops it.", flush=True)
        if not no_open and _has_screen():
            webbrowser.open(opened.address)
        opened.serve()


def _has_screen() -> bool:
    """Yield whether a browser would open in a window, not in this terminal."""
    is_desktop = sys.platform in ("darwin", "win32")
    return is_desktop or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
