"""Labelling a file against the model alone: what reading, tokenising and writing cost.

    OMP_NUM_THREADS=2 python benchmarks/predict.py --width 5
    OMP_NUM_THREADS=2 python benchmarks/predict.py --width 5 --size minilm --rows 8192

writes a TSV of built-in texts, then takes turns between two things: the whole way from this file
to a file of labels, as `autoprumux predict` goes it, and the bare model on the same batches,
tokenised beforehand. The ratio of
their speeds is the share of the model's own throughput that is left end to end. Also printed is
the ratio of processor seconds of all threads, which other programs hardly disturb.

The weights do not matter for the speed, so it takes the built-in model as it ships, or one of 6
layers of 384 with BERT's vocabulary that nobody has trained. `--model DIR` takes another one, such
as a pruned model that a search has left.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import write_record
from numpy.typing import NDArray

from autoprumux.report.labels import make_writer, open_labels
from autoprumux.report.predictions import PredictionSummary, with_progress
from trainers.config import DataConfig
from trainers.data.load import load_splits
from trainers.data.streams import open_texts
from trainers.data.tasks import Task, find_task
from trainers.measure.environment import describe_environment
from trainers.measure.untrained import untrained_model
from trainers.models.checkpoints import load_model, save_model
from trainers.models.sources import builtin_directory, load_tokenizer
from trainers.serving.predict import WINDOW_ROWS, Predictor, Tally
from trainers.serving.windows import GroupBatch, make_batches


def main() -> None:
    """Measure, print the table and write the JSON file."""
    options = _parse()
    task = find_task(options.task)
    with tempfile.TemporaryDirectory() as folder:
        directory = options.model or _model(Path(folder) / "model", options)
        table = Path(folder) / "texts.tsv"
        texts = _write_texts(table, task, options.rows)
        predictor = Predictor(directory, num_texts=len(task.text_columns), backend=options.backend)
        batches = [
            batch
            for start in range(0, len(texts), WINDOW_ROWS)
            for batch in make_batches(
                predictor.encode(texts[start : start + WINDOW_ROWS]), predictor.grouping
            )
        ]
        out, tally = Path(folder) / "labels.tsv", Tally()
        runs = [
            lambda: _label(predictor, table, task, out),
            lambda: _run_model(predictor, batches),
            lambda: predictor.encode(texts),
        ]
        seconds, cpu_seconds = _time_interleaved(runs, options.repeats)
    tally.add(batches)
    record = {
        "num_instances": predictor.model.shape.num_instances,
        "rows": len(texts),
        "backend": options.backend,
        "dtype": "float32",
        "tokens_per_row": tally.num_tokens / len(texts),
        "padding_share": tally.padding_share,
        "batches": len(batches),
        "seconds": seconds.tolist(),
        "cpu_seconds": cpu_seconds.tolist(),
        "ratio": float(np.median(seconds[1] / seconds[0])),
    }
    _print_table(record, seconds, cpu_seconds)
    if options.out:
        write_record(options.out, describe_environment(torch.device(predictor.device)), record)


def _model(directory: Path, options: argparse.Namespace) -> Path:
    model = load_model(builtin_directory(options.width))
    if options.size == "minilm":
        shape = replace(
            model.shape,
            vocab_size=30522,
            hidden_size=384,
            dense_hidden_size=384,
            head_size=32,
            head_counts=(12,) * 6,
            dense_num_heads=12,
            feedforward_sizes=(1536,) * 6,
            dense_feedforward_size=1536,
        )
        model = untrained_model(shape, torch.device("cpu"))
    save_model(model, directory, load_tokenizer("builtin"))
    return directory


def _write_texts(path: Path, task: Task, num_rows: int) -> list[tuple[str, ...]]:
    config = DataConfig(num_train=min(num_rows, 50_000), num_validation=8, num_held_out=8)
    made = load_splits(config, task).train.texts
    texts = [made[row % len(made)] for row in range(num_rows)]
    lines = ["\t".join(row) for row in (task.text_columns, *texts)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return texts


def _label(predictor: Predictor, table: Path, task: Task, out: Path) -> None:
    summary = PredictionSummary(
        num_instances=predictor.model.shape.num_instances,
        max_length=predictor.max_length,
        is_length_guessed=False,
        backend="torch",
        device=predictor.device,
    )
    with open_texts(str(table), task.text_columns) as rows, open_labels(str(out)) as file:
        write = make_writer(file, "tsv", predictor.labels, has_all=False)
        predictions = predictor.stream(rows, Tally())
        for prediction in with_progress(predictions, lambda: (rows.num_done, rows.size)):
            write(prediction)
            summary.add(prediction)


def _run_model(predictor: Predictor, batches: list[GroupBatch]) -> None:
    for batch in batches:
        predictor.backend.run(batch.input_ids, batch.mask, batch.types)


def _time_interleaved(
    runs: list[Callable[[], object]], num_repeats: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Yield wall and processor seconds, `(runs, repeats)` each, after an untimed repeat."""
    seconds = np.zeros((2, len(runs), num_repeats + 1))
    for repeat in range(num_repeats + 1):
        for index, run in enumerate(runs):
            start = time.perf_counter(), time.process_time()
            run()
            end = time.perf_counter(), time.process_time()
            seconds[:, index, repeat] = np.subtract(end, start)
    return seconds[0, :, 1:], seconds[1, :, 1:]


def _print_table(
    record: dict[str, object], seconds: NDArray[np.float64], cpu_seconds: NDArray[np.float64]
) -> None:
    rows = int(str(record["rows"]))
    print(
        f"N={record['num_instances']}, {rows} rows of {record['tokens_per_row']:.1f} tokens, "
        f"{100 * float(str(record['padding_share'])):.1f} % padding, "
        f"{torch.get_num_threads()} threads, {record['backend']}"
    )
    print("what            seq/s   microseconds per row   of the processor")
    for name, wall, cpu in zip(
        ("end to end", "model alone", "tokenise alone"), seconds, cpu_seconds, strict=True
    ):
        per_row = 1e6 * float(np.median(wall)) / rows, 1e6 * float(np.median(cpu)) / rows
        print(f"{name:14} {1e6 / per_row[0]:6.0f}   {per_row[0]:20.1f}   {per_row[1]:16.1f}")
    for name, times in (("wall", seconds), ("processor", cpu_seconds)):
        low, ratio, high = np.quantile(times[1] / times[0], (0.25, 0.5, 0.75))
        print(
            f"end to end / model alone, {name} time: {ratio:.2f} "
            f"(quartiles {low:.2f} to {high:.2f})"
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=5, help="N of the built-in model (default 5)")
    parser.add_argument("--size", choices=("builtin", "minilm"), default="builtin")
    parser.add_argument("--model", type=Path, help="model directory, instead of the built-in one")
    parser.add_argument("--task", default="qnli", help="texts (default qnli)")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
