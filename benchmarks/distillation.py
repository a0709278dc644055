r"""What does the fine-tuned N = 1 model teach a wide one, and is that worth its time?

    python benchmarks/distillation.py --task qnli --width 2 --sparsity 0.9

trains one pair of N and s by each variant with the same number of updates, then the first variant
once more for as long as the slowest one took: what distillation costs is given to more updates
instead. Seconds are those of the phases of this N, without the N = 1 model, which every search
trains. A wide model that the source has weights for, like the built-in one, is neither primed nor
pre-trained; `--set trainer.model.num_demux_layers=3` makes it start from N = 1. Stopped and
started again with the same `--cache`, it trains only what is missing.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from types import SimpleNamespace

from common import TIMED_ONCE, add_recipe_options, announce, load_recipe, write_record

from trainers.config import TrainerConfig
from trainers.phases import loop
from trainers.pipeline import Trainer
from trainers.results import TrainerResult

NO_TEACHER = ("finetune.distill_weight=0", "finetune.state_distill_weight=0")
PRETRAINED = ("pretrain.distill_weight=1", "pretrain.mlm_weight=0", "pretrain.teacher=finetuned")
FINETUNED = {
    "labels": NO_TEACHER,
    "logits": ("finetune.distill_weight=0.5", "finetune.state_distill_weight=0"),
    "states": ("finetune.distill_weight=0", "finetune.state_distill_weight=1"),
    "logits, states": ("finetune.distill_weight=0.5", "finetune.state_distill_weight=1"),
}
"""Variants of the unpruned model; the first is what the others are compared with."""
STATES_FIRST = {
    "mlm first": (*NO_TEACHER, "pretrain.distill_weight=0"),
    "states first": (*NO_TEACHER, *PRETRAINED),
}
"""Variants with `--pretrain-updates`: what is done between priming and fine-tuning."""
PRUNED = {
    "same width": (),
    "plain": ("prune.teacher=plain", "finetune_pruned.teacher=plain"),
    "both": ("prune.teacher=both", "finetune_pruned.teacher=both"),
    "both, states": (
        "prune.teacher=both",
        "prune.state_distill_weight=0.5",
        "finetune_pruned.teacher=both",
        "finetune_pruned.state_distill_weight=0.5",
    ),
}
"""Variants of the pruned model, all from the unpruned model of the recipe as it is."""
DENSE_PHASES = ("prime", "pretrain", "narrow", "finetune")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model."""

    variant: str
    seed: int
    num_updates: int
    """Of fine-tuning, or of pruning with the training after it."""
    accuracy: float
    seconds: float
    """Of all phases of this N, or from pruning on."""
    stretched_s: float
    """Of those whose updates are counted."""


def main() -> None:
    """Train, print the table and write the JSON file."""
    options = _parse()
    if options.clock == "cpu":
        loop.time = SimpleNamespace(perf_counter=time.process_time)
    variants = _variants(options)
    rows, environment = list[Row](), dict[str, str]()
    print(f"N = {options.width}, s = {options.sparsity:g}")
    print(f"{'variant':18s}  seed  updates  accuracy  seconds")
    for row, result in _train_all(variants, options):
        environment = dict(result.environment)
        rows.append(row)
        print(
            f"{row.variant:18s}  {row.seed:4d}  {row.num_updates:7d}  {100 * row.accuracy:8.1f}  "
            f"{row.seconds:7.1f}",
            flush=True,
        )
    _print_means(rows)
    if options.out:
        values = {
            "num_instances": options.width,
            "sparsity": options.sparsity,
            "clock": options.clock,
            "variants": {name: list(settings) for name, settings in variants.items()},
            "rows": [asdict(row) for row in rows],
        }
        write_record(options.out, environment, values)


