"""Our models as classes of transformers; importing this module registers them.

    import trainers.models.hugging_face
    model = AutoModelForSequenceClassification.from_pretrained(directory)

Model directories are the same from both sides: `load_model` reads what `save_pretrained` wrote,
and `from_pretrained` what `save_model` wrote. B rows in a batch, T tokens, C classes, N instances.
"""

from dataclasses import fields, replace
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.configuration_utils import PreTrainedConfig
from transformers.initialization import copy_, normal_
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import can_return_tuple

from trainers.errors import ShapeError
from trainers.models.batch import Batch, check_sizes, is_traced
from trainers.models.mux import gaussian_keys
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape, numbered_labels

MODEL_TYPE = "muxed_bert"
"""Word in `config.json` that transformers finds these classes by."""


class MuxedBertConfig(PreTrainedConfig):
    """Every field of `MuxedBertShape` and `Usage` under its own name, and those of transformers.

    Labels are in `id2label`, as everywhere in transformers. Weights are float32 unless `dtype`
    says otherwise, however they are stored.
    """

    model_type = MODEL_TYPE
    attribute_map = {"num_attention_heads": "dense_num_heads"}  # noqa: RUF012, as in transformers

    # Those of `trainers.models.usage`; being fields, `max_length` is none of text generation's.
    task: str | None = None
    text_columns: list[str] | None = None
    max_length: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """See `PreTrainedConfig`; `labels` and `num_classes` become `id2label`."""
        labels, num_classes = kwargs.pop("labels", None), kwargs.pop("num_classes", None)
        num_labels = kwargs.pop("num_labels", None)
        if self.id2label is None and labels:
            self.id2label = dict(enumerate(labels))
        if self.id2label is None or num_labels not in (None, len(self.id2label)):
            self.id2label = dict(enumerate(numbered_labels(num_labels or num_classes or 2)))
        self.label2id = {str(label): int(index) for index, label in self.id2label.items()}
        self.dtype = self.dtype or kwargs.pop("torch_dtype", None) or "float32"
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    @property
    def shape(self) -> MuxedBertShape:
        """Sizes and modes of the model.

        Raises:
            CheckpointError: If a size is missing.
        """
        values = {
            f.name: getattr(self, f.name) for f in fields(MuxedBertShape) if f.name in vars(self)
        }
        shape = MuxedBertShape.from_dict({"model_type": MODEL_TYPE, **values})
        assert self.id2label is not None
        names = tuple(str(name) for _, name in sorted(self.id2label.items()))
        is_named = names != numbered_labels(len(names))
        return replace(shape, num_classes=len(names), labels=names if is_named else ())

    @property
    def num_hidden_layers(self) -> int:
        """L."""
        return self.shape.num_layers

    def to_dict(self) -> dict[str, Any]:
        """See `PreTrainedConfig`; holds what `load_model` needs, too."""
        sizes = self.shape.to_dict() if "vocab_size" in vars(self) else {}
        return {**super().to_dict(), **sizes}


class MuxedBertForSequenceClassification(PreTrainedModel):
    """A `MuxedBert` that classifies flat batches of sequences, whatever its N.

    Args:
        config: Sizes and labels.
    """

    config_class = MuxedBertConfig
    base_model_prefix = "muxed"
    _no_split_modules = ["MuxedBert"]  # noqa: RUF012, as in transformers

    def __init__(self, config: MuxedBertConfig) -> None:
        super().__init__(config)
        self.muxed = MuxedBert(config.shape)
        self.post_init()  # type: ignore[no-untyped-call]

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Classify sequences; for N > 1, each N rows that follow one another share a pass.

        The last group is filled up with the rows that come first in the batch, as in
        `trainers.data.grouping`, and the filling is dropped from the logits. In a group the
        sequences influence each other a little, so the order of the rows matters.

        Args:
            input_ids: `(B, T)` token ids.
            attention_mask: `(B, T)`, not zero at real tokens; all are real without it.
            token_type_ids: `(B, T)`; all zero without it.
            labels: `(B,)` class ids.

        Returns:
            `(B, C)` logits in the order of the rows, and with labels their mean cross-entropy.

        Raises:
            ShapeError: If the batch has no row, or longer ones than the position table, or parts
                of different shapes.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if not is_traced():
            check_sizes(input_ids, attention_mask, token_type_ids)
        groups = _group_rows(input_ids, self.config.num_instances)
        batch = Batch(input_ids[groups], attention_mask[groups] != 0, token_type_ids[groups])
        logits = self.muxed(batch).flatten(0, 1)[: len(input_ids)]
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def get_input_embeddings(self) -> nn.Module:
        """Yield the token table."""
        return self.muxed.embeddings.tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token table."""
        assert isinstance(value, nn.Embedding)
        self.muxed.embeddings.tokens = value

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """See `PreTrainedModel`; loads the model that `load_model` does, in every bit.

        What transformers loads are views of the mapped file, all of them trainable. Sums over
        unaligned memory round differently, so they are copied; and fixed keys are fixed again.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        with torch.device("meta"):
            new = MuxedBert(model.config.shape)
        for name, parameter in model.muxed.named_parameters():
            parameter.data = parameter.data.clone()
            parameter.requires_grad_(new.get_parameter(name).requires_grad)
        return loaded

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """See `PreTrainedModel`; the names of the weights are those of `save_model`."""
        state = self.state_dict() if state_dict is None else state_dict
        plain = {name.removeprefix("muxed."): tensor for name, tensor in state.items()}
        super().save_pretrained(save_directory, is_main_process, plain, **kwargs)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights that a checkpoint lacks, or that have another number of labels."""
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        keys = getattr(module, "keys", None)
        if not isinstance(keys, nn.Parameter):
            return
        if module is self.muxed.embeddings.mux:
            copy_(keys, gaussian_keys(len(keys), keys.shape[1], self.config.key_norm))
        else:
            normal_(keys)


def _group_rows(input_ids: Tensor, num_instances: int) -> Tensor:
    """Yield `(ceil(B / N), N)` indices of rows."""
    num_rows = len(input_ids)
    if num_rows == 0:
        raise ShapeError("At least 1 sequence is needed to form groups, got 0.")
    num_groups = -(-num_rows // num_instances)
    places = torch.arange(num_groups * num_instances, device=input_ids.device)
    return (places % num_rows).view(num_groups, num_instances)


AutoConfig.register(MODEL_TYPE, MuxedBertConfig)
AutoModelForSequenceClassification.register(MuxedBertConfig, MuxedBertForSequenceClassification)
