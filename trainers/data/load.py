"""The three splits of a task from whatever source a study names."""

from hashlib import sha256
from pathlib import Path

import numpy as np

from trainers.config import BUILTIN, DataConfig
from trainers.data.builtin import generate
from trainers.data.examples import Examples, Splits
from trainers.data.glue import read_directory, read_hub
from trainers.data.tasks import TASKS, Task
from trainers.errors import ConfigError, DataError

HUB = "glue"
"""Word for the Hub's GLUE."""


def load_splits(config: DataConfig, task: Task) -> Splits:
    """Yield the examples to train on, to choose checkpoints by, and to report accuracy on.

    Held-out examples are cut from the training split (files, Hub) or drawn from a part of their
    own (built-in); the validation split decides nothing. Every choice is seeded by `config.seed`.

    Raises:
        DataError: If the data are missing, malformed, unknown to the task or too few.
        ConfigError: If built-in data are asked for without a number.
    """
    if config.source == BUILTIN:
        origin, splits = BUILTIN, _generate_splits(config, task)
    elif config.source == HUB:
        origin, splits = HUB, _cut(*read_hub(task), config)
    else:
        directory = Path(config.source).expanduser()
        origin, splits = "files", _cut(*read_directory(directory, task), config)
    return Splits(*splits, fingerprint=f"{origin}:{task.name}:{_hash(splits)}")


def _generate_splits(config: DataConfig, task: Task) -> tuple[Examples, Examples, Examples]:
    if task != TASKS.get(task.name):
        known = ", ".join(f"`{name}`" for name in TASKS)
        raise DataError(
            f"The built-in data has no task `{task.name}`; it has {known}. Give a directory with "
            "your files (`--data DIR`)."
        )
    for name in ("num_train", "num_validation"):
        if getattr(config, name) == 0:
            raise ConfigError(
                f"`data.{name}` must be at least 1 for built-in data, which has no end, got 0."
            )
    return (
        generate(task.name, config.num_train, config.seed, "train"),
        generate(task.name, config.num_held_out, config.seed, "held_out"),
        generate(task.name, config.num_validation, config.seed, "validation"),
    )


def _cut(
    train: Examples, validation: Examples, config: DataConfig
) -> tuple[Examples, Examples, Examples]:
    if len(train) <= config.num_held_out:
        raise DataError(
            f"The training split has {len(train)} examples, too few to hold out "
            f"{config.num_held_out} of them. Lower `data.num_held_out`."
        )
    order = np.random.default_rng(config.seed).permutation(len(train))
    held_out, rest = np.split(order, [config.num_held_out])
    if config.num_train:
        rest = rest[: config.num_train]
    return (
        train.take(np.sort(rest)),
        train.take(np.sort(held_out)),
        _limit(validation, config.num_validation, config.seed),
    )


def _limit(examples: Examples, number: int, seed: int) -> Examples:
    if not 0 < number < len(examples):
        return examples
    chosen = np.random.default_rng(seed).permutation(len(examples))[:number]
    return examples.take(np.sort(chosen))


def _hash(splits: tuple[Examples, ...]) -> str:
    """Yield 12 hexadecimal digits that change with any text, label, order or split."""
    digest = sha256()
    for examples in splits:
        digest.update(f"{len(examples)}\n".encode())
        for row, label in zip(examples.texts, examples.labels.tolist(), strict=True):
            digest.update("\t".join((*row, str(label))).encode() + b"\n")
    return digest.hexdigest()[:12]
