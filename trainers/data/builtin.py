"""Seeded generator of GLUE-shaped examples for four tasks: nothing to download.

Each example is of one of three kinds (`KINDS`): `word` is solvable from single words, as real GLUE
often is; `match` from words that the two texts share or not; `relation` only from who did what to
whom. Mixed on purpose, so that accuracy falls by degrees as a model loses capacity.

A text belongs to one split by its hash, so that no row is in two splits, whatever the numbers of
examples and the seeds.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Literal

import numpy as np

from trainers.data.examples import Examples
from trainers.data.templates import mnli, qnli, qqp, sst2, words
from trainers.data.templates.draw import Draw
from trainers.errors import DataError

Split = Literal["train", "held_out", "validation"]
Row = tuple[str, ...]

KIND_SHARES = {
    "mnli": (0.70, 0.20, 0.10),
    "qnli": (0.70, 0.20, 0.10),
    "qqp": (0.70, 0.20, 0.10),
    "sst2": (0.70, 0.20, 0.10),
}
"""Per task, the shares of `word`, `match` and `relation` examples."""
LABEL_NOISE = 0.015
"""Share of examples with a wrong label, as annotators make them."""

_WRITERS: dict[str, tuple[Callable[[Draw, int], Row], ...]] = {
    "mnli": (mnli.write_word, mnli.write_match, mnli.write_relation),
    "qnli": (qnli.write_word, qnli.write_match, qnli.write_relation),
    "qqp": (qqp.write_word, qqp.write_match, qqp.write_relation),
    "sst2": (sst2.write_word, sst2.write_match, sst2.write_relation),
}
_NUM_LABELS = {"mnli": 3, "qnli": 2, "qqp": 2, "sst2": 2}
_SPLITS: tuple[Split, ...] = ("train", "held_out", "validation")
# Eighths of the hash range: generating a split costs draws in inverse proportion to its part.
_SPLIT_OF_HASH = ("train",) * 5 + ("held_out",) + ("validation",) * 2
_MAX_DRAWS = 2000  # for one new row; rows of a split are used up long before

# Masked-language modelling learns to match the two texts only where they match.
_CORPUS_KIND_SHARES = (0.3, 0.4, 0.3)
_CORPUS_MATCHING_SHARE = 0.7
_CORPUS_MATCHING_LABEL = {"mnli": mnli.ENTAILMENT, "qnli": qnli.ENTAILMENT, "qqp": qqp.DUPLICATE}
_CORPUS_TASKS = ("mnli", "qnli", "qqp", "sst2")


def generate(
    task_name: str, num_examples: int, seed: int, split: Split, *, noise: float = LABEL_NOISE
) -> Examples:
    """Yield examples of a built-in task, classes balanced but for chance.

    The same seed yields the same texts for any `noise`, and more examples begin with the fewer.

    Args:
        task_name: `mnli`, `qnli`, `qqp` or `sst2`.
        num_examples: How many; all of them differ.
        seed: Seed of the texts.
        split: Which part of all possible texts to draw from.
        noise: Share of wrong labels; 0 yields the labels that the rules give.

    Raises:
        DataError: If the task is not built in, or has fewer different texts than asked for.
    """
    if task_name not in _WRITERS:
        known = ", ".join(f"`{name}`" for name in _WRITERS)
        raise DataError(f"The built-in data has no task `{task_name}`; it has {known}.")
    draw = _start(seed, list(_WRITERS).index(task_name), _SPLITS.index(split))
    num_labels = _NUM_LABELS[task_name]
    labels = np.empty(num_examples, dtype=np.int64)
    kinds = np.empty(num_examples, dtype=np.int8)
    rows: dict[Row, None] = {}
    for index in range(num_examples):
        kind = _draw_kind(draw, KIND_SHARES[task_name])
        label = draw.below(num_labels)
        _add_new_row(rows, draw, _WRITERS[task_name][kind], label, split)
        is_wrong, shift = draw.chance(noise), 1 + draw.below(num_labels - 1)
        labels[index] = (label + shift) % num_labels if is_wrong else label
        kinds[index] = kind
    return Examples(tuple(rows), labels, kinds)


def unlabelled_texts(num: int, seed: int) -> list[Row]:
    """Yield a corpus for the phases before task training: inputs of the four tasks, mixed.

    Only texts of the training split, with more pairs that share words than the tasks have.
    """
    draw = _start(seed, len(_WRITERS), 0)
    rows: list[Row] = []
    while len(rows) < num:
        task_name = draw.pick(_CORPUS_TASKS)
        kind = _draw_kind(draw, _CORPUS_KIND_SHARES)
        label = draw.below(_NUM_LABELS[task_name])
        if draw.chance(_CORPUS_MATCHING_SHARE):
            label = _CORPUS_MATCHING_LABEL.get(task_name, label)
        row = _WRITERS[task_name][kind](draw, label)
        if split_of(row) == "train":
            rows.append(row)
    return rows


def vocabulary() -> tuple[str, ...]:
    """Yield every word that the built-in data can contain, sorted."""
    found = {word for name, pool in vars(words).items() if name.isupper() for word in pool}
    for module in (mnli, qnli, qqp, sst2):
        found |= _words_of(module.TEMPLATES)
    return tuple(sorted(found))


def split_of(row: Row) -> str:
    """Yield the split that a row belongs to; the order of its texts doesn't matter."""
    digest = blake2b("\t".join(sorted(row)).encode(), digest_size=1).digest()
    return _SPLIT_OF_HASH[digest[0] & 7]


def _words_of(value: object) -> set[str]:
    """Yield the words of all strings in nested tuples, slots left out."""
    if isinstance(value, str):
        return {word for word in value.split() if word.isalpha()}
    return set().union(*map(_words_of, value)) if isinstance(value, tuple) else set()


def _start(*entropy: int) -> Draw:
    return Draw(np.random.default_rng(entropy))


def _draw_kind(draw: Draw, shares: tuple[float, ...]) -> int:
    number = draw.uniform()
    return 0 if number < shares[0] else 1 if number < shares[0] + shares[1] else 2


def _add_new_row(
    rows: dict[Row, None], draw: Draw, write: Callable[[Draw, int], Row], label: int, split: Split
) -> None:
    for _ in range(_MAX_DRAWS):
        row = write(draw, label)
        if split_of(row) == split and row not in rows:
            rows[row] = None
            return
    raise DataError(
        f"The built-in data has no more than about {len(rows)} different `{split}` examples of "
        "this task; ask for fewer (`data.num_train`, `data.num_validation`)."
    )
