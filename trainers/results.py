"""What trainings and models yield: plain frozen records, no torch."""

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """One value that a phase reported."""

    name: str
    """What was measured, for example `loss` or `held_out_accuracy`."""
    value: float
    """Its value; accuracies are fractions."""
    step: int
    """Number of optimiser updates done when it was measured."""


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """What one phase did."""

    name: str
    """`prime`, `pretrain`, `narrow`, `finetune`, `prune` or `finetune_pruned`."""
    num_updates: int
    """Optimiser updates of the whole phase, those of earlier processes included."""
    duration_s: float
    """Seconds spent training, those of earlier processes included."""
    memory_mib: float
    """Peak resident memory of the process (CPU) or of the device (CUDA), MiB."""
    is_cached: bool
    """True if the phase was taken from the checkpoint cache and cost this trial nothing."""
    history: tuple[HistoryPoint, ...] = ()
    """Reported values in order of `step`."""


@dataclass(frozen=True, kw_only=True)
class AccuracyResult:
    """Accuracy on the whole validation set."""

    accuracy: float
    """Mean over compositions, fraction in [0, 1]."""
    accuracy_std: float
    """Standard deviation over compositions of the groups; 0 for N = 1."""
    num_examples: int
    """Size of the validation set; padding is not counted."""
    num_compositions: int
    """Number of seeded random orders in which the examples were grouped; 1 for N = 1."""
    correctness: bytes
    """Packed bits of the flat `(num_compositions, num_examples)` booleans, in dataset order."""


@dataclass(frozen=True, kw_only=True)
class ThroughputResult:
    """Throughput of the compacted model, interleaved with the dense baseline."""

    throughput: float
    """Median sequences per second; padding sequences count 0."""
    throughput_q1: float
    """Lower quartile, sequences per second."""
    throughput_q3: float
    """Upper quartile, sequences per second."""
    baseline_throughput: float
    """Median sequences per second of the dense baseline in the same run."""
    speedup: float
    """Median over pairs of interleaved repeats of model / baseline throughput."""
    speedup_q1: float
    """Lower quartile of the pairwise ratio."""
    speedup_q3: float
    """Upper quartile of the pairwise ratio."""
    num_repeats: int
    """Timed repeats of each model."""
    batch_size: int
    """Groups in a batch, for both models."""
    length: int
    """Tokens in a sequence, padding included."""
    dtype: str
    """For example `float32`."""
    device: str
    """`cpu` or the CUDA device's name."""
    num_threads: int
    """CPU threads used by torch; 0 on CUDA."""
    baseline_spread: float
    """Interquartile range of the baseline's seconds over their median: how busy it was."""
    is_clean: bool
    """False if other work disturbed the measurement, however often it was repeated."""


@dataclass(frozen=True, kw_only=True)
class StructureResult:
    """Shape of the compacted encoder."""

    hidden_size: int
    """Hidden dimensions that remain."""
    head_counts: tuple[int, ...]
    """Attention heads per layer; 0 means that the sub-layer is gone."""
    feedforward_sizes: tuple[int, ...]
    """Feed-forward units per layer; 0 means that the sub-layer is gone."""
    num_encoder_parameters: int
    """Remaining prunable encoder weights (attention and feed-forward matrices)."""
    num_parameters: int
    """All parameters used at inference, embeddings and demultiplexer included."""


@dataclass(frozen=True, kw_only=True)
class TrainerResult:
    """One trained and measured configuration."""

    accuracy: AccuracyResult
    throughput: ThroughputResult
    sparsity: float
    """Achieved sparsity: 1 - remaining / dense prunable encoder weights."""
    structure: StructureResult
    phases: tuple[PhaseResult, ...]
    """In the order they ran."""
    checkpoint: str
    """Directory of the compacted model (safetensors, JSON config, tokenizer)."""
    environment: dict[str, str] = field(default_factory=dict)
    """Versions, processor, threads; see `trainers.measure.environment`."""


@dataclass(frozen=True, kw_only=True)
class OnnxResult:
    """An ONNX graph compared with the model in torch, on the CPU of the export."""

    opset: int
    """Version of ONNX's operators that the graph is written in."""
    largest_difference: float
    """Largest distance between a logit of onnxruntime and that of torch."""
    torch_throughput: float
    """Median sequences per second of torch."""
    throughput: float
    """Median sequences per second of onnxruntime, timed in turn with torch."""
    ratio: float
    """Median over the repeats of onnxruntime's throughput over torch's."""
    ratio_q1: float
    """First quartile of that ratio."""
    ratio_q3: float
    """Third quartile of that ratio."""
    num_repeats: int
    """Timed repeats of each."""
    batch_size: int
    """Groups in a batch."""
    length: int
    """Tokens in a sequence."""
    num_threads: int
    """CPU threads of either."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was exported, and what was checked of it."""

    labels: tuple[str, ...]
    """Names of the classes in order of their ids."""
    text_columns: tuple[str, ...]
    """Columns that hold the texts."""
    num_sequences: int
    """Sequences whose logits were compared with those of the checkpoint."""
    is_validation: bool
    """True if they are of the validation set, False if they are made-up texts."""
    why_made_up: str
    """Why the validation set is not at hand; empty if it is."""
    environment: dict[str, str]
    """Versions, processor, threads; see `trainers.measure.environment`."""
    onnx: OnnxResult | None = None
    """Of the ONNX graph, if one was asked for."""


class Prediction(NamedTuple):
    """What a model says about one row; without a label, why there is none."""

    row: int
    """Number of the row, counted from 1."""
    line: int
    """Line of the file at which it starts; the same as `row` if it comes from no file."""
    label: str | None
    """Name of the likeliest class."""
    probability: float | None
    """Of that class."""
    probabilities: tuple[float, ...]
    """Of every class in the order of their ids; empty without a label."""
    error: str | None = None
    """Why the row has no label, in a few words."""
    is_empty: bool = False
    """The row is labelled, but one of its texts has no character other than spaces."""
    is_cut: bool = False
    """The row is labelled, but has more tokens than the model was given."""
