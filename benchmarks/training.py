"""How fast do the phases train, against plain fine-tuning by the Trainer of transformers?

    OMP_NUM_THREADS=2 python benchmarks/training.py --out training.json

The Trainer fine-tunes a BERT classifier of the same size; after each of its updates every phase
makes one of its own, with the same number of groups of the same length in the same precision. All
get full sequences of drawn tokens, for time does not depend on what they say. A ratio compares
sequences per second, so a phase with N = 5 may take five times as long for an update.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_record
from inference import SIZES, dense_shape
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from trainers.data.encoding import Encoded
from trainers.measure.environment import describe_environment
from trainers.models.heads import TokenHead
from trainers.models.masks import Gates
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.phase_config import FinetuneConfig, PretrainConfig, PrimeConfig, PruneConfig
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.loop import Program
from trainers.phases.precision import Precision
from trainers.phases.pretrain import PretrainProgram
from trainers.phases.prime import PrimeProgram
from trainers.phases.prune import PruneProgram
from trainers.phases.teachers import TeacherModels

TARGETS = {("finetune", 1): 1.0, ("finetune", 5): 3.0, ("prune", 1): 0.5}
"""Times the Trainer's sequences per second that are aimed at."""
SPECIAL_IDS = (0, 100, 101, 102, 103)
LONGEST = 10_000
"""Updates in a schedule, more than any run makes."""


@dataclass(frozen=True)
class Phase:
    """A program and the sequences in one of its updates."""

    name: str
    num_instances: int
    program: Program
    num_sequences: int


class Interleave(TrainerCallback):
    """Let each phase make an update after each of the Trainer's.

    Args:
        phases: What takes turns with it.
        clock: Yields seconds, once the device has done its work.
    """

    def __init__(self, phases: list[Phase], clock: Callable[[], float]) -> None:
        self.phases, self.clock = phases, clock
        self.seconds: list[list[float]] = []
        self.started = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.started = self.clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the Trainer's update, batch included, and make the others."""
        seconds = [self.clock() - self.started]
        for phase in self.phases:
            step = len(self.seconds)
            torch.manual_seed(step)
            started = self.clock()
            float(phase.program.update(step)["loss"])  # the loop reads it, too
            seconds.append(self.clock() - started)
        self.seconds.append(seconds)
        self.started = self.clock()


def main() -> None:
    """Train, print the table and write the JSON file."""
    options = _parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.clock == "cpu" and torch.get_num_threads() != 1:
        sys.exit("`--clock cpu` adds up the seconds of all threads, so it needs `--threads 1`.")
    dense = replace(dense_shape(options.size, options.length, options.embed_mode), num_classes=2)
    phases = [phase for width in options.widths for phase in _phases(dense, width, options)]
    interleave = Interleave(phases, _clock(options))
    _run_trainer(dense, interleave, options)
    seconds = np.array(interleave.seconds)[options.warmup :]  # (repeats, 1 + phases)
    rows = _rows(phases, seconds, options)
    print(markdown(rows))
    if options.out:
        values = {
            "options": {k: v for k, v in vars(options).items() if k != "out"},
            "trainer_sequences_per_s": options.batch_size / float(np.median(seconds[:, 0])),
            "rows": rows,
        }
        environment = describe_environment(torch.device(options.device))
        write_record(options.out, environment, values)


