"""`autoprumux record`, `validate` and `replay`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autoprumux.api.record_again import record_again
from autoprumux.api.recordings import export_recorded, replay_recorded, validate_studies
from autoprumux.cli.interrupts import leaving_at_checkpoints
from autoprumux.cli.options import (
    NOTHING_CHANGED,
    CacheDir,
    Json,
    Recorded,
    Storage,
    StudyName,
    Verbose,
    in_one_sentence,
    refuse_given,
    show,
    to_json,
)
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.errors import UsageError

RECORD_EPILOG = """\b
Example:
  autoprumux record --study qnli-seed0 --study qnli-seed1 --out recordings
"""
VALIDATE_EPILOG = """\b
Example:
  autoprumux validate --storage sqlite:///grid.db
"""
REPLAY_EPILOG = """\b
Example:
  autoprumux replay --recorded recordings/qnli-builtin-builtin.csv --budget 1,3
"""


def _left_behind(options: Mapping[str, Any]) -> str:
    if options.get("again") is None:
        return "The same command writes the recording anew."
    return "Finished trials are stored; the same command takes the searches up again."


@in_one_sentence(_left_behind)
def record(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets NAME.csv and NAME.json.")],
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Study to record; may be repeated, once per seed."),
    ] = None,
    again: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.csv",
            help="Run the searches of this recording's header first, in place of --study.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="With --again: the data, if the recording was made with a folder's.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID|DIR", help="With --again: the weights, likewise.")
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the recording.  [default: TASK-DATA-MODEL]")
    ] = "",
    storage: Storage = DEFAULT_STORAGE,
    cache_dir: CacheDir = None,
    verbose: Verbose = False,
) -> None:
    """Write the trials of studies as text files that `replay` and `validate` read.

    With --again the searches of a recording are run before, or resumed: all of it is trained anew.
    """
    if (again is None) == (not study):
        raise UsageError("Give either `--study` or `--again`.")
    if again is None:
        again_only = {"--data": data, "--model": model, "--cache-dir": cache_dir}
        refuse_given("goes with `--again`", again_only)
        header, rows = export_recorded(study or (), out, storage=storage, name=name)
    else:
        if name:
            raise UsageError(f"`--again` keeps the recording's name; leave out `--name` {name}.")
        with leaving_at_checkpoints() as stop:
            header, rows = record_again(
                again,
                out,
                data=data,
                model=model,
                storage=storage,
                cache_dir=cache_dir,
                stop=stop,
            )
    print(f"The recording is in {rows}, where it comes from in {header}.")


@in_one_sentence(NOTHING_CHANGED)
def validate(
    *,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Studies of this task.")] = None,
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    recorded: Recorded = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Tell how well the surrogates predict what studies measured.

    Without options: all studies of the database. Needs most of a grid; nothing is trained.
    """
    outcome = validate_studies(study=study, task=task, storage=storage, recorded=recorded or ())

    from autoprumux.report.validation import format_validation, validation_to_dict

    for sentence in outcome.left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    if as_json:
        print(to_json([validation_to_dict(validation) for validation in outcome.validations]))
    else:
        show("\n\n".join(map(format_validation, outcome.validations)))


@in_one_sentence(NOTHING_CHANGED)
def replay(
    *,
    recorded: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.csv", help="Recording that ships, or a file."),
    ],
    budget: Annotated[
        str, typer.Option(metavar="B|A,B|A:B:STEP", help="Largest losses, percentage points.")
    ] = "2",
    sampler: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,...",
            help="performance_model, random, grid, or Optuna's own: optuna_random, tpe, gp, nsga2,"
            " brute_force.",
        ),
    ] = "performance_model,random,grid,tpe",
    prior: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,...",
            help="Recordings of other tasks, which performance_model takes as a prior.",
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(metavar="NUM", help="Searches per sampler.")] = 20,
    max_trials: Annotated[
        int | None, typer.Option(metavar="NUM", help="Largest number of trials in a search.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Tell what searches would have done on recorded trainings, without training.

    Trials until the best model is measured and regret, with intervals and a test of the first
    sampler against the others; the answer, and the order of the trials.
    """
    summaries = replay_recorded(
        recorded,
        budget,
        samplers=sampler.split(","),
        prior=[name for name in prior.split(",") if name],
        num_seeds=seeds,
        max_trials=max_trials,
    )

    from autoprumux.report.replay import format_replay

    show(to_json(summaries) if as_json else format_replay(summaries))
