"""Schedules and weights of the five phases; see `trainers.config` for the whole recipe."""

from dataclasses import dataclass, fields
from itertools import pairwise
from math import isclose
from typing import ClassVar, Literal

from trainers.values import added, require, require_word

GATE_KINDS = ("heads", "head_layers", "feedforward_layers", "intermediate", "hidden")
"""Words of `prune.gates`: what CoFi can remove."""
LayerAlignment = Literal["fixed", "free", "ordered", "random", "windowed"]
"""Words of `layer_alignment`."""
Teacher = Literal["same_width", "plain", "both"]
"""Words of `prune.teacher` and `finetune_pruned.teacher`."""
SparsityConvention = Literal["weights", "cofi"]
"""Words of `prune.sparsity_convention`."""


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """What every phase has; schedules count optimiser updates."""

    section: ClassVar[str] = "phase"
    """Name of its table in a study file."""
    num_updates: int
    """Optimiser updates; 0 skips the phase."""
    batch_size: int = 64
    """Groups in a batch, so N times as many sequences."""
    max_sequences: int = 320
    """Largest number of sequences in a batch; wide groups get fewer groups."""
    learning_rate: float = 3e-4
    """Peak learning rate."""
    decay: Literal["linear", "none"] = added("linear")
    """How the learning rate goes on from its peak: it falls to zero (`linear`) or stays."""
    warmup: float = 0.1
    """Share of the updates with rising learning rate, in [0, 1); at least one update unless 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    bucket_by_length: bool = True
    """True gives a batch groups of similar length, so that little of it is padding."""

    def __post_init__(self) -> None:
        name = self.section
        require(self.num_updates >= 0, f"{name}.num_updates", self.num_updates, "0 or more")
        require(self.batch_size >= 1, f"{name}.batch_size", self.batch_size, "at least 1")
        require(self.max_sequences >= 1, f"{name}.max_sequences", self.max_sequences, "at least 1")
        require(self.learning_rate > 0, f"{name}.learning_rate", self.learning_rate, "positive")
        require_word(self.decay, f"{name}.decay", Literal["linear", "none"])
        require(0 <= self.warmup < 1, f"{name}.warmup", self.warmup, "in [0, 1)")
        require(self.weight_decay >= 0, f"{name}.weight_decay", self.weight_decay, "0 or more")

    def num_groups(self, num_instances: int) -> int:
        """Yield the groups per batch for width `num_instances`, at least one."""
        return max(1, min(self.batch_size, self.max_sequences // num_instances))


@dataclass(frozen=True, kw_only=True)
class PrimeConfig(PhaseConfig):
    """Token-retrieval warm-up (PruMUX phase 1); skipped for N = 1."""

    section = "prime"
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
    patience: int = added(0)
    """Evaluations without a gain of 0.1 points after which priming has converged and ends early;
    they count once half of the held-out tokens are retrieved. 0 for never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_evaluations >= 1, "prime.num_evaluations", self.num_evaluations, "at least 1"
        )
        require(
            0 < self.stop_accuracy <= 1, "prime.stop_accuracy", self.stop_accuracy, "in (0, 1]"
        )
        require(self.patience >= 0, "prime.patience", self.patience, "0 or more")
        require(self.bag_weight >= 0, "prime.bag_weight", self.bag_weight, "0 or more")
        require(
            self.slots_per_token >= 0, "prime.slots_per_token", self.slots_per_token, "0 or more"
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(PhaseConfig):
    """Masked-language modelling on multiplexed input (PruMUX phase 2)."""

    section = "pretrain"
    num_updates: int = 0
    mask_probability: float = 0.15
    """Share of tokens to predict."""
    detect_weight: float = 0.0
    """Weight of detecting replaced words in second segments (ELECTRA); 0 for none."""
    mlm_weight: float = added(1.0)
    """Weight of predicting hidden tokens; 0 hides none, so that the other losses are all there is:
    the states of the N = 1 model are then those of the texts as they are."""
    distill_weight: float = 1.0
    """Weight of matching an N = 1 model's last hidden states for each instance; 0 for none."""
    teacher: Literal["source", "finetuned"] = added("source")
    """Whose states are matched: the N = 1 model of the `source`, or that fine-tuned on the task
    (`finetuned`), which is trained first."""
    bag_weight: float = 0.0
    """See `PrimeConfig.bag_weight`."""
    retrieval_weight: float = added(0.0)
    """Weight of going on with retrieval, one instance at each position (N > 1); 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.mask_probability < 1,
            "pretrain.mask_probability",
            self.mask_probability,
            "in (0, 1)",
        )
        require_word(self.teacher, "pretrain.teacher", Literal["source", "finetuned"])
        weights = ("detect", "distill", "bag", "retrieval", "mlm")
        for name in (f"{word}_weight" for word in weights):
            require(getattr(self, name) >= 0, f"pretrain.{name}", getattr(self, name), "0 or more")
        require(
            any(getattr(self, f"{word}_weight") > 0 for word in weights),
            "pretrain.mlm_weight",
            self.mlm_weight,
            "positive if no other loss of the phase has a weight",
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(PhaseConfig):
    """Task training (PruMUX phase 3, before pruning)."""

    section = "finetune"
    num_updates: int = 400
    num_evaluations: int = 4
    """Times the held-out examples are scored; the best checkpoint is kept."""
    distill_weight: float = 0.0
    """Share of the loss, in [0, 1], that matches the logits of the teacher: the fine-tuned N = 1
    model before pruning (only for N > 1), the unpruned model of the same N after it."""
    state_distill_weight: float = 0.0
    """Weight of matching an N = 1 teacher's last hidden states, instance by instance (N > 1)."""
    temperature: float = added(2.0)
    """Softmax temperature of matching logits."""
    retrieval_weight: float = added(0.0)
    """Weight of retrieval beside the task, one instance at each position (N > 1); 0 for none, as
    published for MUX-PLM. T-MUX has 0.1 beside 0.9 of the task, so 0.11."""
    freeze_embeddings: bool = False
    """True keeps the token table fixed: less memory and time, for large vocabularies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_evaluations >= 1,
            f"{self.section}.num_evaluations",
            self.num_evaluations,
            "at least 1",
        )
        require(
            self.state_distill_weight >= 0,
            f"{self.section}.state_distill_weight",
            self.state_distill_weight,
            "0 or more",
        )
        require(self.temperature > 0, f"{self.section}.temperature", self.temperature, "positive")
        require(
            self.retrieval_weight >= 0,
            f"{self.section}.retrieval_weight",
            self.retrieval_weight,
            "0 or more",
        )
        require(
            0 <= self.distill_weight <= 1,
            f"{self.section}.distill_weight",
            self.distill_weight,
            "in [0, 1]",
        )


@dataclass(frozen=True, kw_only=True)
class LayerTaughtConfig(FinetuneConfig):
    """Training that may match the layers of a larger model that reads the same groups."""

    layer_distill_weight: float = added(0.0)
    """Share of the loss, in [0, 1), that matches the layers of a larger model: the unpruned one of
    the same N in `finetune_pruned`, the plain one that it was cut from in `narrow`.
    `distill_weight` divides the rest among logits and labels. 0.9 with a `distill_weight` of 1,
    which leaves labels out, is one of the settings published for `finetune_pruned`."""
    layer_alignment: LayerAlignment = added("ordered")
    """See `PruneConfig.layer_alignment`."""
    alignment_tokens: int = added(0)
    """See `PruneConfig.alignment_tokens`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, weight = self.section, self.layer_distill_weight
        require(0 <= weight < 1, f"{name}.layer_distill_weight", weight, "in [0, 1)")
        require_word(self.layer_alignment, f"{name}.layer_alignment", LayerAlignment)
        count = self.alignment_tokens
        require(count >= 0, f"{name}.alignment_tokens", count, "0 or more")


@dataclass(frozen=True, kw_only=True)
class NarrowConfig(LayerTaughtConfig):
    """Training of the narrow plain model that `model.widening` = `blocks` makes a wide one of.

    It is cut out of the fine-tuned plain model and taught by it.
    """

    section = "narrow"
    num_updates: int = 1600
    distill_weight: float = 0.5
    layer_alignment: LayerAlignment = added("fixed")
    """See `PruneConfig.layer_alignment`; a narrow model has all layers of its teacher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_updates >= 1, "narrow.num_updates", self.num_updates, "at least 1")
        require(
            self.state_distill_weight == 0,
            "narrow.state_distill_weight",
            self.state_distill_weight,
            "0, for a narrow model has states of another size than its teacher's",
        )
        require(
            self.retrieval_weight == 0,
            "narrow.retrieval_weight",
            self.retrieval_weight,
            "0, for a narrow model reads one text at a time",
        )


@dataclass(frozen=True, kw_only=True)
class PruneConfig(PhaseConfig):
    """CoFi pruning to the target sparsity, taught by fine-tuned models."""

    section = "prune"
    num_updates: int = 400
    teacher: Teacher = added("same_width")
    """Who teaches N > 1: the unpruned model of the same N (`same_width`), the N = 1 model, whose
    logits are matched instance by instance (`plain`, without layers to match), or `both`: logits
    of the N = 1 model, layers of the other one. N = 1 has the unpruned model in any case."""
    gates: tuple[str, ...] = GATE_KINDS
    """What can be removed: attention `heads`, whole attention layers (`head_layers`), whole
    feed-forward layers (`feedforward_layers`), feed-forward units (`intermediate`) and `hidden`
    dimensions. Fewer kinds reach fewer sparsities."""
    sparsity_convention: SparsityConvention = "weights"
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
    layer_alignment: LayerAlignment = "ordered"
    """Which student layer learns from which teacher layer: the same one for all of them (`fixed`);
    for four evenly spaced teachers the closest (`free`), or the closest that keeps their order
    (`ordered`); the latter for four other teachers at every update, drawn from all layers
    (`random`) or one from each quarter (`windowed`)."""
    alignment_tokens: int = added(0)
    """Tokens of a batch, drawn at every update, that tell which layers are the closest: fewer are
    quicker; 0 for all."""
    state_distill_weight: float = added(0.0)
    """Weight of matching the N = 1 model's last hidden states with the demultiplexed ones (N > 1);
    needs `teacher` = `plain` or `both`."""
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
    allows_slow_gates: bool = added(False)
    """True prunes even if `num_updates`, `sparsity_warmup` and `gate_learning_rate` are too small
    for a gate to close while the target rises; docs/pruning.md."""
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
            require(getattr(self, name) > 0, f"prune.{name}", getattr(self, name), "positive")
        require(
            len(self.gates) > 0 and set(self.gates) <= set(GATE_KINDS),
            "prune.gates",
            self.gates,
            "one or more of " + ", ".join(GATE_KINDS),
        )
        require_word(self.sparsity_convention, "prune.sparsity_convention", SparsityConvention)
        require_word(self.layer_alignment, "prune.layer_alignment", LayerAlignment)
        require_word(self.teacher, "prune.teacher", Teacher)
        require(
            0 < self.sparsity_warmup <= 1,
            "prune.sparsity_warmup",
            self.sparsity_warmup,
            "in (0, 1]",
        )
        for name in (
            "layer_distill_weight",
            "alignment_tokens",
            "state_distill_weight",
            "logit_distill_weight",
            "label_weight",
        ):
            require(getattr(self, name) >= 0, f"prune.{name}", getattr(self, name), "0 or more")
        require(self.temperature > 0, "prune.temperature", self.temperature, "positive")
        require(0 < self.tolerance < 1, "prune.tolerance", self.tolerance, "in (0, 1)")
        limits = (0.0, *self.ladder, 1.0)
        require(
            all(low < high for low, high in pairwise(limits)),
            "prune.ladder",
            self.ladder,
            "rising sparsities in (0, 1)",
        )
        require(self.rung_updates >= 1, "prune.rung_updates", self.rung_updates, "at least 1")

    def rungs(self, sparsity: float) -> tuple[float, ...]:
        """Yield the sparsities that pruning to `sparsity` passes, itself last."""
        reached = next((r for r in self.ladder if isclose(r, sparsity)), sparsity)
        return (*(rung for rung in self.ladder if rung < reached), reached)


@dataclass(frozen=True, kw_only=True)
class TaughtConfig(LayerTaughtConfig):
    """Training of a compacted model, taught by unpruned ones."""

    section = "finetune_pruned"
    teacher: Teacher = added("same_width")
    """See `PruneConfig.teacher`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.retrieval_weight == 0,
            "finetune_pruned.retrieval_weight",
            self.retrieval_weight,
            "0, for the token table of a pruned model no longer fits the head that names tokens",
        )
        require_word(self.teacher, "finetune_pruned.teacher", Teacher)