def _rows(
    phases: list[Phase], seconds: np.ndarray, options: argparse.Namespace
) -> list[dict[str, Any]]:
    rows = []
    for phase, own in zip(phases, seconds[:, 1:].T, strict=True):
        ratios = (phase.num_sequences / own) / (options.batch_size / seconds[:, 0])
        low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        rows.append(
            {
                "phase": phase.name,
                "num_instances": phase.num_instances,
                "sequences_per_s": phase.num_sequences / float(np.median(own)),
                "ratio": float(median),
                "ratio_q1": float(low),
                "ratio_q3": float(high),
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Yield the table of the documentation."""
    lines = [
        "| phase | N | sequences/s | x Trainer | quartiles | aim |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        aim = TARGETS.get((row["phase"], row["num_instances"]), "")
        lines.append(
            f"| `{row['phase']}` | {row['num_instances']} | {row['sequences_per_s']:.1f} "
            f"| {row['ratio']:.2f} | {row['ratio_q1']:.2f}-{row['ratio_q3']:.2f} | {aim} |"
        )
    return "\n".join(lines)


def _phases(dense: MuxedBertShape, width: int, options: argparse.Namespace) -> list[Phase]:
    """Yield the phases of a width: each with its teacher, as the `minilm` preset has it."""
    shape = replace(dense, num_instances=width)
    device = torch.device(options.device)
    precision = Precision(device, getattr(torch, options.precision))
    size = {
        "num_updates": LONGEST,
        "batch_size": options.batch_size,
        "max_sequences": options.batch_size * width,
    }
    examples = _examples(4 * options.batch_size * width, options.length)
    common: dict[str, Any] = {"seed": 0, "precision": precision}

    def model(num_instances: int = width) -> MuxedBert:
        return MuxedBert(replace(shape, num_instances=num_instances)).to(device)

    def head() -> TokenHead:
        return TokenHead(dense.hidden_size, dense.vocab_size, dense.layer_norm_eps).to(device)

    tuning = FinetuneConfig(**size, freeze_embeddings=options.freeze_embeddings)
    pruning = PruneConfig(**size, freeze_embeddings=options.freeze_embeddings)
    gates = Gates(shape, pruning.gates, pruning.sparsity_convention).to(device)
    teachers = TeacherModels(model())
    programs: dict[str, Program] = {
        "finetune": FinetuneProgram(model(), None, examples, examples, tuning, **common),
        "prune": PruneProgram(model(), teachers, gates, examples, 0.9, pruning, **common),
    }
    if width > 1:
        programs["prime"] = PrimeProgram(model(), head(), examples, PrimeConfig(**size), **common)
        programs["pretrain"] = PretrainProgram(
            model(), head(), model(1), examples, SPECIAL_IDS, PretrainConfig(**size), **common
        )
    wanted = [name for name in programs if name in options.phases]
    return [Phase(n, width, programs[n], options.batch_size * width) for n in wanted]


def _examples(count: int, length: int) -> Encoded:
    """Draw labelled sequences without padding from a tenth of the vocabulary."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, 4000, (count, length))
    labels = random.integers(0, 2, count)
    return Encoded(ids, np.full(count, length), np.zeros_like(ids), labels)


def _run_trainer(
    dense: MuxedBertShape, interleave: Interleave, options: argparse.Namespace
) -> None:
    config = BertConfig(
        vocab_size=dense.vocab_size,
        hidden_size=dense.hidden_size,
        num_hidden_layers=dense.num_layers,
        num_attention_heads=dense.dense_num_heads,
        intermediate_size=dense.dense_feedforward_size,
        max_position_embeddings=dense.max_positions,
    )
    examples = _examples(16 * options.batch_size, options.length)
    assert examples.labels is not None
    model = BertForSequenceClassification(config)
    if options.freeze_embeddings:
        model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory,
            max_steps=options.warmup + options.repeats,
            per_device_train_batch_size=options.batch_size,
            learning_rate=1e-4,
            bf16=options.precision == "bfloat16",
            use_cpu=options.device == "cpu",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        columns = {"input_ids": examples.input_ids, "labels": examples.labels}
        rows = [
            {name: torch.from_numpy(column)[row] for name, column in columns.items()}
            for row in range(len(examples))
        ]
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[interleave])
        trainer.remove_callback(PrinterCallback)  # its line would stand in the table
        trainer.train()


def _clock(options: argparse.Namespace) -> Callable[[], float]:
    read = time.process_time if options.clock == "cpu" else time.perf_counter

    def clock() -> float:
        if options.device != "cpu":
            torch.cuda.synchronize()
        return read()

    return clock


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="minilm")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 5])
    names = ["finetune", "prune", "prime", "pretrain"]
    parser.add_argument("--phases", nargs="+", choices=names, default=names)
    parser.add_argument("--embed-mode", choices=["two_pass", "single_pass"], default="two_pass")
    parser.add_argument("--batch-size", type=int, default=32, help="groups (default 32)")
    parser.add_argument("--length", type=int, default=128, help="tokens (default 128)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--freeze-embeddings", action="store_true", help="of both sides")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; without it, as torch chooses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