def _variants(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Yield the settings of each variant that is asked for, the one to compare with first."""
    known: dict[str, tuple[str, ...]] = {**PRUNED} if options.sparsity > 0 else {**FINETUNED}
    if options.pretrain_updates and options.sparsity == 0:
        updates = f"pretrain.num_updates={options.pretrain_updates}"
        known |= {name: (*s, updates) for name, s in STATES_FIRST.items()}
    missing = [name for name in options.variants if name not in known]
    if missing:
        sys.exit(f"`--variants` has {missing[0]!r}, which is none of {', '.join(known)}.")
    wanted = [next(iter(known)), *options.variants]
    return {name: s for name, s in known.items() if not options.variants or name in wanted}


def _train_all(
    variants: dict[str, tuple[str, ...]], options: argparse.Namespace
) -> Iterator[tuple[Row, TrainerResult]]:
    for seed in range(options.seed, options.seed + options.seeds):
        rows = []
        for name, settings in variants.items():
            result = _train(_recipe(options, settings), options, seed)
            rows.append(_row(name, seed, result, options))
            yield rows[-1], result
        share = _share_of_longer(rows)
        if share > 1:
            config = _longer(_recipe(options, next(iter(variants.values()))), options, share)
            result = _train(config, options, seed)
            yield _row(f"{rows[0].variant}, longer", seed, result, options), result


def _share_of_longer(rows: list[Row]) -> float:
    """Yield how many times as many updates the first variant has in the seconds of the slowest."""
    first = rows[0]
    return 1 + (max(row.seconds for row in rows) - first.seconds) / first.stretched_s


def _recipe(options: argparse.Namespace, settings: tuple[str, ...]) -> TrainerConfig:
    config = load_recipe(options, [f"trainer.{setting}" for setting in settings])
    return replace(config, throughput=TIMED_ONCE)


def _longer(config: TrainerConfig, options: argparse.Namespace, share: float) -> TrainerConfig:
    """Yield the recipe with `share` times the updates that are counted."""
    phases = {name: getattr(config, name) for name in _counted(options)}
    longer = {k: replace(p, num_updates=round(share * p.num_updates)) for k, p in phases.items()}
    return replace(config, **longer)


def _train(config: TrainerConfig, options: argparse.Namespace, seed: int) -> TrainerResult:
    trainer = Trainer(config, shared_seed=seed, cache_dir=options.cache)
    return trainer.train_and_measure(
        num_instances=options.width, sparsity=options.sparsity, seed=seed, report=announce
    )


def _row(name: str, seed: int, result: TrainerResult, options: argparse.Namespace) -> Row:
    own = {phase.name: phase for phase in result.phases}  # the last of a name is that of this N
    counted = _counted(options)
    timed = counted if options.sparsity > 0 else DENSE_PHASES
    return Row(
        variant=name,
        seed=seed,
        num_updates=sum(own[n].num_updates for n in counted if n in own),
        accuracy=result.accuracy.accuracy,
        seconds=sum(own[n].duration_s for n in timed if n in own),
        stretched_s=sum(own[n].duration_s for n in counted if n in own),
    )


def _counted(options: argparse.Namespace) -> tuple[str, ...]:
    """Yield the phases whose updates are compared."""
    return ("prune", "finetune_pruned") if options.sparsity > 0 else ("finetune",)


def _print_means(rows: list[Row]) -> None:
    """Print the table in Markdown, means over seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.variant, []).append(row)
    first = fmean(row.accuracy for row in next(iter(groups.values())))
    print("\n| variant | updates | accuracy | points | seconds |\n|---|---|---|---|---|")
    for name, found in groups.items():
        accuracy = fmean(row.accuracy for row in found)
        updates, seconds = (
            fmean(getattr(r, k) for r in found) for k in ("num_updates", "seconds")
        )
        points = "" if found[0] is rows[0] else f"{100 * (accuracy - first):+.1f}"
        print(f"| {name} | {updates:,.0f} | {100 * accuracy:.1f} | {points} | {seconds:.0f} |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_recipe_options(parser)
    parser.add_argument("--width", type=int, default=2, help="N (default 2)")
    parser.add_argument("--sparsity", type=float, default=0.0, help="s (default 0: not pruned)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from `--seed` on")
    parser.add_argument("--variants", nargs="+", default=[], help="names; all without it")
    parser.add_argument(
        "--pretrain-updates",
        type=int,
        default=0,
        help="also compare with so many updates of `pretrain` before fine-tuning",
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="seconds of the wall, or of a processor that others use; with OMP_NUM_THREADS=1",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
