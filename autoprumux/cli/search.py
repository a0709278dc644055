"""`autoprumux search`."""

from typing import Annotated

import typer

from autoprumux.api.processes import launch
from autoprumux.api.search import run_search, task_override
from autoprumux.cli.completion import presets, tasks
from autoprumux.cli.interrupts import leaving_at_checkpoints
from autoprumux.cli.options import (
    Artifacts,
    CacheDir,
    Json,
    Storage,
    Verbose,
    in_one_sentence,
    show,
    split_list,
    to_json,
)
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.study_files import DEFAULT_PRESET, Override, load_study, parse_setting

SEARCH_EPILOG = """\b
Example:
  autoprumux search --task qnli --budget 2
"""


@in_one_sentence("Finished trials are stored; the same command takes the search up again.")
def search(
    *,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml",
            autocompletion=tasks,
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
        str,
        typer.Option(
            metavar="NAME|FILE.toml",
            autocompletion=presets,
            help="Recipe: a preset or a study file.",
        ),
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
        typer.Option(
            metavar="NAME",
            help="performance_model, random, grid, or Optuna's own: tpe, gp, nsga2, brute_force.",
        ),
    ] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Time a few untrained models first, at most two minutes, so that speeds are"
            " known before anything is trained.  [default: the preset's]",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to train and measure.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of choices and trainings.")] = None,
    cache_dir: CacheDir = None,
    artifacts: Artifacts = None,
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

    Prints the answer and leaves the database. Run again, it resumes. Ctrl-C or SIGTERM: leaves at
    the next checkpoint; a second time: leaves at once.
    """
    options = {
        "search.budget": ("--budget", budget),
        "trainer.data.source": ("--data", data),
        "trainer.model.source": ("--model", model),
        "name": ("--study", study),
        "search.max_trials": ("--max-trials", max_trials),
        "search.timeout_s": ("--timeout", None if timeout is None else 60 * timeout),
        "search.widths": ("--widths", split_list(widths, int)),
        "search.sparsities": ("--sparsities", split_list(sparsities, float)),
        "search.sampler": ("--sampler", sampler),
        "search.calibrate": ("--calibrate", calibrate),
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
    with leaving_at_checkpoints() as stop:
        outcome = run_search(
            config, storage=storage, cache_dir=cache_dir, artifacts=artifacts, stop=stop
        )
    if not launch().is_first:
        return  # one process prints

    from autoprumux.report.answers import format_outcome, outcome_to_dict

    show(to_json(outcome_to_dict(outcome)) if as_json else format_outcome(outcome, storage))
