"""Do wide, sparse models collapse for lack of capacity, or of updates that move their gates?

    python benchmarks/collapse.py --task sst2 --width 10 --sparsity 0.95

The published schedules count epochs, so the widest models get the fewest updates, and a gate moves
by no more than its learning rate in each: on SST-2 at N = 10, 104 updates of 0.01 while the target
rises. This trains one pair of N and s with schedules from that one, scaled down, to many updates
and quick gates, and prints what sparsity the gates themselves reached and what the model is worth.
A run that ends short of its target is not failed here: what it is worth is the question.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from common import TIMED_ONCE, add_recipe_options, announce, load_recipe, write_record

from trainers.context import resolve_device
from trainers.measure.environment import describe_environment
from trainers.pipeline import Trainer
from trainers.results import PhaseResult

ANY_SHORTFALL = 0.999
"""`prune.tolerance` that fails no run."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One schedule."""

    num_updates: int
    gate_learning_rate: float
    expected_sparsity: float
    """What the gates reached by themselves, before the structure was bisected."""
    accuracy: float
    dense_accuracy: float
    """That of the unpruned model of the same N."""
    pruning_s: float


def main() -> None:
    """Train, print the table and write the JSON file."""
    options = _parse()
    rows = []
    print("updates  gate rate  sparsity of the gates  accuracy  points to s = 0  seconds")
    for row in _train(options):
        rows.append(row)
        points = 100 * (row.accuracy - row.dense_accuracy)
        print(
            f"{row.num_updates:7d}  {row.gate_learning_rate:9g}  {row.expected_sparsity:21.3f}  "
            f"{100 * row.accuracy:8.1f}  {points:+15.1f}  {row.pruning_s:7.1f}",
            flush=True,
        )
    if options.out:
        environment = describe_environment(resolve_device("auto"))
        write_record(options.out, environment, {"rows": [asdict(row) for row in rows]})


def _train(options: argparse.Namespace) -> Iterator[Row]:
    recipe = replace(load_recipe(options), throughput=TIMED_ONCE)
    shared = {"num_instances": options.width, "seed": options.seed, "report": announce}
    dense = None
    for rate in options.gate_rates:
        for num_updates in options.updates:
            prune = replace(
                recipe.prune,
                num_updates=num_updates,
                gate_learning_rate=rate,
                tolerance=ANY_SHORTFALL,
                allows_slow_gates=True,
                ladder=(),
            )
            config = replace(recipe, prune=prune)
            trainer = Trainer(config, shared_seed=options.seed, cache_dir=options.cache)
            if dense is None:
                dense = trainer.train_and_measure(sparsity=0.0, **shared)
            found = trainer.train_and_measure(sparsity=options.sparsity, **shared)
            phase = next(phase for phase in found.phases if phase.name == "prune")
            yield Row(
                num_updates=num_updates,
                gate_learning_rate=rate,
                expected_sparsity=_expected_sparsity(phase),
                accuracy=found.accuracy.accuracy,
                dense_accuracy=dense.accuracy.accuracy,
                pruning_s=phase.duration_s,
            )


def _expected_sparsity(phase: PhaseResult) -> float:
    return [point.value for point in phase.history if point.name == "sparsity"][-1]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_recipe_options(parser)
    parser.add_argument("--width", type=int, default=10, help="N (default 10)")
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--updates", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    parser.add_argument("--gate-rates", type=float, nargs="+", default=[0.01, 0.1])
    return parser.parse_args()


if __name__ == "__main__":
    main()
