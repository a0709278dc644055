"""How well do ten timings of untrained models predict the speed of pruned and multiplexed ones?

    python benchmarks/latency.py --out latency.json

Times the ten shapes of `autoprumux bench --calibrate` and every structure of the recordings, all
untrained, in turn; fits the law of latency to the ten and predicts the others, none of which is
among them. Nothing that was trained or measured elsewhere is used, so this machine is one that
nothing was trained on. A speed-up is the baseline's time over the model's, times N.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from common import add_settings, write_record

from autoprumux.evaluators.recording_files import load_recording
from autoprumux.evaluators.timed import model_timer
from autoprumux.records import EncoderShape
from autoprumux.study_files import load_study, parse_setting
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.structure_latency import StructureLatency

RECORDINGS = Path(__file__).parents[1] / "studies" / "recorded"
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


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", nargs="+", help="default: all of built-in models")
    parser.add_argument("--preset", default="embedded", help="recipe whose models are timed")
    add_settings(parser, "--set", "a value of the study file, such as trainer.data.max_length=64")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=500.0, help="for all timings")
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
        timings, num_rounds = timer.time_shapes([*chosen, *asked], options.seconds)
    law = StructureLatency.fitted(encoder, profile.length, timings[: len(chosen)])
    rows = []
    for timing, predicted in zip(timings[len(chosen) :], law.predict(asked), strict=True):
        speedup = timing.shape.num_instances / timing.share
        rows.append(
            {
                "num_instances": timing.shape.num_instances,
                "speedup": speedup,
                "predicted": math.exp(predicted.mean),
                "error": math.exp(predicted.mean) / speedup - 1.0,
            }
        )
    errors = np.abs([row["error"] for row in rows])
    summary = {
        "models": len(rows),
        "rounds": num_rounds,
        "within": float(np.mean(errors <= NEAR)),
        "median": float(np.median(errors)),
        "quantile_95": float(np.quantile(errors, 0.95)),
        "largest": float(errors.max()),
    }
    print(f"{profile.name}, {profile.processor}: {len(chosen)} timed, {len(rows)} predicted")
    print(f"{num_rounds} rounds; misfit of the law {law.log_std:.3f} in log seconds")
    print(
        f"speed-ups within {NEAR:.0%}: {summary['within']:.1%}; error: median "
        f"{summary['median']:.1%}, 95 % {summary['quantile_95']:.1%}, largest "
        f"{summary['largest']:.1%}"
    )
    for width in widths:
        own = [abs(row["error"]) for row in rows if row["num_instances"] == width]
        if own:
            print(f"  N = {width}: {len(own)} models, largest error {max(own):.1%}")
    if options.out:
        environment = {"processor": profile.processor, "threads": profile.num_threads}
        write_record(options.out, environment, {"summary": summary, "models": rows})


if __name__ == "__main__":
    sys.exit(main())
