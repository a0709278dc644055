"""How well do ten timings of untrained models predict the speed of pruned and multiplexed ones?

    python benchmarks/latency.py --out latency.json

Does what `autoprumux bench --calibrate` does, then measures every structure of the recordings,
untrained, nine at a time in turn with the dense baseline. The law of latency is fitted to the ten
and predicts the others, none of which is among them. Nothing that was trained or measured
elsewhere is used, so this machine is one that nothing was trained on.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common import add_settings, write_record

from autoprumux.api.bench import CALIBRATION_LIMIT_S
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.evaluators.timed import ModelTimer, model_timer
from autoprumux.records import EncoderFacts, EncoderShape
from autoprumux.study_files import load_study, parse_setting
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.structure_latency import StructureLatency, dense_shape

RECORDINGS = Path(__file__).parents[1] / "studies" / "recorded"
AT_ONCE, GROUP_LIMIT_S = 9, 6.0
"""Models that are timed in turn with the baseline, as in a calibration, and seconds for them."""
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


def time_all(
    timer: ModelTimer, shapes: list[EncoderShape], encoder: EncoderFacts
) -> Iterator[float]:
    """Yield speed-ups of shapes: few at a time, each in turn with the dense baseline."""
    for start in range(0, len(shapes), AT_ONCE):
        few = shapes[start : start + AT_ONCE]
        timings, _ = timer.time_shapes([dense_shape(encoder, 1), *few], GROUP_LIMIT_S)
        for timing in timings[1:]:
            yield timing.shape.num_instances / timing.share


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", nargs="+", help="default: all of built-in models")
    parser.add_argument("--preset", default="embedded", help="recipe whose models are timed")
    add_settings(parser, "--set", "a value of the study file, such as trainer.data.max_length=64")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    names = options.recordings or sorted(map(str, RECORDINGS.glob("*-builtin.csv")))
    config = load_study(options.preset, [parse_setting(s) for s in options.set]).trainer
    with model_timer(config, options.threads) as timer:
        profile, asked = timer.profile(), recorded_shapes(names)
        widths = sorted({shape.num_instances for shape in asked})
        encoder = timer.encoder(widths)
        chosen = calibration_shapes(encoder, widths, profile.length)
        asked = [shape for shape in asked if shape not in chosen]
        timings, num_rounds = timer.time_shapes(chosen, CALIBRATION_LIMIT_S)
        measured = list(time_all(timer, asked, encoder))
    law = StructureLatency.fitted(encoder, profile.length, timings)
    rows = [
        asdict(shape)
        | {
            "speedup": speedup,
            "predicted": math.exp(predicted.mean),
            "error": math.exp(predicted.mean) / speedup - 1.0,
        }
        for shape, speedup, predicted in zip(asked, measured, law.predict(asked), strict=True)
    ]
    inside = [
        abs(math.log(speedup) - predicted.mean) <= Z_90 * predicted.std
        for speedup, predicted in zip(measured, law.predict(asked), strict=True)
    ]
    errors = np.abs([row["error"] for row in rows])
    summary = {
        "models": len(rows),
        "rounds": num_rounds,
        "within": float(np.mean(errors <= NEAR)),
        "median": float(np.median(errors)),
        "quantile_95": float(np.quantile(errors, 0.95)),
        "largest": float(errors.max()),
        "bias": float(np.median([row["error"] for row in rows])),
        "in_90_interval": float(np.mean(inside)),
        "log_std": law.log_std,
    }
    print(f"{profile.name}, {profile.processor}: {len(chosen)} timed, {len(rows)} predicted")
    print(
        f"{num_rounds} rounds of calibration; misfit of the law {law.log_std:.3f} in log seconds, "
        f"90 % intervals hold {summary['in_90_interval']:.1%}"
    )
    print(
        f"speed-ups within {NEAR:.0%}: {summary['within']:.1%}; error: median "
        f"{summary['median']:.1%}, 95 % {summary['quantile_95']:.1%}, largest "
        f"{summary['largest']:.1%}; in the median {summary['bias']:+.1%}"
    )
    for width in widths:
        own = np.array([row["error"] for row in rows if row["num_instances"] == width])
        within = np.mean(abs(own) <= NEAR)
        print(
            f"  N = {width}: {len(own)} models, within {NEAR:.0%} {within:.1%}, "
            f"in the median {np.median(own):+.1%}"
        )
    if options.out:
        environment = {"processor": profile.processor, "threads": profile.num_threads}
        values = {"summary": summary, "coefficients": law.coefficients}
        values |= {"timings": [asdict(timing) for timing in timings], "models": rows}
        write_record(options.out, environment, values)


if __name__ == "__main__":
    sys.exit(main())
