r"""What is a narrow model taught by the layers of the plain one that it was cut from?

    python benchmarks/narrow.py --task qnli --preset qnli.toml --width 5 --weights 0 0.5 \
        --set trainer.narrow.num_updates=1200 --set trainer.narrow.num_evaluations=6

trains the narrow model that a wide one starts from (`model.widening` = `blocks`), once for each
`layer_distill_weight`, and prints its accuracies on held-out rows. Stopped and started again with
the same `--cache`, it trains only what is missing; the fine-tuned plain model is shared.
"""

import argparse
from dataclasses import asdict, dataclass

from common import add_recipe_options, announce, load_recipe, write_record

from trainers.config import TrainerConfig
from trainers.dense import finetuned_stage
from trainers.measure.environment import describe_environment
from trainers.pipeline import Trainer


@dataclass(frozen=True, kw_only=True)
class Row:
    """One narrow model."""

    layer_distill_weight: float
    num_updates: int
    learning_rate: float
    held_out: tuple[float, ...]
    """Accuracies in the order of the evaluations; the best weights are kept."""
    seconds: float
    """Of the phase."""


def main() -> None:
    """Train, print the table and write the JSON file."""
    options = _parse()
    rows = []
    print("layers  updates  learning rate  best, %  seconds  held out, %")
    for weight in options.weights:
        setting = f"trainer.narrow.layer_distill_weight={weight:g}"
        trainer = _trainer(load_recipe(options, [setting]), options)
        rows.append(_train(trainer, options.width))
        _print(rows[-1])
    if options.out:
        environment = describe_environment(trainer.context.precision.device)
        values = {"num_instances": options.width, "rows": [asdict(row) for row in rows]}
        write_record(options.out, environment, values)


def _trainer(config: TrainerConfig, options: argparse.Namespace) -> Trainer:
    return Trainer(config, shared_seed=options.seed, cache_dir=options.cache)


def _train(trainer: Trainer, width: int) -> Row:
    dense = finetuned_stage(trainer.context, width)
    narrow = next((stage for stage in dense.needs if stage.name == "narrow"), None)
    if narrow is None:
        raise SystemExit(
            f"The recipe trains no narrow model for N = {width}: `trainer.model.widening` must be "
            "`blocks`, and the source must have no weights of that width."
        )
    *_, result = narrow.run_all(announce)
    config = trainer.config.narrow
    return Row(
        layer_distill_weight=config.layer_distill_weight,
        num_updates=config.num_updates,
        learning_rate=config.learning_rate,
        held_out=tuple(p.value for p in result.history if p.name == "held_out_accuracy"),
        seconds=result.duration_s,
    )


def _print(row: Row) -> None:
    found = " ".join(f"{100 * value:.1f}" for value in row.held_out)
    print(
        f"{row.layer_distill_weight:6g}  {row.num_updates:7d}  {row.learning_rate:13g}  "
        f"{100 * max(row.held_out):7.1f}  {row.seconds:7.0f}  {found}",
        flush=True,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_recipe_options(parser)
    parser.add_argument("--width", type=int, default=5, help="N (default 5)")
    parser.add_argument(
        "--weights", type=float, nargs="+", default=[0.0, 0.5], help="`layer_distill_weight`s"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
