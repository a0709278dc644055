r"""Own pruning runs against one ladder: accuracy of each sparsity and what all of them cost.

    python benchmarks/ladder.py --task qnli --width 1 \
        --ladder-set trainer.prune.rung_updates=50 \
        --ladder-set trainer.finetune_pruned.num_updates=100

trains the eight sparsities of the paper's grid both ways, from the same fine-tuned model. Values
of `--ladder-set` hold for the ladder alone, which may be shorter than an own run: its weights have
been pruned and trained before. Stopped and started again with the same `--cache`, it trains only
what is missing.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from common import (
    TIMED_ONCE,
    add_recipe_options,
    add_settings,
    announce,
    load_recipe,
    write_record,
)

from trainers.config import TrainerConfig
from trainers.pipeline import Trainer
from trainers.results import TrainerResult

SPARSITIES = (0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model."""

    sparsity: float
    seed: int
    accuracy: float
    shared_s: float
    """Seconds of what all sparsities share, before pruning."""
    pruning_s: float
    """Seconds of its own pruning; with a ladder, those of its rung."""
    finetune_s: float
    """Seconds of the training after it."""

    @property
    def seconds(self) -> float:
        """After what is shared."""
        return self.pruning_s + self.finetune_s


def main() -> None:
    """Train, print the table and write the JSON file."""
    options = _parse()
    own = replace(load_recipe(options), throughput=TIMED_ONCE)
    ladder = replace(load_recipe(options, options.ladder_set), throughput=TIMED_ONCE)
    ladder = replace(ladder, prune=replace(ladder.prune, ladder=tuple(options.sparsities)))
    results = {
        "own": list(_train(own, options)),
        "ladder": list(_train(ladder, options)),
    }
    rows = {way: [_row(*found) for found in pairs] for way, pairs in results.items()}
    _print_table(rows["own"], rows["ladder"])
    if options.out:
        _, _, last = results["own"][-1]
        values = {
            "length": own.data.max_length,
            "dtype": own.precision,
            "batch_size": own.prune.num_groups(options.width),
            "prune": asdict(ladder.prune),
            "finetune_pruned": asdict(ladder.finetune_pruned),
            "rows": {way: [asdict(row) for row in found] for way, found in rows.items()},
        }
        write_record(options.out, last.environment, values)


def _train(
    config: TrainerConfig, options: argparse.Namespace
) -> Iterator[tuple[float, int, TrainerResult]]:
    for seed in range(options.seed, options.seed + options.seeds):
        trainer = Trainer(config, shared_seed=seed, cache_dir=options.cache)
        for sparsity in options.sparsities:
            result = trainer.train_and_measure(
                num_instances=options.width, sparsity=sparsity, seed=seed, report=announce
            )
            yield sparsity, seed, result


def _row(sparsity: float, seed: int, result: TrainerResult) -> Row:
    seconds = {phase.name: phase.duration_s for phase in result.phases}  # the last of a name
    own = ("prune", "finetune_pruned")
    return Row(
        sparsity=sparsity,
        seed=seed,
        accuracy=result.accuracy.accuracy,
        shared_s=sum(p.duration_s for p in result.phases if p.name not in own),
        pruning_s=seconds["prune"],
        finetune_s=seconds.get("finetune_pruned", 0.0),
    )


def _print_table(own: list[Row], ladder: list[Row]) -> None:
    print("sparsity  seed  accuracy own  ladder  points  seconds own  ladder")
    for alone, rung in zip(own, ladder, strict=True):
        points = 100 * (rung.accuracy - alone.accuracy)
        print(
            f"{alone.sparsity:8.2f}  {alone.seed:4d}  {100 * alone.accuracy:12.1f}  "
            f"{100 * rung.accuracy:6.1f}  {points:+6.1f}  {alone.seconds:11.1f}  "
            f"{rung.seconds:6.1f}"
        )
    mean = fmean(r.accuracy - a.accuracy for a, r in zip(own, ladder, strict=True))
    num_seeds = len({row.seed for row in own})
    one, all_rungs = fmean(row.seconds for row in own), sum(row.seconds for row in ladder)
    shared = fmean(row.shared_s for row in own)
    climb = all_rungs / num_seeds
    print(
        f"ladder against own runs: {100 * mean:+.2f} points on average; the whole ladder costs "
        f"{climb / one:.2f} times one own run, {(shared + climb) / (shared + one):.2f} times with "
        "what comes before pruning"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_recipe_options(parser)
    add_settings(parser, "--ladder-set", "a value for the ladder alone")
    parser.add_argument("--width", type=int, default=1, help="N (default 1)")
    parser.add_argument("--sparsities", type=float, nargs="+", default=list(SPARSITIES))
    parser.add_argument("--seeds", type=int, default=1, help="how many, from `--seed` on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
