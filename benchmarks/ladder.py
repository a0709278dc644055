"""Own pruning runs against one ladder: accuracy of each sparsity and what all of them cost.

    python benchmarks/ladder.py --task qnli --width 1

trains the eight sparsities of the paper's grid both ways with the recipe of a preset, from the
same fine-tuned model. Stopped and started again with the same `--cache`, it trains only what is
missing. With the defaults: 8 x 400 updates of pruning without the ladder, 400 + 7 x 100 with it,
and 8 x 200 after it both ways.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autoprumux.study_files import load_study, parse_setting
from trainers.config import ThroughputConfig, TrainerConfig
from trainers.pipeline import Trainer
from trainers.results import TrainerResult

SPARSITIES = (0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model."""

    sparsity: float
    accuracy: float
    pruning_s: float
    """Seconds of its own pruning; with a ladder, those of its rung."""
    finetune_s: float
    """Seconds of the training after it."""


def main() -> None:
    """Train, print the table and write the JSON file."""
    options = _parse()
    overrides = [parse_setting(f"task={options.task}"), *map(parse_setting, options.set)]
    own = load_study(options.preset, overrides).trainer
    own = replace(own, throughput=ThroughputConfig(num_warmup=0, num_repeats=1, batch_size=8))
    ladder = replace(own, prune=replace(own.prune, ladder=tuple(options.sparsities)))
    results = {
        "own": list(_train(own, options)),
        "ladder": list(_train(ladder, options)),
    }
    rows = {way: [_row(s, r) for s, r in pairs] for way, pairs in results.items()}
    _print_table(rows["own"], rows["ladder"])
    if options.out:
        _, last = results["own"][-1]
        record = {
            "command": sys.argv,
            "commit": _commit(),
            "environment": last.environment,
            "length": own.data.max_length,
            "dtype": own.precision,
            "batch_size": own.prune.num_groups(options.width),
            "prune": asdict(ladder.prune),
            "rows": {way: [asdict(row) for row in found] for way, found in rows.items()},
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _train(
    config: TrainerConfig, options: argparse.Namespace
) -> Iterator[tuple[float, TrainerResult]]:
    trainer = Trainer(config, shared_seed=options.seed, cache_dir=options.cache)
    for sparsity in options.sparsities:
        yield (
            sparsity,
            trainer.train_and_measure(
                num_instances=options.width,
                sparsity=sparsity,
                seed=options.seed,
                report=_announce,
            ),
        )


def _announce(name: str, value: float, step: int) -> None:
    phase, _, what = name.partition("/")
    if what == "total" and phase != "measure" and step < value:
        print(f"{phase}: {value - step:.0f} updates", file=sys.stderr, flush=True)


def _row(sparsity: float, result: TrainerResult) -> Row:
    seconds = {phase.name: phase.duration_s for phase in result.phases}  # the last of a name
    return Row(
        sparsity=sparsity,
        accuracy=result.accuracy.accuracy,
        pruning_s=seconds["prune"],
        finetune_s=seconds.get("finetune_pruned", 0.0),
    )


def _print_table(own: list[Row], ladder: list[Row]) -> None:
    print("sparsity  accuracy own  ladder  points  pruning s own  ladder")
    for alone, rung in zip(own, ladder, strict=True):
        points = 100 * (rung.accuracy - alone.accuracy)
        accuracies = f"{100 * alone.accuracy:12.1f}  {100 * rung.accuracy:6.1f}  {points:+6.1f}"
        print(
            f"{alone.sparsity:8.2f}  {accuracies}  {alone.pruning_s:13.1f}  {rung.pruning_s:6.1f}"
        )
    mean = sum(r.accuracy - a.accuracy for a, r in zip(own, ladder, strict=True)) / len(own)
    pruning = sum(row.pruning_s for row in ladder) / sum(row.pruning_s for row in own)
    total = _seconds(ladder) / _seconds(own)
    print(
        f"ladder against own runs: {100 * mean:+.2f} points on average, "
        f"{pruning:.2f} of the pruning time, {total:.2f} of all time after fine-tuning"
    )


def _seconds(rows: list[Row]) -> float:
    return sum(row.pruning_s + row.finetune_s for row in rows)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", default="qnli")
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--width", type=int, default=1, help="N (default 1)")
    parser.add_argument("--sparsities", type=float, nargs="+", default=list(SPARSITIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="phase cache")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value of the study file, such as trainer.prune.rung_updates=200",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
