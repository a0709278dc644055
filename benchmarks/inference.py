"""How much of the ideal speed-up do multiplexed and pruned encoders reach?

    OMP_NUM_THREADS=2 python benchmarks/inference.py --out inference.json
    OMP_NUM_THREADS=2 python benchmarks/inference.py --compile --out compiled.json

Times the BERT classifier of transformers, the dense model with N = 1 and one model for each pair
of N and s in turn, all of them untrained: speed does not depend on what weights hold. Models of
one width are interleaved, all get the same number of groups without padding. The ideal speed-up is
N x (multiply-adds of the dense encoder / those of the pruned one), last layers as they are run.

A pruned model keeps all hidden dimensions and has its heads and feed-forward units spread evenly
over the layers. That is the hardest case for speed: every layer norm is still there.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
from common import write_record
from transformers import BertConfig, BertForSequenceClassification

from trainers.measure.environment import describe_environment
from trainers.measure.throughput import time_interleaved
from trainers.models import folding
from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.models.operations import multiply_adds
from trainers.models.shape import MuxedBertShape

SIZES = {"minilm": (6, 384, 12), "bert-base": (12, 768, 12), "small": (2, 128, 4)}
"""Layers, hidden size and heads."""
TARGETS = {
    (1, 0.0): "1.0 of stock",
    (2, 0.0): "0.8",
    (5, 0.0): "0.8",
    (10, 0.0): "0.8",
    (1, 0.8): "0.8",
    (5, 0.9): "0.7",
    (10, 0.9): "0.7",
}
"""Share of the ideal that is aimed at."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model."""

    num_instances: int
    sparsity: float
    encoder_multiply_adds: int
    """Of one group."""
    throughput: float
    """Sequences per second, median."""
    over_stock: float
    """Times the throughput of transformers, median of neighbouring repeats."""
    speedup: float
    """Times that of the dense model with N = 1."""
    speedup_q1: float
    speedup_q3: float
    ideal: float
    """Speed-up if only the encoder's multiply-adds counted."""

    @property
    def share(self) -> float:
        """Yield the part of the ideal that is reached."""
        return self.speedup / self.ideal


def dense_shape(size: str, max_positions: int, embed_mode: str) -> MuxedBertShape:
    """Yield the shape of an N = 1 model with BERT's proportions and vocabulary."""
    num_layers, hidden, heads = SIZES[size]
    return MuxedBertShape.from_dict(
        {
            "model_type": "muxed_bert",
            "vocab_size": 30522,
            "hidden_size": hidden,
            "dense_hidden_size": hidden,
            "head_size": hidden // heads,
            "head_counts": (heads,) * num_layers,
            "feedforward_sizes": (4 * hidden,) * num_layers,
            "dense_num_heads": heads,
            "dense_feedforward_size": 4 * hidden,
            "max_positions": max_positions,
            "embed_mode": embed_mode,
        }
    )


def pruned_shape(dense: MuxedBertShape, num_instances: int, sparsity: float) -> MuxedBertShape:
    """Yield the shape with heads and units of a sparsity, spread evenly over the layers."""
    num_layers, share = dense.num_layers, 1 - sparsity
    num_heads = round(share * num_layers * dense.dense_num_heads)
    num_weights = share * dense.num_prunable_parameters
    num_weights -= 4 * dense.hidden_size * dense.head_size * num_heads
    num_units = round(num_weights / (2 * dense.hidden_size))
    return replace(
        dense,
        num_instances=num_instances,
        head_counts=_spread(num_heads, num_layers),
        feedforward_sizes=_spread(num_units, num_layers),
    )


