"""Labels for the rows of a file.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.errors import PredictionError, UsageError

if TYPE_CHECKING:
    from autoprumux.report.predictions import PredictionSummary
    from trainers.data.streams import TextStream
    from trainers.results import Prediction
    from trainers.serving.predict import Predictor

STDIN_OR_STDOUT = "-"
"""In place of a path."""
_OPTIONS = re.compile(r"`(max_length|batch_size|device|backend)`")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How to label a file."""

    columns: tuple[str, ...] = ()
    """One or two columns with texts, in the order of the training; none means those that the
    model directory names."""
    max_length: int | None = None
    """Tokens at which rows are cut; None means that of the training."""
    file_format: str | None = None
    """`tsv`, `csv`, `jsonl` or `parquet`; None means that of the suffix."""
    backend: str = "torch"
    """`torch` or `onnx`."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    batch_size: int | None = None
    """Groups of N in a batch; None means as many as suit the device."""
    has_all_probabilities: bool = False
    """Whether the probability of every class is written."""
    is_strict: bool = False
    """Whether a row that cannot be labelled is an error, and nothing is written."""


def predict_file(
    directory: Path, table: str, out: str, options: PredictOptions | None = None
) -> "PredictionSummary":
    """Label every row of a table, in order and in constant memory.

    A row that cannot be read gets no label but a reason, and the others theirs.

    Args:
        directory: Model directory.
        table: TSV, CSV, JSONL or Parquet file, or `-` for standard input.
        out: TSV, CSV or JSONL file that appears when it is complete, or `-` for standard output.
        options: All the rest.

    Raises:
        UsageError: If an option cannot be obeyed or `out` cannot be written.
        PredictionError: If the model or the table cannot be used.
    """
    options = options or PredictOptions()
    if len(options.columns) > 2:
        raise UsageError(f"`--columns` must be one or two names, got {len(options.columns)}.")

    from autoprumux.report.labels import label_format, make_writer, open_labels
    from trainers.data.streams import format_of, open_texts

    with _errors_as_ours():
        out_format = label_format(out, format_of(table, options.file_format))
        if out != STDIN_OR_STDOUT and Path(out).resolve() == Path(table).resolve():
            raise UsageError(f"`--out` must be another file than the table, got `{out}`.")
        predictor = _load_predictor(directory, options)
        with (
            open_texts(table, _columns(predictor, options), options.file_format) as texts,
            open_labels(out, is_held_back=options.is_strict) as file,
        ):
            has_all = options.has_all_probabilities
            write = make_writer(file, out_format, predictor.labels, has_all=has_all)
            return _label(predictor, texts, write, options)


def _load_predictor(directory: Path, options: PredictOptions) -> "Predictor":
    from trainers.serving.predict import Predictor

    if not (directory / "config.json").is_file():
        missing = "no `config.json`" if directory.is_dir() else "no such folder"
        raise PredictionError(
            f"`{directory}` is no model directory: there is {missing}. Name one that `autoprumux "
            "export` has written."
        )
    return Predictor(
        directory,
        num_texts=len(options.columns) or None,
        max_length=options.max_length,
        backend=options.backend,
        device=options.device,
        batch_size=options.batch_size,
    )


def _columns(predictor: "Predictor", options: PredictOptions) -> tuple[str, ...]:
    columns = options.columns or predictor.model.text_columns
    if not columns:
        raise UsageError(
            f"`{predictor.model.path / 'config.json'}` does not name the columns with the texts; "
            "name them as in the training: `--columns A` or `--columns A,B`."
        )
    return columns


def _label(
    predictor: "Predictor",
    texts: "TextStream",
    write: Callable[["Prediction"], object],
    options: PredictOptions,
) -> "PredictionSummary":
    from autoprumux.report.predictions import PredictionSummary, with_progress
    from trainers.serving.predict import Tally

    summary = PredictionSummary(
        num_instances=predictor.model.shape.num_instances,
        max_length=predictor.max_length,
        is_length_guessed=options.max_length is None and predictor.model.max_length is None,
        backend=options.backend,
        device=predictor.device,
    )
    tally, started = Tally(), time.perf_counter()
    predictions = predictor.stream(texts, tally)
    for prediction in with_progress(predictions, lambda: (texts.num_done, texts.size)):
        if options.is_strict and prediction.error is not None:
            raise PredictionError(
                f"Line {prediction.line} of `{texts.name}` cannot be labelled: "
                f"{prediction.error}. Nothing is written; without `--strict` the other rows are."
            )
        write(prediction)
        summary.add(prediction)
    summary.duration_s = time.perf_counter() - started
    summary.padding_share = tally.padding_share
    return summary


@contextmanager
def _errors_as_ours() -> Iterator[None]:
    """Turn errors of the trainers into ours, with options as the command line spells them."""
    from trainers.errors import CheckpointError, ConfigError, TrainerError

    try:
        yield
    except CheckpointError as error:
        raise PredictionError(str(error)) from error
    except TrainerError as error:
        message = _OPTIONS.sub(lambda found: f"`--{found[1].replace('_', '-')}`", str(error))
        kind = UsageError if isinstance(error, ConfigError) else PredictionError
        raise kind(message) from error
