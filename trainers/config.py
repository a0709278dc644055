"""Recipe of one training; plain dataclasses that a study file can spell out. No torch."""

from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from math import isclose
from typing import Any, Literal, get_args

from trainers.errors import ConfigError

BUILTIN = "builtin"
"""Word for the data and the model that ship with the package."""

MAX_DEMUX_LAYERS, MAX_EXAMPLES = 64, 100_000_000
"""Far beyond what is published and what memory holds; a study file may come from a stranger."""

GATE_KINDS = ("heads", "head_layers", "feedforward_layers", "intermediate", "hidden")
"""Words of `prune.gates`: what CoFi can remove."""
LAYER_ALIGNMENTS = ("fixed", "free", "ordered", "random", "windowed")
"""Words of `prune.layer_alignment`."""
SPARSITY_CONVENTIONS = ("weights", "cofi")
"""Words of `prune.sparsity_convention`."""


def _require(is_valid: bool, name: str, value: object, rule: str) -> None:
    if not is_valid:
        raise ConfigError(f"`{name}` must be {rule}, got {value!r}.")


def _require_word(value: object, name: str, words: Any) -> None:
    _require(value in get_args(words), name, value, "one of " + ", ".join(get_args(words)))


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A user's own classification task; the four named tasks are in `trainers.data.tasks`."""

    name: str
    """Word used in the database and in print."""
    text_columns: tuple[str, ...]
    """One or two column names of the data files."""
    label_column: str = "label"
    """Column that holds the label."""
    labels: tuple[str, ...] = ()
    """Labels as they are spelt in the files, in the order of the class ids."""

    def __post_init__(self) -> None:
        _require(
            len(self.text_columns) in (1, 2),
            "task.text_columns",
            self.text_columns,
            "one or two names",
        )
        _require(len(self.labels) >= 2, "task.labels", self.labels, "at least two labels")
        _require(
            len(set(self.labels)) == len(self.labels),
            "task.labels",
            self.labels,
            "free of repeats",
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from and how many are used."""

    source: str = BUILTIN
    """`builtin`, `glue` (the Hub's) or a directory with `train` and `dev` files."""
    max_length: int = 32
    """Tokens in a sequence, specials included; longer ones are cut."""
    num_train: int = 24000
    """Largest number of training examples (built-in data: how many are generated); 0 means all."""
    num_validation: int = 4000
    """Largest number of validation examples; 0 means all. Reported accuracy is on these."""
    num_held_out: int = 1000
    """Examples held out of the training split to choose checkpoints by; never reported."""
    seed: int = 0
    """Seed of the built-in generator and of the choice of the held-out examples."""

    def __post_init__(self) -> None:
        _require(self.max_length >= 8, "data.max_length", self.max_length, "at least 8")
        for name in ("num_train", "num_validation"):
            number = getattr(self, name)
            _require(
                0 <= number <= MAX_EXAMPLES,
                f"data.{name}",
                number,
                "0 (all) or more" if number < 0 else f"at most {MAX_EXAMPLES}",
            )
        _require(self.num_held_out >= 1, "data.num_held_out", self.num_held_out, "at least 1")


MultiplexerName = Literal["gaussian_hadamard", "learned_hadamard", "contextual"]
"""Words of `model.multiplexer`."""

DemultiplexerName = Literal["rsa", "index_prefix"]
"""Words of `model.demultiplexer`."""
DemuxNorm = Literal["all", "published"]
"""Words of `model.demux_norm`."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Where the weights come from and how sequences are multiplexed; see docs/models.md."""

    source: str = BUILTIN
    """`builtin`, a directory, or a Hugging Face id; docs/checkpoints.md lists the families."""
    multiplexer: MultiplexerName = "gaussian_hadamard"
    """`gaussian_hadamard` scales each instance by a fixed random key and averages (DataMUX);
    `learned_hadamard` trains these keys; `contextual` attends within each sequence and across the
    instances first (MUX-PLM), at the cost of two layers over all N sequences."""
    embed_mode: Literal["two_pass", "single_pass"] = "two_pass"
    """`two_pass` applies the embedding block to each sequence and to the mixture (DataMUX);
    `single_pass` mixes token embeddings first, which is cheaper and needs its own pre-training.
    The built-in model is `single_pass` and its checkpoint overrides this, but for the multiplexer
    `contextual`, which is `two_pass` always."""
    mask_mode: Literal["union", "none"] = "union"
    """`union` attends to positions where any instance has a token; `none` attends to all."""
    key_norm: float = 0.0
    """Length of each new multiplexing key; 0 means the square root of the hidden size."""
    num_demux_layers: int = 2
    """Shared layers of the demultiplexer; more cost throughput at high N."""
    demultiplexer: DemultiplexerName = "rsa"
    """`rsa` learns a key per instance (MUX-PLM); `index_prefix` takes the state of a position per
    instance that stands before the text (DataMUX), which lengthens every sequence by N."""
    demux_norm: DemuxNorm = "all"
    """`all` normalises after every layer of the demultiplexer, for tokens and sequences alike;
    `published` places layer norms as the published MUX-PLM checkpoints do, and needs two layers
    or more."""

    def __post_init__(self) -> None:
        _require_word(self.multiplexer, "model.multiplexer", MultiplexerName)
        _require(self.key_norm >= 0, "model.key_norm", self.key_norm, "0 (automatic) or positive")
        _require(
            1 <= self.num_demux_layers <= MAX_DEMUX_LAYERS,
            "model.num_demux_layers",
            self.num_demux_layers,
            "at least 1" if self.num_demux_layers < 1 else f"at most {MAX_DEMUX_LAYERS}",
        )
        _require_word(self.demultiplexer, "model.demultiplexer", DemultiplexerName)
        _require_word(self.demux_norm, "model.demux_norm", DemuxNorm)
        if self.multiplexer == "contextual" and self.embed_mode == "single_pass":
            raise ConfigError(
                "`model.multiplexer` = `contextual` mixes what the embedding block yields, so "
                "`model.embed_mode` must be `two_pass`, got `single_pass`."
            )
        if self.demux_norm == "published" and self.demultiplexer != "rsa":
            raise ConfigError(
                "`model.demux_norm` = `published` is a variant of `model.demultiplexer` = `rsa`, "
                f"got `{self.demultiplexer}`; use `all`."
            )
        if self.demux_norm == "published" and self.num_demux_layers == 1:
            raise ConfigError(
                "`model.demux_norm` = `published` needs `model.num_demux_layers` of at least 2, "
                "got 1."
            )


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """What every phase has; schedules count optimiser updates."""

    num_updates: int
    """Optimiser updates; 0 skips the phase."""
    batch_size: int = 64
    """Groups in a batch, so N times as many sequences."""
    max_sequences: int = 320
    """Largest number of sequences in a batch; wide groups get fewer groups."""
    learning_rate: float = 3e-4
    """Peak learning rate, linear decay to zero."""
    warmup: float = 0.1
    """Share of the updates with rising learning rate, in [0, 1)."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    bucket_by_length: bool = True
    """True gives a batch groups of similar length, so that little of it is padding."""

    def __post_init__(self) -> None:
        name = type(self).__name__.removesuffix("Config").lower()
        _require(self.num_updates >= 0, f"{name}.num_updates", self.num_updates, "0 or more")
        _require(self.batch_size >= 1, f"{name}.batch_size", self.batch_size, "at least 1")
        _require(
            self.max_sequences >= 1, f"{name}.max_sequences", self.max_sequences, "at least 1"
        )
        _require(self.learning_rate > 0, f"{name}.learning_rate", self.learning_rate, "positive")
        _require(0 <= self.warmup < 1, f"{name}.warmup", self.warmup, "in [0, 1)")
        _require(self.weight_decay >= 0, f"{name}.weight_decay", self.weight_decay, "0 or more")

    def num_groups(self, num_instances: int) -> int:
        """Yield the groups per batch for width `num_instances`, at least one."""
        return max(1, min(self.batch_size, self.max_sequences // num_instances))


@dataclass(frozen=True, kw_only=True)
class PrimeConfig(PhaseConfig):
    """Token-retrieval warm-up (PruMUX phase 1); skipped for N = 1."""

    num_updates: int = 600
    slots_per_token: int = 1
    """Instances whose token is asked for at each position: 1 as published; 0 for all of them,
    which needs several times fewer updates and, with a large vocabulary, more time for each."""
    bag_weight: float = 0.0
    """Weight of naming all tokens of a sequence from its `[CLS]` state; 0 for none."""
    num_evaluations: int = 4
    """Times the retrieval of held-out texts is scored; the best weights are kept."""
    stop_accuracy: float = 1.0
    """Share of held-out tokens retrieved rightly, in (0, 1], at which priming ends early."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            self.num_evaluations >= 1, "prime.num_evaluations", self.num_evaluations, "at least 1"
        )
        _require(
            0 < self.stop_accuracy <= 1, "prime.stop_accuracy", self.stop_accuracy, "in (0, 1]"
        )
        _require(self.bag_weight >= 0, "prime.bag_weight", self.bag_weight, "0 or more")
        _require(
            self.slots_per_token >= 0, "prime.slots_per_token", self.slots_per_token, "0 or more"
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(PhaseConfig):
    """Masked-language modelling on multiplexed input (PruMUX phase 2)."""

    num_updates: int = 0
    mask_probability: float = 0.15
    """Share of tokens to predict."""
    detect_weight: float = 0.0
    """Weight of detecting replaced words in second segments (ELECTRA); 0 for none."""
    distill_weight: float = 1.0
    """Weight of matching the N = 1 model's last hidden states for each instance; 0 for none."""
    bag_weight: float = 0.0
    """See `PrimeConfig.bag_weight`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            0 < self.mask_probability < 1,
            "pretrain.mask_probability",
            self.mask_probability,
            "in (0, 1)",
        )
        for name in ("detect_weight", "distill_weight", "bag_weight"):
            _require(
                getattr(self, name) >= 0, f"pretrain.{name}", getattr(self, name), "0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(PhaseConfig):
    """Task training (PruMUX phase 3, before pruning)."""

    num_updates: int = 400
    num_evaluations: int = 4
    """Times the held-out examples are scored; the best checkpoint is kept."""
    distill_weight: float = 0.0
    """Share of the loss, in [0, 1], that matches the logits of the teacher: the fine-tuned N = 1
    model before pruning (only for N > 1), the unpruned model of the same N after it."""
    state_distill_weight: float = 0.0
    """Weight of matching an N = 1 teacher's last hidden states, instance by instance (N > 1)."""
    freeze_embeddings: bool = False
    """True keeps the token table fixed: less memory and time, for large vocabularies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            self.num_evaluations >= 1,
            "finetune.num_evaluations",
            self.num_evaluations,
            "at least 1",
        )
        _require(
            self.state_distill_weight >= 0,
            "finetune.state_distill_weight",
            self.state_distill_weight,
            "0 or more",
        )
        _require(
            0 <= self.distill_weight <= 1,
            "finetune.distill_weight",
            self.distill_weight,
            "in [0, 1]",
        )


@dataclass(frozen=True, kw_only=True)
class PruneConfig(PhaseConfig):
    """CoFi pruning to the target sparsity, taught by the fine-tuned model of the same N."""

    num_updates: int = 400
    gates: tuple[str, ...] = GATE_KINDS
    """What can be removed: attention `heads`, whole attention layers (`head_layers`), whole
    feed-forward layers (`feedforward_layers`), feed-forward units (`intermediate`) and `hidden`
    dimensions. Fewer kinds reach fewer sparsities."""
    sparsity_convention: Literal["weights", "cofi"] = "weights"
    """What the target counts: the `weights` of the encoder, or those and the biases of the
    published formula (`cofi`)."""
    gate_learning_rate: float = 0.1
    """Learning rate of the gates; short runs need a high one."""
    multiplier_learning_rate: float = 1.0
    """Learning rate of the Lagrangian's multipliers: a larger one reaches the target sooner."""
    sparsity_warmup: float = 0.5
    """Share of the updates over which the target rises to the requested sparsity, in (0, 1]."""
    layer_distill_weight: float = 0.5
    """Weight of the hidden-state distillation."""
    layer_alignment: Literal["fixed", "free", "ordered", "random", "windowed"] = "ordered"
    """Which student layer learns from which teacher layer: the same one for all of them (`fixed`);
    for four evenly spaced teachers the closest (`free`), or the closest that keeps their order
    (`ordered`); the latter for four other teachers at every update, drawn from all layers
    (`random`) or one from each quarter (`windowed`)."""
    logit_distill_weight: float = 0.5
    """Weight of the prediction distillation."""
    label_weight: float = 0.0
    """Weight of the gold-label cross-entropy; 0 as published."""
    temperature: float = 2.0
    """Softmax temperature of the prediction distillation."""
    tolerance: float = 0.05
    """Largest shortfall of the expected sparsity at the end before pruning counts as failed. The
    final structure has the requested sparsity in any case; gates that expect far less have not
    decided which units to give up."""
    freeze_embeddings: bool = False
    """See `FinetuneConfig.freeze_embeddings`."""
    ladder: tuple[float, ...] = ()
    """Rising sparsities that one pruning climbs, each from the weights and gates of the one below;
    all candidates of a width share it. Empty: a run of its own for every sparsity."""
    rung_updates: int = 100
    """Optimiser updates of every rung above the first, which has `num_updates`; more let the
    weights follow the gates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gate_learning_rate", "multiplier_learning_rate"):
            _require(getattr(self, name) > 0, f"prune.{name}", getattr(self, name), "positive")
        _require(
            len(self.gates) > 0 and set(self.gates) <= set(GATE_KINDS),
            "prune.gates",
            self.gates,
            "one or more of " + ", ".join(GATE_KINDS),
        )
        for name, words in (
            ("sparsity_convention", SPARSITY_CONVENTIONS),
            ("layer_alignment", LAYER_ALIGNMENTS),
        ):
            value = getattr(self, name)
            _require(value in words, f"prune.{name}", value, "one of " + ", ".join(words))
        _require(
            0 < self.sparsity_warmup <= 1,
            "prune.sparsity_warmup",
            self.sparsity_warmup,
            "in (0, 1]",
        )
        for name in ("layer_distill_weight", "logit_distill_weight", "label_weight"):
            _require(getattr(self, name) >= 0, f"prune.{name}", getattr(self, name), "0 or more")
        _require(self.temperature > 0, "prune.temperature", self.temperature, "positive")
        _require(0 < self.tolerance < 1, "prune.tolerance", self.tolerance, "in (0, 1)")
        limits = (0.0, *self.ladder, 1.0)
        _require(
            all(low < high for low, high in pairwise(limits)),
            "prune.ladder",
            self.ladder,
            "rising sparsities in (0, 1)",
        )
        _require(self.rung_updates >= 1, "prune.rung_updates", self.rung_updates, "at least 1")

    def rungs(self, sparsity: float) -> tuple[float, ...]:
        """Yield the sparsities that pruning to `sparsity` passes, itself last."""
        reached = next((r for r in self.ladder if isclose(r, sparsity)), sparsity)
        return (*(rung for rung in self.ladder if rung < reached), reached)


@dataclass(frozen=True, kw_only=True)
class FinetunePrunedConfig(FinetuneConfig):
    """Training of the compacted model with the distillation of the pruning phase."""

    num_updates: int = 200
    num_evaluations: int = 4
    distill_weight: float = 0.5


@dataclass(frozen=True, kw_only=True)
class AccuracyConfig:
    """How accuracy is measured."""

    num_compositions: int = 3
    """Random groupings of the validation set to average over (N > 1)."""
    batch_size: int = 64
    """Groups in a batch."""

    def __post_init__(self) -> None:
        _require(
            self.num_compositions >= 1,
            "accuracy.num_compositions",
            self.num_compositions,
            "at least 1",
        )
        _require(self.batch_size >= 1, "accuracy.batch_size", self.batch_size, "at least 1")


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    """How throughput is measured; the protocol is in docs/measuring.md."""

    batch_size: int = 64
    """Groups in a batch, for the model and for the dense baseline."""
    length: int = 0
    """Tokens in a sequence; 0 means `data.max_length`."""
    num_warmup: int = 3
    """Untimed repeats of each model first."""
    num_repeats: int = 20
    """Timed repeats of each model, interleaved."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_repeats"):
            _require(
                getattr(self, name) >= 1, f"throughput.{name}", getattr(self, name), "at least 1"
            )
        _require(self.length >= 0, "throughput.length", self.length, "0 (automatic) or more")
        _require(self.num_warmup >= 0, "throughput.num_warmup", self.num_warmup, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Everything that decides how a candidate is trained and measured, but N, s and the seed."""

    task: str | TaskConfig = "qnli"
    """`mnli`, `qnli`, `qqp`, `sst2`, or a task of one's own."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prime: PrimeConfig = field(default_factory=PrimeConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    finetune_pruned: FinetunePrunedConfig = field(default_factory=FinetunePrunedConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a CUDA device if there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` trains under autocast; faster where the processor has it."""
    num_parts: int = 1
    """Parts that each training batch goes through the model in, in every process; more need less
    memory. Losses and gradients add up to those of the batch, so that results differ by rounding
    and dropout only; and in pruning each part aligns its layers for itself. A batch that does not
    fit is tried again in twice as many parts, down to single groups."""
    checkpoint_interval_s: float = 20.0
    """Seconds between checkpoints inside a phase: what a crash can cost at most."""

    def __post_init__(self) -> None:
        _require(
            self.device in ("auto", "cpu", "cuda"), "device", self.device, "auto, cpu or cuda"
        )
        _require(
            self.precision in ("float32", "bfloat16"),
            "precision",
            self.precision,
            "float32 or bfloat16",
        )
        _require(self.num_parts >= 1, "num_parts", self.num_parts, "at least 1")
        _require(
            self.checkpoint_interval_s > 0,
            "checkpoint_interval_s",
            self.checkpoint_interval_s,
            "positive",
        )

    @property
    def task_name(self) -> str:
        """Name of the task, whether named or a user's own."""
        return self.task if isinstance(self.task, str) else self.task.name


def check_candidate(num_instances: int, sparsity: float) -> None:
    """Refuse a width or a sparsity that cannot be trained.

    Raises:
        ConfigError: If `num_instances` is below 1 or `sparsity` is outside [0, 1).
    """
    _require(num_instances >= 1, "num_instances", num_instances, "at least 1")
    _require(0 <= sparsity < 1, "sparsity", sparsity, "in [0, 1)")


def to_dict(config: Any) -> dict[str, Any]:
    """Yield a configuration as nested plain dictionaries, tuples as lists, ready for JSON."""
    if not is_dataclass(config):
        raise ConfigError(f"A configuration dataclass is needed, got {type(config).__name__}.")
    return {item.name: _plain(getattr(config, item.name)) for item in fields(config)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value
