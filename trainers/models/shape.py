"""Shape of a multiplexed encoder: everything needed to build its modules, dense or compacted."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from trainers.config import (
    MAX_WIDTH,
    DemultiplexerName,
    DemuxNorm,
    MaskMode,
    MultiplexerName,
)
from trainers.errors import CheckpointError

MAX_LAYERS, MAX_SIZE = 512, 1 << 17
"""Layers; hidden, head and feed-forward sizes and positions. Beyond every encoder."""
MAX_VOCABULARY, MAX_CLASSES = 1 << 22, 1 << 16
MAX_WEIGHTS = 4_000_000_000
"""The largest encoders of the families that are known have a tenth of it."""


@dataclass(frozen=True, kw_only=True)
class MuxedBertShape:
    """Sizes and modes of one model; stored as `config.json` beside its weights."""

    vocab_size: int
    """V."""
    hidden_size: int
    """D, the hidden dimensions that remain."""
    dense_hidden_size: int
    """Hidden size before compaction; the demultiplexer and the heads keep it."""
    head_size: int
    """Width of one attention head."""
    head_counts: tuple[int, ...]
    """Attention heads per layer; 0 means that the sub-layer is skipped."""
    feedforward_sizes: tuple[int, ...]
    """Feed-forward units per layer; 0 means that the sub-layer is skipped."""
    dense_num_heads: int
    """H before compaction."""
    dense_feedforward_size: int
    """F before compaction."""
    max_positions: int
    num_token_types: int = 2
    num_instances: int = 1
    """N; 1 has neither multiplexer nor demultiplexer."""
    num_classes: int = 2
    """C."""
    labels: tuple[str, ...] = ()
    """Names of the classes in order of their ids; none if the head was never trained."""
    multiplexer: MultiplexerName = "gaussian_hadamard"
    embed_mode: Literal["two_pass", "single_pass"] = "two_pass"
    mask_mode: MaskMode = "union"
    demultiplexer: DemultiplexerName = "rsa"
    demux_norm: DemuxNorm = "all"
    num_demux_layers: int = 2
    key_norm: float = 0.0
    """Length of each multiplexing key; 0 means the square root of the dense hidden size."""
    dropout: float = 0.1
    layer_norm_eps: float = 1e-12

    @property
    def num_layers(self) -> int:
        """L, skipped sub-layers counted."""
        return len(self.head_counts)

    @property
    def num_prefix(self) -> int:
        """P, positions before the text that demultiplex."""
        has_prefix = self.num_instances > 1 and self.demultiplexer == "index_prefix"
        return self.num_instances if has_prefix else 0

    @property
    def num_prunable_parameters(self) -> int:
        """Attention and feed-forward weights of the dense encoder, without biases."""
        attention = 4 * self.dense_hidden_size * self.dense_num_heads * self.head_size
        feedforward = 2 * self.dense_hidden_size * self.dense_feedforward_size
        return self.num_layers * (attention + feedforward)

    @property
    def num_encoder_parameters(self) -> int:
        """Attention and feed-forward weights that remain, without biases."""
        attention = 4 * self.head_size * sum(self.head_counts)
        return self.hidden_size * (attention + 2 * sum(self.feedforward_sizes))

    @property
    def sparsity(self) -> float:
        """Achieved sparsity: 1 - remaining / prunable encoder weights."""
        return 1 - self.num_encoder_parameters / self.num_prunable_parameters

    @property
    def num_least_weights(self) -> int:
        """A lower bound of the weights of the whole model, close to their number."""
        tables = self.vocab_size + self.max_positions + self.num_token_types
        heads = self.dense_hidden_size * (self.hidden_size + self.num_classes)
        layers = self.num_demux_layers if self.num_instances > 1 else 0
        demux = max(0, layers - 2) * self.dense_hidden_size**2
        return self.hidden_size * tables + self.num_encoder_parameters + heads + demux

    def check(self) -> None:
        """Refuse what no encoder is, as a `config.json` may come from a stranger.

        Raises:
            CheckpointError: With the first value that cannot be.
        """
        for name, is_valid, rule in self._rules():
            if not is_valid:
                raise CheckpointError(
                    f"`{name}` in the model's config.json must be {rule}, got "
                    f"{f'{getattr(self, name)!r:.80}'}."
                )
        if self.num_least_weights > MAX_WEIGHTS:
            raise CheckpointError(
                f"The model's config.json describes {self.num_least_weights:,} weights; at most "
                f"{MAX_WEIGHTS:,} can be loaded."
            )

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        for name, most in _LARGEST.items():
            least = 0 if name == "num_token_types" else 1
            value = getattr(self, name)
            is_valid = type(value) is int and least <= value <= most
            yield name, is_valid, f"a whole number in {least} to {most}"
        for name in ("head_counts", "feedforward_sizes"):
            sizes = getattr(self, name)
            is_list = isinstance(sizes, tuple) and len(sizes) <= MAX_LAYERS
            is_valid = is_list and all(type(n) is int and 0 <= n <= MAX_SIZE for n in sizes)
            yield name, is_valid, f"at most {MAX_LAYERS} sizes in 0 to {MAX_SIZE}"
        is_even = len(self.head_counts) == len(self.feedforward_sizes)
        yield "feedforward_sizes", is_even, "as many as `head_counts`"
        is_valid = isinstance(self.labels, tuple) and all(isinstance(n, str) for n in self.labels)
        yield "labels", is_valid, "a list of names"
        for name, words in _WORDS.items():
            yield name, getattr(self, name) in words, "one of " + ", ".join(words)
        for name in ("key_norm", "dropout", "layer_norm_eps"):
            value = getattr(self, name)
            is_number = type(value) in (int, float) and math.isfinite(value)
            is_valid = is_number and 0 <= value <= (1 if name == "dropout" else 1e6)
            yield name, is_valid, "a number that is 0 or more"

    def dense(self, num_instances: int) -> "MuxedBertShape":
        """Yield the uncompacted shape for width `num_instances`."""
        return replace(
            self,
            num_instances=num_instances,
            hidden_size=self.dense_hidden_size,
            head_counts=(self.dense_num_heads,) * self.num_layers,
            feedforward_sizes=(self.dense_feedforward_size,) * self.num_layers,
        )

    def to_dict(self) -> dict[str, Any]:
        """Yield plain values, ready for JSON."""
        return {"model_type": "muxed_bert", **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MuxedBertShape":
        """Build a shape from the values of `to_dict`.

        Raises:
            CheckpointError: If a key is missing or unknown, or a value cannot be.
        """
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        if values.pop("model_type", None) != "muxed_bert":
            raise CheckpointError("This config.json is not of a `muxed_bert` model.")
        try:
            shape = cls(**values)
        except TypeError as error:
            raise CheckpointError(f"The model's config.json does not fit: {error}.") from error
        shape.check()
        return shape


_LARGEST = {
    "vocab_size": MAX_VOCABULARY,
    "hidden_size": MAX_SIZE,
    "dense_hidden_size": MAX_SIZE,
    "head_size": MAX_SIZE,
    "dense_num_heads": MAX_SIZE,
    "dense_feedforward_size": MAX_SIZE,
    "max_positions": MAX_SIZE,
    "num_token_types": MAX_SIZE,
    "num_instances": MAX_WIDTH,
    "num_classes": MAX_CLASSES,
    "num_demux_layers": MAX_LAYERS,
}
_WORDS: dict[str, tuple[str, ...]] = {
    "multiplexer": get_args(MultiplexerName),
    "embed_mode": ("two_pass", "single_pass"),
    "mask_mode": get_args(MaskMode),
    "demultiplexer": get_args(DemultiplexerName),
    "demux_norm": get_args(DemuxNorm),
}


def numbered_labels(num_classes: int) -> tuple[str, ...]:
    """Yield the names that transformers gives to classes without any."""
    return tuple(f"LABEL_{index}" for index in range(num_classes))
