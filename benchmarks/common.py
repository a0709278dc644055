"""What the benchmarks share: recipes by options, and records that tell their origin."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoprumux.study_files import load_study, parse_setting
from trainers.config import ThroughputConfig, TrainerConfig

TIMED_ONCE = ThroughputConfig(num_warmup=0, num_repeats=1, batch_size=8)
"""For trainings whose speed is not what is asked."""


def write_record(path: Path, environment: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write `values` as JSON, with the command, the commit and where it ran."""
    origin = {"command": sys.argv, "commit": commit(), "environment": dict(environment)}
    path.write_text(json.dumps({**origin, **values}, indent=1) + "\n", encoding="utf-8")


def commit() -> str:
    """Yield the commit of the working tree, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add what names a recipe, its seed, the phase cache and the file of results."""
    parser.add_argument("--task", default="qnli")
    parser.add_argument("--preset", default="embedded", help="name or study file")
    add_settings(parser, "--set", "a value of the study file, such as trainer.data.max_length=64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="phase cache")
    parser.add_argument("--out", type=Path, help="JSON file to write")


def add_settings(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """Add an option that may be repeated, each time with one `KEY=VALUE`."""
    parser.add_argument(name, action="append", default=[], metavar="KEY=VALUE", help=text)


def load_recipe(options: argparse.Namespace, more: Sequence[str] = ()) -> TrainerConfig:
    """Yield the trainer's part of the recipe that the options name, changed by `more` settings."""
    settings = [f"task={options.task}", *options.set, *more]
    return load_study(options.preset, list(map(parse_setting, settings))).trainer


def announce(name: str, value: float, step: int) -> None:
    """Say on stderr which phase begins; a trainer's `report`."""
    phase, _, what = name.partition("/")
    if what == "total" and phase != "measure" and step < value:
        print(f"{phase}: {value - step:.0f} updates", file=sys.stderr, flush=True)
