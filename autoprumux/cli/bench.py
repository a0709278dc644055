"""`autoprumux bench`."""

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from autoprumux.api import bench as use_case
from autoprumux.api.retiming import retime_recording
from autoprumux.cli.options import (
    Json,
    Storage,
    StoredTask,
    Verbose,
    in_one_sentence,
    refuse_given,
    show,
    to_json,
)
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.errors import UsageError

BENCH_EPILOG = """\b
Example:
  autoprumux bench qnli-embedded --calibrate
"""


@in_one_sentence("Speeds are stored together at the end, so none of these are.")
def bench(
    *,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY|DIR]",
            help="Study whose models are timed, or one model's folder.  [default: newest study]",
            show_default=False,
        ),
    ] = None,
    task: StoredTask = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Time a few untrained models, at most two minutes, and predict all others.",
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the device profile.  [default: such as cpu-2threads-float32-b64-l32]",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="NUM", help="Groups in a batch.  [default: the study's]")
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="NUM", help="Tokens.  [default: the study's]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="NUM", help="CPU threads.  [default: torch's choice]")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to measure.")
    ] = "auto",
    recorded: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.csv",
            help="Time the structures of a recording, in place of a study's models.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --recorded: gets it with the new speeds."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|DIR",
            help="With --recorded: the weights, if it was made with a folder's.",
        ),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure throughput on this device and store it, so that query answers for it.

    Each model is timed in turn with the dense baseline. Models whose folder is not here are timed
    untrained: speed does not depend on the values of weights.
    """
    setting = use_case.BenchSetting(
        name=name,
        batch_size=batch_size,
        length=length,
        num_threads=threads,
        device=cast(Literal["auto", "cpu", "cuda"], device),  # checked there
    )
    if recorded is None:
        refuse_given("goes with `--recorded`", {"--out": out, "--model": model})
    else:
        stored: dict[str, object] = {"STUDY|DIR": target, "--task": task, "--name": name}
        stored |= {"--calibrate": calibrate, "--json": as_json}
        refuse_given("does not go with `--recorded`", stored)
        if out is None:
            raise UsageError("`--recorded` needs the folder to write to; give it with `--out`.")
        header, rows = retime_recording(recorded, out, model=model, setting=setting, report=_say)
        print(f"The recording is in {rows}, where it comes from in {header}.")
        return
    outcome = use_case.bench(
        target,
        task=task,
        storage=storage,
        calibrate=calibrate,
        setting=setting,
        report=_say,
    )
    from autoprumux.report.bench import bench_to_dict, format_bench

    show(to_json(bench_to_dict(outcome)) if as_json else format_bench(outcome))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