@dataclass(frozen=True, kw_only=True)
class FinetunePrunedConfig(TaughtConfig):
    """Training of the compacted model, with the labels and the teachers of pruning."""

    num_updates: int = 200
    num_evaluations: int = 4
    distill_weight: float = 0.5
    stretch: float = 0.0
    """More updates for sparser models, whose updates are cheaper: `num_updates / (1 - s)^stretch`.
    0 gives all the same number; with 1 all train about as long as one that lost no weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.stretch <= 1, "finetune_pruned.stretch", self.stretch, "in [0, 1]")

    def at(self, sparsity: float) -> TaughtConfig:
        """Yield the training of a model pruned to `sparsity` in (0, 1)."""
        shared = {f.name: getattr(self, f.name) for f in fields(TaughtConfig)}
        num_updates = round(self.num_updates / (1.0 - sparsity) ** self.stretch)
        return TaughtConfig(**{**shared, "num_updates": num_updates})


def check_teacher(config: PruneConfig | TaughtConfig, name: str) -> None:
    """Refuse to match the states of an N = 1 model that is no teacher.

    Args:
        config: The phase.
        name: What a study file calls it.

    Raises:
        ConfigError: If so.
    """
    weight = config.state_distill_weight
    require(
        config.teacher != "same_width" or weight == 0,
        f"{name}.state_distill_weight",
        weight,
        f"0 unless `{name}.teacher` is `plain` or `both`",
    )
