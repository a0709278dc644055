"""`autoprumux query`."""

from typing import Annotated

import typer

from autoprumux.api import stored
from autoprumux.cli.options import (
    NOTHING_CHANGED,
    Json,
    Storage,
    StoredBudgets,
    StoredTask,
    StudyName,
    Verbose,
    in_one_sentence,
    show,
    to_json,
)
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.errors import UsageError

QUERY_EPILOG = """\b
Example:
  autoprumux query --task qnli --budget 0:10:0.5
"""


@in_one_sentence(NOTHING_CHANGED)
def query(
    *,
    task: StoredTask = None,
    budget: StoredBudgets = None,
    study: StudyName = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Least chance, above 0.5, that the true loss of a model is within the budget."
            "  [default: measured losses decide]",
        ),
    ] = None,
    device_profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Speeds of this hardware, stored by bench."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="NUM", min=1, help="Stored speeds of this batch.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="NUM", min=1, help="Stored speeds of this length.")
    ] = None,
    device_profiles: Annotated[
        bool, typer.Option("--device-profiles", help="List the hardware with stored speeds.")
    ] = False,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the trials that failed, and why.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, one line per budget and model.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Answer from the database alone, without training.

    Per budget: the fastest measured model and the predicted ones that may be faster.
    """
    if as_json and as_csv:
        raise UsageError("`--json` and `--csv` exclude each other; give one of them.")
    if device_profiles:
        _print_profiles(storage, as_json=as_json)
        return
    if failures:
        _print_failures(storage, study, task, as_json=as_json, as_csv=as_csv)
        return
    outcome = stored.query(
        task,
        budget,
        study=study,
        storage=storage,
        confidence=confidence,
        device_profile=device_profile,
        batch_size=batch_size,
        length=length,
    )
    from autoprumux.report.answer_rows import answers_to_csv, answers_to_rows
    from autoprumux.report.answers import format_answers

    if as_json:
        print(to_json(answers_to_rows(outcome.answers)))
    elif as_csv:
        show(answers_to_csv(outcome.answers))
    else:
        show(format_answers(outcome.study, outcome.answers, outcome.hardware))


def _print_profiles(storage: str, *, as_json: bool) -> None:
    from autoprumux.report.profiles import format_profiles, profiles_to_rows

    profiles = stored.list_profiles(storage)
    show(to_json(profiles_to_rows(profiles)) if as_json else format_profiles(profiles))


def _print_failures(
    storage: str, study: str | None, task: str | None, *, as_json: bool, as_csv: bool
) -> None:
    from autoprumux.report import answer_rows

    record = stored.load_stored(storage, name=study, task=task)
    if as_json:
        print(to_json(answer_rows.failures_to_rows(record)))
    elif as_csv:
        show(answer_rows.failures_to_csv(record))
    else:
        show(answer_rows.format_failures(record))
