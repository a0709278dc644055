"""Shape of a multiplexed encoder: everything needed to build its modules, dense or compacted."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from trainers.config import DemultiplexerName, DemuxNorm, MultiplexerName
from trainers.errors import CheckpointError


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
    """Names of the classes in order of their ids."""
    multiplexer: MultiplexerName = "gaussian_hadamard"
    embed_mode: Literal["two_pass", "single_pass"] = "two_pass"
    mask_mode: Literal["union", "none"] = "union"
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
            CheckpointError: If a key is missing or unknown.
        """
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        if values.pop("model_type", None) != "muxed_bert":
            raise CheckpointError("This config.json is not of a `muxed_bert` model.")
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(f"The model's config.json does not fit: {error}.") from error
