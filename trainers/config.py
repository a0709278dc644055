"""Recipe of one training; plain dataclasses that a study file can spell out. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_type_hints

from trainers.errors import ConfigError
from trainers.phase_config import (
    FinetuneConfig,
    FinetunePrunedConfig,
    NarrowConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
    check_teacher,
)
from trainers.values import ADDED, added, require, require_word

BUILTIN = "builtin"
"""Word for the data and the model that ship with the package."""

MAX_WIDTH, MAX_DEMUX_LAYERS, MAX_EXAMPLES = 1000, 64, 100_000_000
"""Instances in a group, layers, examples. Far beyond what is published and what memory holds; a
study file may come from a stranger."""


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
        require(
            len(self.text_columns) in (1, 2),
            "task.text_columns",
            self.text_columns,
            "one or two names",
        )
        require(len(self.labels) >= 2, "task.labels", self.labels, "at least two labels")
        require(
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
        require(self.max_length >= 8, "data.max_length", self.max_length, "at least 8")
        for name in ("num_train", "num_validation"):
            number = getattr(self, name)
            require(
                0 <= number <= MAX_EXAMPLES,
                f"data.{name}",
                number,
                "0 (all) or more" if number < 0 else f"at most {MAX_EXAMPLES}",
            )
        require(self.num_held_out >= 1, "data.num_held_out", self.num_held_out, "at least 1")


MultiplexerName = Literal["gaussian_hadamard", "learned_hadamard", "contextual"]
"""Words of `model.multiplexer`."""

DemultiplexerName = Literal["rsa", "index_prefix"]
"""Words of `model.demultiplexer`."""
DemuxNorm = Literal["all", "published"]
"""Words of `model.demux_norm`."""
MaskMode = Literal["union", "none", "multiplexer"]
"""Words of `model.mask_mode`."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Where the weights come from and how sequences are multiplexed; see docs/models.md."""

    source: str = BUILTIN
    """`builtin`, a directory, or a Hugging Face id; docs/checkpoints.md lists the families."""
    wide_source: str = added("")
    """Directory or Hugging Face id of multiplexed checkpoints, `{N}` in it standing for the width:
    every wide model starts from its own and skips `prime` and `pretrain`. Empty: from `source`."""
    multiplexer: MultiplexerName = "gaussian_hadamard"
    """`gaussian_hadamard` scales each instance by a fixed random key and averages (DataMUX);
    `learned_hadamard` trains these keys; `contextual` attends within each sequence and across the
    instances first (MUX-PLM), at the cost of two layers over all N sequences."""
    embed_mode: Literal["two_pass", "single_pass"] = "two_pass"
    """`two_pass` applies the embedding block to each sequence and to the mixture (DataMUX);
    `single_pass` mixes token embeddings first, which is cheaper and needs its own pre-training.
    The built-in model is `single_pass` and its checkpoint overrides this, but for the multiplexer
    `contextual`, which is `two_pass` always; the widening `blocks` is `single_pass` always."""
    mask_mode: MaskMode = "union"
    """`union` attends to positions where any instance has a token; `none` attends to all;
    `multiplexer` masks padding inside the multiplexer `contextual` alone, as published."""
    widening: Literal["keys", "blocks"] = "keys"
    """How a wide model starts from a plain one: `keys` draws multiplexer and demultiplexer anew,
    and the phases `prime` and `pretrain` teach the encoder to work on mixtures (as published);
    `blocks` fills it with N copies, side by side, of the fine-tuned plain model cut to an N-th of
    its size (phase `narrow`), which needs far fewer updates. See docs/models.md."""
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
        require_word(self.multiplexer, "model.multiplexer", MultiplexerName)
        require(self.key_norm >= 0, "model.key_norm", self.key_norm, "0 (automatic) or positive")
        require(
            1 <= self.num_demux_layers <= MAX_DEMUX_LAYERS,
            "model.num_demux_layers",
            self.num_demux_layers,
            "at least 1" if self.num_demux_layers < 1 else f"at most {MAX_DEMUX_LAYERS}",
        )
        require_word(self.demultiplexer, "model.demultiplexer", DemultiplexerName)
        require_word(self.demux_norm, "model.demux_norm", DemuxNorm)
        require_word(self.mask_mode, "model.mask_mode", MaskMode)
        if self.mask_mode == "multiplexer" and self.multiplexer != "contextual":
            raise ConfigError(
                "`model.mask_mode` = `multiplexer` masks what the `model.multiplexer` = "
                f"`contextual` attends to, got `{self.multiplexer}`; use `union` or `none`."
            )
        if self.multiplexer == "contextual" and self.embed_mode == "single_pass":
            raise ConfigError(
                "`model.multiplexer` = `contextual` mixes what the embedding block yields, so "
                "`model.embed_mode` must be `two_pass`, got `single_pass`."
            )
        require(
            self.widening in ("keys", "blocks"), "model.widening", self.widening, "keys or blocks"
        )
        if self.widening == "blocks":
            self._check_blocks()
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

    def has_wide_source(self, num_instances: int) -> bool:
        """Tell whether this width starts from a checkpoint of `wide_source`."""
        return num_instances > 1 and self.wide_source != ""

    def source_of(self, num_instances: int) -> str:
        """Yield what this width starts from: `source`, or its own checkpoint of `wide_source`."""
        if self.has_wide_source(num_instances):
            return self.wide_source.replace("{N}", str(num_instances))
        return self.source

    def _check_blocks(self) -> None:
        """Refuse multiplexing that cannot keep blocks apart."""
        if self.multiplexer == "contextual":
            raise ConfigError(
                "`model.widening` = `blocks` keeps instances apart by keys: `model.multiplexer` "
                "must be `gaussian_hadamard` or `learned_hadamard`, got `contextual`."
            )
        needed = {"demultiplexer": "rsa", "demux_norm": "all"}
        for name, word in needed.items():
            if getattr(self, name) != word:
                raise ConfigError(
                    f"`model.widening` = `blocks` needs `model.{name}` = `{word}`, got "
                    f"`{getattr(self, name)}`."
                )


