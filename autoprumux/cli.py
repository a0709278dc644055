"""The command line: parse, call one use case, print. Heavy imports happen inside the commands."""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autoprumux.api import (
    export_recorded,
    pretrain_model,
    query_task,
    replay_recorded,
    report_task,
    run_search,
    task_override,
    validate_studies,
)
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.errors import AutoPrumuxError, UsageError
from autoprumux.study_files import DEFAULT_PRESET, Override, load_study, parse_setting

EXIT_INTERRUPTED = 130
"""What shells report for a program that Ctrl-C stopped."""

AFTER_INTERRUPT = "Finished trials are stored; the same command takes the search up again."

SEARCH_EPILOG = """\b
Example:
  autoprumux search --task qnli --budget 2
"""
QUERY_EPILOG = """\b
Example:
  autoprumux query --task qnli --budget 0:10:0.5
"""
REPORT_EPILOG = """\b
Example:
  autoprumux report --task qnli --out report.html
"""

PRETRAIN_EPILOG = """\b
Example:
  autoprumux pretrain --widths 1,2,5,10 --out my-model
"""

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

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Run the command line of `sys.argv`."""
    app(prog_name="autoprumux")


def _in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors of ours into sentences on stderr; `--verbose` adds the traceback."""

    @functools.wraps(command)
    def guarded(**options: Any) -> None:
        is_verbose = bool(options.get("verbose"))
        _configure_logging(is_verbose)
        try:
            command(**options)
        except AutoPrumuxError as error:
            if is_verbose:
                logging.getLogger(__name__).error("traceback:", exc_info=True)
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            print(f"\nStopped. {AFTER_INTERRUPT}", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return guarded


def _configure_logging(is_verbose: bool) -> None:
    logging.basicConfig(
        format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    for package in ("autoprumux", "trainers"):
        logging.getLogger(package).setLevel(logging.DEBUG if is_verbose else logging.WARNING)
    if not is_verbose:  # these libraries read it when they are imported, and set their own level
        for library in ("HF_HUB", "TRANSFORMERS", "DATASETS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")


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


Storage = Annotated[str, typer.Option(metavar="URL", help="Database, SQLAlchemy URL.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON; losses and accuracies as fractions.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log details; errors with traceback.")]


@app.command(epilog=SEARCH_EPILOG)
@_in_one_sentence
def search(
    *,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="mnli, qnli, qqp, sst2, or a file with a task of your own.  [default: qnli]",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="B|A,B|A:B:STEP",
            help="Largest accuracy loss in percentage points below the dense baseline."
            "  [default: the preset's]",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="Recipe: a preset or a study file.")
    ] = DEFAULT_PRESET,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="builtin|glue|DIR",
            help="Made-up built-in examples, the Hub's GLUE, or a directory with its files.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|DIR", help="Weights: a Hugging Face id, a directory, or builtin."
        ),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name in the database.  [default: TASK-PRESET]"),
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(metavar="NUM", help="Largest number of trained trials in the study."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", min=0, help="Start no trial after so many minutes; 0: none."
        ),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Mux widths to choose from, 1 among them."),
    ] = None,
    sparsities: Annotated[
        str | None,
        typer.Option(metavar="S,S,...", help="Encoder sparsities to choose from, 0 among them."),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="performance_model, random or grid."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to train and measure.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of choices and trainings.")] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Checkpoints.  [default: the user's cache directory]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a key of the study file, such as trainer.finetune.num_updates=200;"
            " may be repeated.",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train trials until the fastest model within the budget is settled.

    Prints the answer and leaves the database. Run again, it resumes.
    """
    options = {
        "search.budget": ("--budget", budget),
        "trainer.data.source": ("--data", data),
        "trainer.model.source": ("--model", model),
        "name": ("--study", study),
        "search.max_trials": ("--max-trials", max_trials),
        "search.timeout_s": ("--timeout", None if timeout is None else 60 * timeout),
        "search.widths": ("--widths", _split_list(widths, int)),
        "search.sparsities": ("--sparsities", _split_list(sparsities, float)),
        "search.sampler": ("--sampler", sampler),
        "trainer.device": ("--device", device),
        "search.seed": ("--seed", seed),
    }
    overrides = [parse_setting(text) for text in settings or ()]
    overrides += [
        Override(key, value, spelling)
        for key, (spelling, value) in options.items()
        if value is not None
    ]
    if task is not None:
        overrides.append(task_override(task, "--task"))
    config = load_study(preset, overrides)
    outcome = run_search(config, storage=storage, cache_dir=cache_dir)

    from autoprumux.report.answers import format_outcome, outcome_to_dict

    print(_to_json(outcome_to_dict(outcome)) if as_json else format_outcome(outcome, storage))


StoredTask = Annotated[str | None, typer.Option(metavar="NAME", help="Newest study of this task.")]
StoredBudgets = Annotated[
    str | None,
    typer.Option(
        metavar="B|A,B|A:B:STEP",
        help="Largest accuracy losses in percentage points.  [default: the study's]",
    ),
]
StudyName = Annotated[str | None, typer.Option(metavar="NAME", help="Study of this name.")]


@app.command(epilog=QUERY_EPILOG)
@_in_one_sentence
def query(
    *,
    task: StoredTask = None,
    budget: StoredBudgets = None,
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Answer from the database alone, without training.

    Per budget: the fastest measured model and the predicted ones that may be faster.
    """
    outcome = query_task(task, budget, study=study, storage=storage)

    from autoprumux.report.answers import answers_to_rows, format_answers

    if as_json:
        print(_to_json(answers_to_rows(outcome.answers)))
    else:
        print(format_answers(outcome.study, outcome.answers))


@app.command(epilog=REPORT_EPILOG)
@_in_one_sentence
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
    print(f"The report of study {record.name} ({len(record.trials)} trials) is in {out}.")
    if png is not None:
        print(f"The figure of its front is in {png}.")


@app.command(epilog=PRETRAIN_EPILOG)
@_in_one_sentence
def pretrain(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder n{N} for each width.")],
    widths: Annotated[
        str, typer.Option(metavar="N,N,...", help="Mux widths; 1 is always made first.")
    ] = "1,2,5,10",
    seed: Annotated[int, typer.Option(help="Seed of texts, weights and groups.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Make the built-in model: phases 1 and 2 from scratch on made-up text.

    Takes an hour or more on two cores. Run again, it takes up where it stopped.
    """
    numbers = _split_list(widths, int)
    if not isinstance(numbers, list):
        raise UsageError(f"`--widths` must be whole numbers such as `1,2,5`, got `{widths}`.")
    pretrain_model(out, numbers, seed=seed)
    print(f"The model is in {out}.")


@app.command(epilog=RECORD_EPILOG)
@_in_one_sentence
def record(
    *,
    study: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Study to record; may be repeated, once per seed."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets NAME.csv and NAME.json.")],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the recording.  [default: TASK-DATA-MODEL]")
    ] = "",
    storage: Storage = DEFAULT_STORAGE,
    verbose: Verbose = False,
) -> None:
    """Write the trials of studies as text files that `replay` and `validate` read."""
    header, rows = export_recorded(study, out, storage=storage, name=name)
    print(f"The recording is in {rows}, where it comes from in {header}.")


Recorded = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE.csv",
        help="Recording that ships with the package, or a file; may be repeated.",
    ),
]


@app.command(epilog=VALIDATE_EPILOG)
@_in_one_sentence
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
        print(_to_json([validation_to_dict(validation) for validation in outcome.validations]))
    else:
        print("\n\n".join(map(format_validation, outcome.validations)))


@app.command(epilog=REPLAY_EPILOG)
@_in_one_sentence
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
    seeds: Annotated[int, typer.Option(metavar="NUM", help="Searches per sampler.")] = 5,
    max_trials: Annotated[
        int | None, typer.Option(metavar="NUM", help="Largest number of trials in a search.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Tell what searches would have done on recorded trainings, without training.

    Trials until the best model is measured, regret, the answer, and the order of the trials.
    """
    summaries = replay_recorded(
        recorded, budget, samplers=sampler.split(","), num_seeds=seeds, max_trials=max_trials
    )

    from autoprumux.report.replay import format_replay

    print(_to_json(summaries) if as_json else format_replay(summaries))


def _split_list(text: str | None, number: type[int] | type[float]) -> object:
    """Yield the numbers of `1,2,5`; another text stays one, to be refused under its key."""
    if text is None:
        return None
    try:
        return [number(part) for part in text.split(",")]
    except ValueError:
        return text


def _to_json(value: object) -> str:
    return json.dumps(value, indent=2, allow_nan=False)
