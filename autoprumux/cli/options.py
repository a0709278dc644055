"""What commands share: errors in one sentence, options, the printing of JSON."""

import contextlib
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from autoprumux.api.processes import launch
from autoprumux.cli.completion import stored_studies, stored_tasks
from autoprumux.cli.interrupts import stopped_by_signals
from autoprumux.errors import AutoPrumuxError, UsageError
from autoprumux.masking import MaskingFormatter, fit_for_print, printable, secrets_in

EXIT_INTERRUPTED = 130
"""What shells report for a program that Ctrl-C stopped."""

AFTER_FIRST_S = 2.0
"""Seconds by which other processes of a launch end after the first one of their machine: the
launcher ends all as soon as one has failed, and the first one has yet to say why."""

LeftBehind = str | Callable[[Mapping[str, Any]], str]
"""What an interrupted command leaves behind, in a sentence, or what tells it from the options."""

NOTHING_CHANGED = "Nothing is changed."

Storage = Annotated[str, typer.Option(metavar="URL", help="Database, SQLAlchemy URL.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON; losses and accuracies as fractions.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log details; errors with traceback.")]
StoredTask = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Newest study of this task.", autocompletion=stored_tasks),
]
StoredBudgets = Annotated[
    str | None,
    typer.Option(
        metavar="B|A,B|A:B:STEP",
        help="Largest accuracy losses in percentage points.  [default: the study's]",
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Study of this name.", autocompletion=stored_studies),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Checkpoints.  [default: the user's cache directory]"),
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|s3://BUCKET/PREFIX",
        help="Files of studies and trials, models included.  [default: a folder beside an SQLite "
        "database, without models]",
    ),
]
Recorded = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE.csv",
        help="Recording that ships with the package, or a file; may be repeated.",
    ),
]


def in_one_sentence(
    left_behind: LeftBehind, *, exit_code: int = EXIT_INTERRUPTED
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn errors of ours and interruptions into sentences on stderr.

    `--verbose` adds the traceback of an error.

    Args:
        left_behind: Told after `Stopped.` when a signal ended the command.
        exit_code: Of a command that a signal ended.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def guarded(**options: Any) -> None:
            is_verbose = bool(options.get("verbose"))
            texts = (value for value in options.values() if isinstance(value, str))
            secrets = tuple(secret for text in texts for secret in secrets_in(text))
            _configure_logging(is_verbose, secrets)
            try:
                with stopped_by_signals():
                    command(**options)
            except AutoPrumuxError as error:
                if is_verbose:
                    logging.getLogger(__name__).error("traceback:", exc_info=True)
                _tell(fit_for_print(f"error: {error}", secrets), error.exit_code)
                raise typer.Exit(error.exit_code) from error
            except KeyboardInterrupt:
                told = left_behind if isinstance(left_behind, str) else left_behind(options)
                with contextlib.suppress(OSError):  # the terminal may be gone
                    print(f"\nStopped. {told}".rstrip(), file=sys.stderr, flush=True)
                raise typer.Exit(exit_code) from None

        return guarded

    return decorated


def _tell(text: str, exit_code: int) -> None:
    """Write a line to stderr, of several processes of a launch once on every machine."""
    if launch().local_rank == 0:
        print(text, file=sys.stderr)
    elif exit_code != 0:
        time.sleep(AFTER_FIRST_S)


def split_list(text: str | None, number: type[int] | type[float]) -> object:
    """Yield the numbers of `1,2,5`; another text stays one, to be refused under its key."""
    if text is None:
        return None
    try:
        return [number(part) for part in text.split(",")]
    except ValueError:
        return text


def refuse_given(reason: str, options: Mapping[str, object]) -> None:
    """Refuse options that were given where they mean nothing.

    Args:
        reason: What is true of them, such as "goes with `--again`".
        options: Values by name; None and False are those of options left out.

    Raises:
        UsageError: With the first that was given and its value.
    """
    for option, value in options.items():
        if value is not None and value is not False:
            told = "" if value is True else f", got {value}"
            raise UsageError(f"`{option}` {reason}{told}.")


def show(text: str) -> None:
    """Print text for people; names in it may come from a stranger's database."""
    print(printable(text))


def to_json(value: object) -> str:
    """Yield `value` as JSON text; NaN and infinity are refused."""
    return json.dumps(value, indent=2, allow_nan=False)


def _configure_logging(is_verbose: bool, secrets: Sequence[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MaskingFormatter("%(levelname)s %(name)s: %(message)s", secrets))
    logging.basicConfig(handlers=[handler], force=True)
    for package in ("autoprumux", "trainers"):
        logging.getLogger(package).setLevel(logging.DEBUG if is_verbose else logging.WARNING)
    if not is_verbose:  # these libraries read it when they are imported, and set their own level
        for library in ("HF_HUB", "TRANSFORMERS", "DATASETS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
