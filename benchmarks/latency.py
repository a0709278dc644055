"""How well do ten timings of untrained models predict the speed of pruned and multiplexed ones?

    python benchmarks/latency.py --out latency.json

Calibrates as `autoprumux bench --calibrate` does, then measures every structure of the
recordings, untrained: in turn with the dense baseline, as in a trial, on many visits in random
order, which are spread over minutes, since the machine may drift. The law of latency, fitted to
the calibration's ten models, predicts the others, none of which is among them. Its coefficients
come from these ten alone; where its form comes from is in docs/measuring.md.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import add_settings, write_record

from autoprumux.api.calibrating import CALIBRATION_LIMIT_S
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.evaluators.timed import model_timer
from autoprumux.records import EncoderShape
from autoprumux.study_files import load_study, parse_setting
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.structure_latency import StructureLatency
from trainers.context import resolve_device
from trainers.measure.throughput import time_interleaved

RECORDINGS = Path(__file__).parents[1] / "studies" / "recorded"
Z_90 = 1.645
NEAR = 0.10
"""Relative error of a speed-up that is aimed at, for 95 % of the models."""


def recorded_shapes(names: list[str]) -> list[EncoderShape]:
    """Yield the distinct structures of recordings, in order of N."""
    shapes = set()
    for name in names:
        for trial in load_recording(name).trials:
            if trial.measurement is not None and not trial.candidate.is_baseline:
                kept = trial.measurement.structure
                shapes.add(
                    EncoderShape(
                        trial.candidate.num_instances,
                        kept.hidden_size,
                        tuple(kept.head_counts),
                        tuple(kept.feedforward_sizes),
                    )
                )
    return sorted(shapes, key=lambda s: (s.num_instances, s.head_counts, s.feedforward_sizes))


def time_in_turn(
    baseline: Callable[[], object],
    passes: Sequence[Callable[[], object]],
    *,
    limit_s: float,
    device: torch.device,
) -> np.ndarray:
    """Yield `(K, visits)` shares: seconds of each pass over the baseline's right before it."""
    random, started = np.random.default_rng(0), time.monotonic()
    rounds: list[np.ndarray] = []
    while time.monotonic() - started < limit_s or len(rounds) < 2:
        shares = np.ones(len(passes))
        for place in random.permutation(len(passes)):
            seconds = time_interleaved(
                [baseline, passes[place]], num_warmup=1, num_repeats=1, device=device
            )[:, 0]
            shares[place] = seconds[1] / seconds[0]
        rounds.append(shares)
    return np.array(rounds).T


def standard_error(shares: np.ndarray) -> float:
    """Yield that of medians of `(K, visits)` values, relative, from those of half the visits."""
    halves = [np.median(shares[:, part::2], axis=1) for part in (0, 1)]
    return float(np.std(np.log(halves[0] / halves[1]))) / 2


def summarised(
    law: StructureLatency, shapes: list[EncoderShape], speedups: list[float]
) -> dict[str, Any]:
    """Compare speed-ups that were predicted and measured."""
    predicted = law.predict(shapes)
    logs = np.array([p.mean for p in predicted]) - np.log(speedups)
    stds, errors = np.array([p.std for p in predicted]), np.expm1(logs)
    return {
        "models": len(shapes),
        "within": float(np.mean(abs(errors) <= NEAR)),
        "median": float(np.median(abs(errors))),
        "quantile_95": float(np.quantile(abs(errors), 0.95)),
        "largest": float(abs(errors).max()),
        "bias": float(np.median(errors)),
        "in_90_interval": float(np.mean(abs(logs) <= Z_90 * stds)),
        "log_std": law.log_std,
        "coefficients": law.coefficients,
    }


def shown(summary: dict[str, Any]) -> str:
    """Yield a line."""
    return (
        f"within {NEAR:.0%} {summary['within']:.1%}; error: median "
        f"{summary['median']:.1%}, 95 % {summary['quantile_95']:.1%}, largest "
        f"{summary['largest']:.1%}; in the median {summary['bias']:+.1%}; misfit of the law "
        f"{summary['log_std']:.3f}, 90 % intervals hold {summary['in_90_interval']:.1%}"
    )


def of_width(num_instances: int, rows: list[dict[str, Any]]) -> str:
    """Yield the line of a width N."""
    errors = np.array([row["predicted"] / row["speedup"] - 1.0 for row in rows])
    return (
        f"  N = {num_instances}: {len(rows)} models, within {NEAR:.0%} "
        f"{np.mean(abs(errors) <= NEAR):.1%}, in the median {np.median(errors):+.1%}"
    )


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", nargs="+", help="default: all of built-in models")
    parser.add_argument("--preset", default="embedded", help="recipe whose models are timed")
    add_settings(parser, "--set", "a value of the study file, such as trainer.data.max_length=64")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--limit-s", type=float, default=240.0, help="seconds for all visits")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    options = parsed()
    names = options.recordings or sorted(map(str, RECORDINGS.glob("*-builtin.csv")))
    config = load_study(options.preset, [parse_setting(s) for s in options.set]).trainer
    with model_timer(config, options.threads) as timer:
        profile, asked = timer.profile(), recorded_shapes(names)
        widths = sorted({shape.num_instances for shape in asked})
        encoder = timer.encoder(widths)
        chosen = calibration_shapes(encoder, widths, profile.length)
        asked = [shape for shape in asked if shape not in chosen]
        timings, num_rounds = timer.time_shapes(chosen, CALIBRATION_LIMIT_S)
        baseline, *passes = timer.passes([chosen[0], *asked])
        device = resolve_device(config.device)
        shares = time_in_turn(baseline, passes, limit_s=options.limit_s, device=device)
    noise = standard_error(shares)
    law = StructureLatency.fitted(encoder, profile.length, timings)
    medians = np.median(shares, axis=1).tolist()
    speedups = [shape.num_instances / m for shape, m in zip(asked, medians, strict=True)]
    summary = summarised(law, asked, speedups)
    print(
        f"{profile.name}, {profile.processor}: {len(chosen)} timed in {num_rounds} rounds, "
        f"{len(asked)} predicted, and measured on {shares.shape[1]} visits"
    )
    print(f"standard error of a measured speed-up {noise:.1%}; {shown(summary)}")
    rows = [
        asdict(shape) | {"speedup": speedup, "predicted": math.exp(prediction.mean)}
        for shape, speedup, prediction in zip(asked, speedups, law.predict(asked), strict=True)
    ]
    for width in widths:
        print(of_width(width, [row for row in rows if row["num_instances"] == width]))
    if options.out:
        environment = {"processor": profile.processor, "threads": profile.num_threads}
        values = {"visits": shares.shape[1], "noise": noise, "summary": summary}
        values |= {"timings": [asdict(timing) for timing in timings], "models": rows}
        write_record(options.out, environment, values)


if __name__ == "__main__":
    main()
