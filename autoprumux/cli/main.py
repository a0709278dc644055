"""The command line as a whole: its commands, its version, its entry point."""

import sys
from typing import Annotated

import typer

from autoprumux.api.processes import launch
from autoprumux.cli.bench import BENCH_EPILOG, bench
from autoprumux.cli.dashboard import DASHBOARD_EPILOG, dashboard
from autoprumux.cli.export import EXPORT_EPILOG, export
from autoprumux.cli.predict import PREDICT_EPILOG, predict
from autoprumux.cli.pretrain import PRETRAIN_EPILOG, pretrain
from autoprumux.cli.query import QUERY_EPILOG, query
from autoprumux.cli.recordings import (
    RECORD_EPILOG,
    REPLAY_EPILOG,
    VALIDATE_EPILOG,
    record,
    replay,
    validate,
)
from autoprumux.cli.report import REPORT_EPILOG, report
from autoprumux.cli.search import SEARCH_EPILOG, search
from autoprumux.cli.worker import WORKER_EPILOG, worker
from autoprumux.errors import UsageError
from autoprumux.masking import fit_for_print, secrets_in

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

COMMANDS = (
    (search, SEARCH_EPILOG),
    (worker, WORKER_EPILOG),
    (query, QUERY_EPILOG),
    (report, REPORT_EPILOG),
    (export, EXPORT_EPILOG),
    (predict, PREDICT_EPILOG),
    (dashboard, DASHBOARD_EPILOG),
    (bench, BENCH_EPILOG),
    (pretrain, PRETRAIN_EPILOG),
    (record, RECORD_EPILOG),
    (validate, VALIDATE_EPILOG),
    (replay, REPLAY_EPILOG),
)
"""In the order of `--help`; each with the example that ends its own help."""

for _command, _epilog in COMMANDS:
    app.command(epilog=_epilog)(_command)


def main() -> None:
    """Run the command line of `sys.argv`.

    Of several processes of a launch only the first runs what they cannot share.
    """
    try:
        is_first = launch().is_first
    except UsageError as error:  # of a variable of the environment
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if not is_first and sys.argv[1:2] not in (["search"], ["worker"]):
        return
    try:
        app(prog_name="autoprumux")
    except Exception:  # a mistake of ours, whose traceback may hold an address
        import traceback

        secrets = [secret for word in sys.argv for secret in secrets_in(word)]
        sys.stderr.write(fit_for_print(traceback.format_exc(), secrets))
        sys.exit(1)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(f"autoprumux {version('autoprumux')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Find, train and verify the fastest multiplexed and pruned text classifier.

    You say how much accuracy it may lose.
    """
