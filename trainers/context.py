"""What all phases of one training share: data, tokenizer, device and precision."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer

from trainers.config import TrainerConfig
from trainers.data.encoding import Encoded, encode
from trainers.data.examples import Examples, Splits
from trainers.data.load import load_splits
from trainers.data.tasks import Task, find_task
from trainers.errors import ConfigError
from trainers.models.sources import load_tokenizer
from trainers.phases.precision import Precision, resolve_precision
from trainers.processes import ALONE, Processes


@dataclass(frozen=True)
class TrainingContext:
    """What all phases of one training share; loaded on first use."""

    config: TrainerConfig
    seed: int
    cache_dir: Path
    task: Task
    tokenizer: Tokenizer
    splits: Splits
    processes: Processes = ALONE

    @classmethod
    def open(
        cls, config: TrainerConfig, *, seed: int, cache_dir: Path, processes: Processes = ALONE
    ) -> "TrainingContext":
        """Load the data and the tokenizer of a recipe."""
        task = find_task(config.task)
        tokenizer = load_tokenizer(config.model.source)
        splits = load_splits(config.data, task)
        return cls(config, seed, cache_dir, task, tokenizer, splits, processes)

    @cached_property
    def precision(self) -> Precision:
        """Where and in which precision everything computes."""
        device = self.processes.place(resolve_device(self.config.device))
        return Precision(
            device,
            resolve_precision(self.config.precision, device),
            num_parts=self.config.num_parts,
            processes=self.processes,
        )

    @cached_property
    def train(self) -> Encoded:
        """Examples to train on."""
        return self._encode(self.splits.train)

    @cached_property
    def held_out(self) -> Encoded:
        """Examples that weights are chosen by."""
        return self._encode(self.splits.held_out)

    @cached_property
    def validation(self) -> Encoded:
        """Examples that are reported on."""
        return self._encode(self.splits.validation)

    def _encode(self, examples: Examples) -> Encoded:
        length = self.config.data.max_length
        return encode(self.tokenizer, examples.texts, length, examples.labels)


def resolve_device(word: str) -> torch.device:
    """Yield the device that `auto`, `cpu` or `cuda` means here.

    Raises:
        ConfigError: If `cuda` is asked for and there is none.
    """
    if word == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "`device` is `cuda`, but torch sees no CUDA device; use `cpu` or `auto`."
        )
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(word)
