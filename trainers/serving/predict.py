"""Labels for any number of texts at full multiplexed speed, in order and in constant memory.

    predictor = Predictor("model")
    predictor("a fine film")
    for prediction in predictor.stream(rows): ...

Rows are read a window at a time. Within a window sequences of similar length share groups and
batches; on CUDA a thread tokenises the next window meanwhile. See docs/predict.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.streams import TextRow
from trainers.data.words import TextEncoder, make_encoder
from trainers.errors import CheckpointError, ConfigError, DataError
from trainers.models.sources import load_tokenizer
from trainers.results import Prediction
from trainers.serving.backends import load_backend
from trainers.serving.directories import ModelDirectory, read_directory
from trainers.serving.windows import GroupBatch, Grouping, make_batches, run_batches
from trainers.special_tokens import special_tokens, token_ids

WINDOW_ROWS = 8192
"""Rows that are sorted together: enough for batches of nearly one length."""
WINDOW_CHARACTERS = 8_000_000
"""Text of a window at most, but one row; it bounds the memory whatever the rows hold."""
NUM_POSITIONS = {"cpu": 2048, "cuda": 16384}
"""Groups times tokens of a batch."""

_NO_NUMBER = "the output of the model is not a number"

Row = str | Sequence[str] | Mapping[str, str] | TextRow
"""A text, one or two texts, `{"text": ..., "text_pair": ...}`, or a row of a file."""


@dataclass
class Tally:
    """What the model was run on; grows while a stream is read."""

    num_tokens: int = 0
    """Tokens of labelled rows."""
    num_positions: int = 0
    """Places for tokens in all batches: B * N * T."""

    @property
    def padding_share(self) -> float:
        """Share of the places that held padding or rows that only filled a group."""
        return 1 - self.num_tokens / self.num_positions if self.num_positions else 0.0

    def add(self, batches: Sequence[GroupBatch]) -> None:
        """Count the batches of a window."""
        self.num_tokens += sum(batch.num_tokens for batch in batches)
        self.num_positions += sum(batch.mask.size for batch in batches)


class Predictor:
    """Labels texts with the model of a directory.

    Args:
        directory: What `save_model`, `save_pretrained` of transformers or an export wrote.
        num_texts: 1 or 2 texts in each row; None means that of the directory, and if it names no
            columns either, rows of both kinds are taken.
        max_length: Tokens at which rows are cut; None means that of the training, and if the
            directory does not tell, the longest that the model takes.
        backend: `torch`, or `onnx` for the `model.onnx` of the directory.
        device: `auto`, `cpu` or `cuda`.
        batch_size: Groups of N in a batch; None means as many as suit the device.

    Raises:
        CheckpointError: If a file of the directory is missing, damaged or does not fit.
        ConfigError: If an argument cannot be obeyed.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        num_texts: int | None = None,
        max_length: int | None = None,
        backend: str = "torch",
        device: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.model = read_directory(Path(directory))
        self.num_texts = _resolve_num_texts(self.model, num_texts)
        self.max_length = _resolve_max_length(self.model, max_length)
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"`batch_size` must be at least 1, got {batch_size}.")
        tokenizer = load_tokenizer(str(directory))
        num_tokens = max(tokenizer.get_vocab().values(), default=-1) + 1  # ids may have gaps
        if num_tokens > self.model.shape.vocab_size:
            raise CheckpointError(
                f"The tokenizer in `{directory}` has {num_tokens} tokens, but the "
                f"model knows {self.model.shape.vocab_size}."
            )
        self.encode: TextEncoder = make_encoder(tokenizer, self.max_length, self.num_texts or 2)
        self.backend = load_backend(self.model, backend, device)
        self.device = self.backend.device
        self.grouping = Grouping(
            num_instances=self.model.shape.num_instances,
            pad=token_ids(tokenizer, (special_tokens(tokenizer).pad,))[0],
            num_positions=NUM_POSITIONS[self.device],
            batch_size=batch_size,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        return self.model.labels

    def __call__(
        self, inputs: Row | Sequence[Row], top_k: int | None = 1
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """Classify as a text-classification pipeline of transformers does.

        Args:
            inputs: One text, one pair as `{"text": ..., "text_pair": ...}`, or a list of them; a
                pair in a list may also be a tuple.
            top_k: Number of classes to tell for each input, the likeliest first; None for all.

        Returns:
            One `{"label": ..., "score": ...}` for each input, and a list of them for each unless
            `top_k` is 1.

        Raises:
            DataError: If an input is no text or has another number of texts than the model needs.
        """
        rows = [inputs] if isinstance(inputs, str | Mapping | TextRow) else list(inputs)
        if top_k is not None and top_k < 1:
            raise ConfigError(f"`top_k` must be at least 1 or None, got {top_k}.")
        answers = []
        for prediction in self.stream(rows):
            if prediction.error is not None:
                raise DataError(
                    f"Input {prediction.row} cannot be classified: {prediction.error}."
                )
            pairs = zip(prediction.probabilities, self.labels, strict=True)
            ranked = sorted(pairs, key=lambda pair: -pair[0])[:top_k]
            answers.append([{"label": label, "score": score} for score, label in ranked])
        return [first for (first,) in answers] if top_k == 1 else answers

    def stream(self, rows: Iterable[Row], tally: Tally | None = None) -> Iterator[Prediction]:
        """Yield a prediction for each row, in order, while later rows are still unread.

        With N > 1 the label of a row can depend on the rows that share its group, and so on the
        others of its window; the same rows in the same order give the same predictions.

        Args:
            rows: Any iterable; it is read in this thread, at most two windows ahead. What is no
                text, or has another number of texts than the model needs, yields an `error`.
            tally: Grows with every window.
        """
        if self.device == "cpu":  # a thread would take a core from the model
            for window in self._windows(rows):
                yield from self._finish(window, self._prepare(window), tally)
            return
        waiting: tuple[_Window, Future[list[GroupBatch]]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as pool:
            for window in self._windows(rows):
                prepared = pool.submit(self._prepare, window)
                if waiting is not None:
                    yield from self._finish(waiting[0], waiting[1].result(), tally)
                waiting = window, prepared
            if waiting is not None:
                yield from self._finish(waiting[0], waiting[1].result(), tally)

    def _windows(self, rows: Iterable[Row]) -> Iterator["_Window"]:
        window, size = _Window(1), 0
        for item in rows:
            row = self._check(item, window.first + len(window.rows))
            window.rows.append(row)
            if row.error is None:
                window.texts.append(row.texts)
                size += sum(map(len, row.texts))
            if len(window.rows) == WINDOW_ROWS or size >= WINDOW_CHARACTERS:
                yield window
                window, size = _Window(window.first + len(window.rows)), 0
        if window.rows:
            yield window

    def _check(self, item: Row, number: int) -> TextRow:
        """Yield a row whose texts can be tokenised, or one with an error."""
        row = item if isinstance(item, TextRow) else TextRow(number, _texts_of(item))
        if row.error is not None:
            return row
        for text in row.texts:
            if not isinstance(text, str):
                return TextRow(row.line, (), f"{text!r:.40} is no text")
            if not (text.isascii() or _is_encodable(text)):
                return TextRow(row.line, (), "half a surrogate pair, which is no character")
        if len(row.texts) != (self.num_texts or min(max(len(row.texts), 1), 2)):
            wanted = "1 or 2 texts" if self.num_texts is None else f"{self.num_texts} texts"
            return TextRow(row.line, (), f"the model needs {wanted}, got {len(row.texts)}")
        return row

    def _prepare(self, window: "_Window") -> list[GroupBatch]:
        tokens = self.encode(window.texts)
        window.cut = tokens.cut
        return make_batches(tokens, self.grouping)

    def _finish(
        self, window: "_Window", batches: "list[GroupBatch]", tally: Tally | None
    ) -> Iterator[Prediction]:
        logits = run_batches(self.backend.run, batches, len(window.texts), len(self.labels))
        if tally is not None:
            tally.add(batches)
        answers = enumerate(self._answers(logits))
        for number, row in enumerate(window.rows, start=window.first):
            if row.error is not None:
                yield Prediction(number, row.line, None, None, (), row.error)
                continue
            place, (label, best, probabilities) = next(answers)
            if label is None:
                yield Prediction(number, row.line, None, None, (), _NO_NUMBER)
                continue
            is_empty = not all(map(str.strip, row.texts))
            is_cut = place in window.cut
            yield Prediction(number, row.line, label, best, probabilities, None, is_empty, is_cut)

    def _answers(
        self, logits: NDArray[np.float32]
    ) -> Iterator[tuple[str | None, float, tuple[float, ...]]]:
        """Yield label, its probability and those of all classes; no label if one is no number."""
        probabilities = _softmax(logits)
        best = probabilities.max(axis=1, initial=0)
        labels = np.array([*self.labels, None], dtype=object)
        index = probabilities.argmax(axis=1) if len(logits) else np.zeros(0, np.int64)
        index[np.isnan(best)] = len(self.labels)  # from weights or from an overflow
        return zip(
            labels[index].tolist(),
            best.tolist(),
            map(tuple, probabilities.tolist()),
            strict=True,
        )


@dataclass
class _Window:
    """Rows that are sorted together."""

    first: int
    """Number of the first row."""
    rows: list[TextRow] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    """Of the rows without an error."""
    cut: frozenset[int] = frozenset()
    """Places in `texts` of those too long."""


def _texts_of(item: Any) -> tuple[Any, ...]:
    if isinstance(item, Mapping):
        return tuple(item[key] for key in ("text", "text_pair") if key in item)
    return tuple(item) if isinstance(item, list | tuple) else (item,)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = np.exp(
        logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)
    )
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _resolve_num_texts(model: ModelDirectory, num_texts: int | None) -> int | None:
    if num_texts not in (None, 1, 2):
        raise ConfigError(f"The model takes 1 or 2 texts in a row, got {num_texts}.")
    known = len(model.text_columns)
    if known and num_texts not in (None, known):
        raise ConfigError(
            f"The model in `{model.path}` was trained on {known} texts in a row "
            f"({', '.join(model.text_columns)}), got {num_texts}."
        )
    return num_texts or known or None


def _resolve_max_length(model: ModelDirectory, max_length: int | None) -> int:
    longest = model.shape.max_positions
    length = next(n for n in (max_length, model.max_length, longest) if n is not None)
    if length > longest:
        raise ConfigError(
            f"`max_length` must be at most {longest}, the positions of the model in "
            f"`{model.path}`, got {length}."
        )
    return length
