"""The bridge to the trainers' clock: times models on this machine, without training."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from autoprumux.errors import InputError
from autoprumux.evaluators.trained import map_error
from autoprumux.records import (
    DeviceProfile,
    EncoderFacts,
    EncoderShape,
    ShapeTiming,
    Throughput,
)
from trainers.config import ModelConfig, TrainerConfig
from trainers.context import resolve_device
from trainers.errors import CheckpointError, ConfigError, TrainerError
from trainers.measure.environment import describe_environment
from trainers.measure.throughput import folded_pass, full_batch, measure_throughput
from trainers.measure.untrained import random_examples, time_rounds, untrained_model
from trainers.models.checkpoints import CONFIG_FILE, load_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.models.sources import load_source, load_stored

_OPTIONS = {
    "throughput.batch_size": "--batch-size",
    "throughput.length": "--length",
    "device": "--device",
}
"""How the user of a timer spells what its errors are about."""


@contextmanager
def model_timer(
    config: TrainerConfig,
    num_threads: int | None = None,
    *,
    options: Mapping[str, str] = _OPTIONS,
) -> Iterator["ModelTimer"]:
    """Give a timer; torch computes with `num_threads` CPU threads while the block runs.

    Args:
        config: Recipe whose models are timed; its throughput section says how.
        num_threads: None leaves torch's number.
        options: How errors spell keys of the recipe, if not as a study file does.

    Raises:
        InputError: If the device, the model or a length cannot be used.
    """
    before = torch.get_num_threads()
    with _errors_as_ours(options):
        device = resolve_device(config.device)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield ModelTimer(config, device, options)
    finally:
        torch.set_num_threads(before)


class ModelTimer:
    """Times models of one recipe in one setting.

    Args:
        config: Recipe whose models are timed.
        device: Where they are timed.
        options: How errors spell keys of the recipe, if not as a study file does.
    """

    def __init__(
        self, config: TrainerConfig, device: torch.device, options: Mapping[str, str]
    ) -> None:
        self._config, self._device, self._options = config, device, options
        self._dense_shape = lru_cache(maxsize=None)(self._load_shape)

    def profile(self, name: str = "") -> DeviceProfile:
        """Yield the setting under `name`, or under one that describes it."""
        environment = self.environment()
        is_cpu = self._device.type == "cpu"
        found = DeviceProfile(
            name=name,
            device=environment["device"],
            processor=environment["processor"],
            dtype="float32",
            batch_size=self._config.throughput.batch_size,
            length=self._length,
            num_threads=torch.get_num_threads() if is_cpu else 0,
        )
        return found if name else replace(found, name=default_name(found))

    def environment(self) -> dict[str, str]:
        """Yield versions and hardware, as a measurement has them."""
        return describe_environment(self._device)

    def encoder(self, widths: Sequence[int]) -> EncoderFacts:
        """Yield what the models of the recipe have in common.

        Raises:
            InputError: If the model cannot be loaded.
        """
        shape = self._dense_shape(max(widths))
        return EncoderFacts(
            head_size=shape.head_size,
            num_layers=shape.num_layers,
            dense_hidden_size=shape.dense_hidden_size,
            dense_num_heads=shape.dense_num_heads,
            dense_feedforward_size=shape.dense_feedforward_size,
            num_demux_layers=shape.num_demux_layers,
            multiplexer=shape.multiplexer,
            embed_mode=shape.embed_mode,
            demultiplexer=shape.demultiplexer,
        )

    def measure(self, shape: EncoderShape, checkpoint: str) -> Throughput:
        """Time the model of a trial in turn with the dense baseline.

        Args:
            shape: What remains of it. If its directory is not here, an untrained model of this
                shape is timed instead: speed does not depend on the values of weights.
            checkpoint: Its directory.

        Raises:
            InputError: If a model cannot be loaded or the length does not fit it.
        """
        with _errors_as_ours(self._options):
            directory = Path(checkpoint)
            if checkpoint and (directory / CONFIG_FILE).is_file():
                model = load_model(directory).to(self._device)
            else:
                model = untrained_model(self._pruned_shape(shape), self._device)
            return self._measure(model, self._dense_shape(1))

    def measure_directory(self, directory: Path) -> Throughput:
        """Time the model of a directory in turn with an untrained dense one of its kind.

        Raises:
            InputError: If it cannot be loaded or the length does not fit it.
        """
        with _errors_as_ours(self._options):
            model = load_stored(ModelConfig(source=str(directory))).to(self._device)
            return self._measure(model, model.shape.dense(1))

    def time_shapes(
        self,
        shapes: Sequence[EncoderShape],
        limit_s: float,
        between: Callable[[], object] | None = None,
    ) -> tuple[list[ShapeTiming], int]:
        """Time untrained models, the first of which is the dense baseline.

        Each is timed right after the baseline, as the model of a trial is, and so with caches that
        hold nothing of its own. `between` is called before every pass, untimed; what it raises
        ends the timing.

        Returns:
            The timings in order, and the number of rounds that fitted into `limit_s` seconds
            together with making the models.

        Raises:
            InputError: If a model cannot be built, or the time is too short.
        """
        started = time.monotonic()
        baseline, *others = self.passes(shapes)
        left_s = limit_s - (time.monotonic() - started)
        in_turn = [run for other in others for run in (baseline, other)] or [baseline]
        with _errors_as_ours(self._options):
            seconds = time_rounds(in_turn, limit_s=left_s, device=self._device, between=between)
        before, own = seconds[::2], seconds[1::2]
        shares = [1.0, *np.median(own / before[: len(own)], axis=1)]
        quarters = [np.quantile(s, (0.25, 0.5, 0.75)) for s in (before, *own)]
        timings = [
            ShapeTiming(
                shape=shape,
                seconds=float(median),
                seconds_q1=float(low),
                seconds_q3=float(high),
                share=float(share),
            )
            for shape, (low, median, high), share in zip(shapes, quarters, shares, strict=True)
        ]
        return timings, seconds.shape[1]

    def passes(self, shapes: Sequence[EncoderShape]) -> list[Callable[[], object]]:
        """Make untrained models and yield a pass of each over a batch, to be timed.

        Raises:
            InputError: If a model cannot be built.
        """
        made = []
        with _errors_as_ours(self._options):
            self._check_length(self._dense_shape(1))
            for shape in shapes:
                model = untrained_model(self._pruned_shape(shape), self._device)
                examples = random_examples(model.shape.vocab_size, self._length)
                size = (self._config.throughput.batch_size, self._length)
                batch = full_batch(examples, shape.num_instances, *size, self._device)
                made.append(folded_pass(model, batch))
        return made

    @property
    def _length(self) -> int:
        return self._config.throughput.length or self._config.data.max_length

    def _load_shape(self, num_instances: int) -> MuxedBertShape:
        with _errors_as_ours(self._options):
            return load_source(self._config.model, num_instances).shape

    def _pruned_shape(self, shape: EncoderShape) -> MuxedBertShape:
        dense = self._dense_shape(shape.num_instances)
        if len(shape.head_counts) != dense.num_layers:
            raise CheckpointError(
                f"The stored model has {len(shape.head_counts)} layers, but "
                f"`{self._config.model.source}` has {dense.num_layers}."
            )
        return replace(
            dense,
            hidden_size=shape.hidden_size,
            head_counts=shape.head_counts,
            feedforward_sizes=shape.feedforward_sizes,
        )

    def _measure(self, model: MuxedBert, baseline: MuxedBertShape) -> Throughput:
        self._check_length(baseline)
        result = measure_throughput(
            model,
            untrained_model(baseline, self._device),
            random_examples(baseline.vocab_size, self._length),
            self._config.throughput,
            length=self._length,
            device=self._device,
        )
        return Throughput(**asdict(result))

    def _check_length(self, shape: MuxedBertShape) -> None:
        if self._length > shape.max_positions:
            raise ConfigError(
                f"`throughput.length` must be at most {shape.max_positions}, the positions of the "
                f"model, got {self._length}."
            )


def default_name(profile: DeviceProfile) -> str:
    """Yield a name that tells the setting: `cpu-2threads-float32-b64-l32`."""
    words = "-".join(profile.device.lower().split())
    plural = "" if profile.num_threads == 1 else "s"
    threads = f"-{profile.num_threads}thread{plural}" if profile.num_threads else ""
    return f"{words}{threads}-{profile.dtype}-b{profile.batch_size}-l{profile.length}"


@contextmanager
def _errors_as_ours(options: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except TrainerError as error:
        mapped = map_error(error)
        message = str(mapped)
        for key, option in options.items():
            for spelt in (f"`trainer.{key}`", f"`{key}`"):
                message = message.replace(spelt, f"`{option}`")
        raise InputError(message, cause=mapped.cause) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        key = "throughput.batch_size"
        raise InputError(
            f"The device ran out of memory; use a smaller `{options.get(key, f'trainer.{key}')}`.",
            cause="out_of_memory",
        ) from error