@dataclass(frozen=True, kw_only=True)
class AccuracyConfig:
    """How accuracy is measured."""

    num_compositions: int = 3
    """Random groupings of the validation set to average over (N > 1)."""
    batch_size: int = 64
    """Groups in a batch."""

    def __post_init__(self) -> None:
        require(
            self.num_compositions >= 1,
            "accuracy.num_compositions",
            self.num_compositions,
            "at least 1",
        )
        require(self.batch_size >= 1, "accuracy.batch_size", self.batch_size, "at least 1")


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
            require(
                getattr(self, name) >= 1, f"throughput.{name}", getattr(self, name), "at least 1"
            )
        require(self.length >= 0, "throughput.length", self.length, "0 (automatic) or more")
        require(self.num_warmup >= 0, "throughput.num_warmup", self.num_warmup, "0 or more")


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
    narrow: NarrowConfig = field(default_factory=NarrowConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    finetune_pruned: FinetunePrunedConfig = field(default_factory=FinetunePrunedConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a CUDA device if there is one."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """`bfloat16` trains under autocast, which is faster where the hardware has it: `auto` takes it
    on CPUs with AVX512-BF16 or AMX and on CUDA devices that have it, and `float32` elsewhere."""
    num_parts: int = 1
    """Parts that each training batch goes through the model in, in every process; more need less
    memory. Losses and gradients add up to those of the batch, so that results differ by rounding
    and dropout only; and in pruning each part aligns its layers for itself. A batch that does not
    fit is tried again in twice as many parts, down to single groups."""
    checkpoint_interval_s: float = 20.0
    """Seconds between checkpoints inside a phase: what a crash can cost at most."""

    def __post_init__(self) -> None:
        require(self.device in ("auto", "cpu", "cuda"), "device", self.device, "auto, cpu or cuda")
        require(
            self.precision in ("float32", "bfloat16", "auto"),
            "precision",
            self.precision,
            "float32, bfloat16 or auto",
        )
        require(self.num_parts >= 1, "num_parts", self.num_parts, "at least 1")
        for name in ("prune", "finetune_pruned"):
            check_teacher(getattr(self, name), name)
        require(
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
        ConfigError: If `num_instances` is outside [1, 1000] or `sparsity` outside [0, 1).
    """
    rule = "at least 1" if num_instances < 1 else f"at most {MAX_WIDTH}"
    require(1 <= num_instances <= MAX_WIDTH, "num_instances", num_instances, rule)
    require(0 <= sparsity < 1, "sparsity", sparsity, "in [0, 1)")


def to_dict(config: Any) -> dict[str, Any]:
    """Yield a configuration as nested plain dictionaries, tuples as lists, ready for JSON."""
    if not is_dataclass(config):
        raise ConfigError(f"A configuration dataclass is needed, got {type(config).__name__}.")
    return {item.name: _plain(getattr(config, item.name)) for item in fields(config)}


def decisive(config: Any) -> dict[str, Any]:
    """Yield what decides a phase: `to_dict` of its part without added fields at their defaults."""
    unused = dict(added_defaults(type(config)))
    return {key: value for key, value in to_dict(config).items() if unused.get(key, _NO) != value}


def added_defaults(kind: type = TrainerConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of the added fields of a configuration class, with their defaults."""
    hints = get_type_hints(kind)
    for item in fields(kind):
        if item.metadata.get(ADDED):
            yield prefix + item.name, _plain(item.default)
        elif is_dataclass(hint := hints[item.name]):
            assert isinstance(hint, type)
            yield from added_defaults(hint, f"{prefix}{item.name}.")


_NO = object()
"""No value of a field."""


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value
