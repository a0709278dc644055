"""Calibrate this machine for the models of the recorded grids, as `autoprumux search` would.

    OMP_NUM_THREADS=1 python benchmarks/calibrations.py --model MODEL_DIR \
        --out benchmarks/results/calibrations.json

times at most ten untrained models for each kind of encoder and setting that the grids have, two
minutes each, on the machine and with the threads that their speeds were measured with
(`environment` of `studies/recorded/*.json`). `search.py` searches the grids with these
(`--samplers calibrated`). None of the timed models is one of the grids.

    python benchmarks/calibrations.py --errors

prints how far the stored ones, and the law of latency with the paper's constants, are from each
grid before anything of it is known.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from common import write_record

from autoprumux.api.bench import BenchSetting, recipe_of
from autoprumux.api.calibrating import calibrate_speeds
from autoprumux.evaluators.recording import Recording
from autoprumux.evaluators.timed import model_timer
from autoprumux.hardware import calibrated_speeds_of
from autoprumux.records import Calibration, EncoderFacts, EncoderShape, ShapeTiming
from autoprumux.surrogates.latency import LatencySurrogate
from trainers.config import TrainerConfig

STORED = Path(__file__).parent / "results" / "calibrations.json"


@lru_cache
def stored_calibrations() -> dict[str, Calibration]:
    """Yield what was calibrated once, by the name of the recording it is for."""
    rows = json.loads(STORED.read_text(encoding="utf-8"))["calibrations"]
    return {name: _calibration(row["calibration"]) for row in rows for name in row["recordings"]}


def main() -> None:
    """Calibrate for each kind of encoder and setting, and write the JSON file."""
    from search_tables import grids

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="", help="weights of grids that have a folder's")
    parser.add_argument("--out", type=Path, default=STORED)
    parser.add_argument("--errors", action="store_true", help="of the stored ones; times nothing")
    options = parser.parse_args()
    if options.errors:
        print("grid: median error of a speed-up by the calibration, by the published law")
        for recording in grids():
            told, published = (100.0 * math.expm1(e) for e in median_errors(recording))
            print(f"{recording.name}: {told:.1f} %, {published:.1f} %")
        return
    recipes: dict[TrainerConfig, list[str]] = {}
    for recording in grids():
        recipes.setdefault(_timed_recipe(recording, options.model), []).append(recording.name)
    rows, environment = [], dict[str, str]()
    for recipe, names in recipes.items():
        started = time.monotonic()
        with model_timer(recipe) as timer:
            profile, environment = timer.profile(), timer.environment()
            found = calibrate_speeds(timer, profile, (1, 2, 5, 10), started, print)
        found = replace(found, duration_s=time.monotonic() - started)
        print(f"{', '.join(names)}: misfit {100 * found.log_std:.1f} %, {found.duration_s:.0f} s")
        rows.append({"recordings": names, "calibration": asdict(found)})
    write_record(options.out, environment, {"calibrations": rows})


def median_errors(recording: Recording) -> tuple[float, float]:
    """Yield median absolute errors of log speed-ups, by its calibration and by the law."""
    told, published = list[float](), list[float]()
    for seed in recording.seeds:
        own = (stored_calibrations()[recording.name],)
        study = replace(recording.as_study(seed), calibrations=own)
        speeds = calibrated_speeds_of(study)
        assert speeds is not None
        pairs = [candidate for candidate in study.measured if not candidate.is_baseline]
        measured = np.log([study.measured[candidate].speedup for candidate in pairs])
        law = np.array([p.mean for p in LatencySurrogate().predict(pairs)])
        told += np.abs(speeds.expected(pairs) - measured).tolist()
        published += np.abs(law - measured).tolist()
    return float(np.median(told)), float(np.median(published))


def _timed_recipe(recording: Recording, model: str) -> TrainerConfig:
    """Yield a recipe with nothing but what decides the speed of a recording's models."""
    recipe = recipe_of(recording.as_study(recording.seeds[0]), BenchSetting())
    length = recipe.throughput.length or recipe.data.max_length
    source = recipe.model.source if recipe.model.source == "builtin" else model
    return TrainerConfig(
        model=replace(recipe.model, source=source),
        throughput=replace(recipe.throughput, length=length),
        device=recipe.device,
    )


def _calibration(stored: dict[str, Any]) -> Calibration:
    timings = (
        ShapeTiming(**{**timing, "shape": _shape(timing["shape"])}) for timing in stored["timings"]
    )
    return Calibration(
        **{
            **stored,
            "encoder": EncoderFacts(**stored["encoder"]),
            "coefficients": tuple(stored["coefficients"]),
            "timings": tuple(timings),
        }
    )


def _shape(stored: dict[str, Any]) -> EncoderShape:
    heads, units = stored["head_counts"], stored["feedforward_sizes"]
    sizes = {"head_counts": tuple(heads), "feedforward_sizes": tuple(units)}
    return EncoderShape(**{**stored, **sizes})


if __name__ == "__main__":
    main()