def _spread(count: int, num_layers: int) -> tuple[int, ...]:
    return tuple(count // num_layers + (layer < count % num_layers) for layer in range(num_layers))


def main() -> None:
    """Time everything, print the table and write the JSON file."""
    options = _parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.clock == "cpu" and torch.get_num_threads() != 1:
        sys.exit("`--clock cpu` adds up the seconds of all threads, so it needs `--threads 1`.")
    if options.compile and shutil.which("g++") is None and shutil.which("clang++") is None:
        sys.exit("`--compile` needs a C++ compiler, and there is neither g++ nor clang++.")
    if options.compile:
        torch._dynamo.config.recompile_limit = 256  # for each function, by all models together
    rows = list(_measure(options))
    table = markdown(rows)
    print(table)
    if options.out:
        values = {
            "options": {k: v for k, v in vars(options).items() if k != "out"},
            "rows": [asdict(row) | {"share": row.share} for row in rows],
        }
        environment = describe_environment(torch.device(options.device))
        write_record(options.out, environment, values)


def _measure(options: argparse.Namespace) -> Iterator[Row]:
    dense = dense_shape(options.size, max(options.length, 128), options.embed_mode)
    for num_instances in options.widths:
        shapes = [pruned_shape(dense, num_instances, s) for s in options.sparsities]
        passes = [_stock(dense, options), *(_own(s, options) for s in (dense, *shapes))]
        seconds = time_interleaved(
            passes,
            num_warmup=options.warmup,
            num_repeats=options.repeats,
            device=torch.device(options.device),
            clock=time.process_time if options.clock == "cpu" else time.perf_counter,
        )
        for shape, sparsity, own in zip(shapes, options.sparsities, seconds[2:], strict=True):
            row = _row(shape, sparsity, dense, own, seconds[:2], options)
            print(row, file=sys.stderr, flush=True)
            yield row


def _row(
    shape: MuxedBertShape,
    sparsity: float,
    dense: MuxedBertShape,
    seconds: np.ndarray,
    references: np.ndarray,
    options: argparse.Namespace,
) -> Row:
    count = multiply_adds(shape, options.length).encoder
    over_stock, speedups = shape.num_instances * references / seconds  # (repeats,) each
    low, median, high = np.quantile(speedups, (0.25, 0.5, 0.75))
    return Row(
        num_instances=shape.num_instances,
        sparsity=sparsity,
        encoder_multiply_adds=count,
        throughput=options.batch_size * shape.num_instances / float(np.median(seconds)),
        over_stock=float(np.median(over_stock)),
        speedup=float(median),
        speedup_q1=float(low),
        speedup_q3=float(high),
        ideal=shape.num_instances * multiply_adds(dense, options.length).encoder / count,
    )


def _own(shape: MuxedBertShape, options: argparse.Namespace) -> Callable[[], object]:
    torch.manual_seed(0)
    device = torch.device(options.device)
    model = MuxedBert(shape).eval().to(device)
    if options.tables == "one":
        folding.LARGEST_TABLE = 0
    if options.tables != "none":
        model.fold(options.length)
    ids = _tokens((options.batch_size, shape.num_instances, options.length))
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids)).to(device)
    run = torch.compile(model) if options.compile else model
    return lambda: run(batch)


def _stock(dense: MuxedBertShape, options: argparse.Namespace) -> Callable[[], object]:
    config = BertConfig(
        vocab_size=dense.vocab_size,
        hidden_size=dense.hidden_size,
        num_hidden_layers=dense.num_layers,
        num_attention_heads=dense.dense_num_heads,
        intermediate_size=dense.dense_feedforward_size,
        max_position_embeddings=dense.max_positions,
    )
    model = BertForSequenceClassification(config).eval().to(options.device)
    ids = _tokens((options.batch_size, options.length)).to(options.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    run = torch.compile(model) if options.compile else model
    return lambda: run(**inputs)


def _tokens(size: tuple[int, ...]) -> torch.Tensor:
    """Draw token ids by Zipf's law, as texts have them; caches feel the difference."""
    generator = torch.Generator().manual_seed(0)
    shares = 1 / torch.arange(1, 29_523, dtype=torch.float64)  # ids below 1000 are special
    drawn = torch.multinomial(shares, int(np.prod(size)), replacement=True, generator=generator)
    return drawn.view(size) + 1000


def markdown(rows: list[Row]) -> str:
    """Yield the table of the documentation."""
    lines = [
        "| N | s | MMAC | sequences/s | x stock | x dense | quartiles | ideal | share | aim |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        aim = TARGETS.get((row.num_instances, row.sparsity), "")
        lines.append(
            f"| {row.num_instances} | {row.sparsity:.2f} | {row.encoder_multiply_adds / 1e6:.0f} "
            f"| {row.throughput:.0f} | {row.over_stock:.2f} | {row.speedup:.2f} "
            f"| {row.speedup_q1:.2f}-{row.speedup_q3:.2f} | {row.ideal:.2f} | {row.share:.2f} "
            f"| {aim} |"
        )
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="minilm")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.0, 0.6, 0.8, 0.9, 0.95])
    parser.add_argument("--embed-mode", choices=["two_pass", "single_pass"], default="two_pass")
    parser.add_argument("--batch-size", type=int, default=64, help="groups (default 64)")
    parser.add_argument("--length", type=int, default=128, help="tokens (default 128)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; without it, as torch chooses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--compile", action="store_true", help="everything by torch.compile")
    parser.add_argument(
        "--tables",
        choices=["by size", "one", "none"],
        default="by size",
        help="of folded embeddings: one for each instance unless too large, one, or unfolded",
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
