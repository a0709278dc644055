"""Checkpoints of transformers and of the authors of CoFi, MUX-PLM and PruMUX as our models.

A pruned checkpoint of the authors tells its sizes by its weights alone: of a sub-layer that is
gone, only the layer norm is left. Everything else has the sizes of its config, or is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.layouts import LAYOUTS, Layout, plain_name
from trainers.models.muxed_bert import MuxedBert
from trainers.models.named_weights import NamedWeights
from trainers.models.published_weights import (
    CONTEXTUAL_LAYERS,
    TRAINING_ONLY,
    has_contextual_layers,
    published_depth,
    published_state,
    published_width,
)
from trainers.models.shape import (
    MAX_LAYERS,
    MAX_VOCABULARY,
    MuxedBertShape,
    numbered_labels,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def convert(
    described: "PreTrainedConfig", tensors: Mapping[str, Tensor], config: ModelConfig
) -> MuxedBert:
    """Yield the model of another project's checkpoint, in evaluation mode.

    What the checkpoint lacks and fine-tuning learns (pooler, classifier, and the last layer of a
    published demultiplexer) is new, drawn from torch's global generator.

    Args:
        described: Its config.
        tensors: Its weights, under its names.
        config: Where it comes from, and how a model for N > 1 that starts from it multiplexes.

    Raises:
        CheckpointError: If it is of another family or its weights do not fit its config.
    """
    layout = LAYOUTS.get(described.model_type)
    if layout is None:
        raise CheckpointError(
            f"`{config.source}` is a `{described.model_type}` model; those of the families "
            f"{', '.join(LAYOUTS)} can be loaded."
        )
    weights = NamedWeights({plain_name(name, layout): t for name, t in tensors.items()})
    shape = _encoder_shape(described, layout, weights, config)
    shape = _with_classifier(shape, described, weights)
    _check_sizes(shape, tensors, config.source)
    num_instances = published_width(weights, config.source)
    if num_instances > 1:
        is_contextual = has_contextual_layers(weights)
        shape = replace(
            shape,
            num_instances=num_instances,
            multiplexer="contextual" if is_contextual else "gaussian_hadamard",
            demultiplexer="rsa",
            embed_mode="two_pass",
            mask_mode="multiplexer" if is_contextual else "none",
            demux_norm="published",
            num_demux_layers=published_depth(weights, config.source),
        )
    state = {
        **_embedding_state(described, layout, weights, shape),
        **_encoder_state(layout, weights, shape),
        **_head_state(weights, shape),
    }
    if num_instances > 1:
        state |= published_state(weights, shape, config.source)
        state |= _contextual_state(weights, shape)
    weights.ignore("embeddings.position_ids", *TRAINING_ONLY, *layout.ignored)
    weights.check(config.source, f"`{described.model_type}`")
    model = MuxedBert(shape)
    lacking, surplus = model.load_state_dict(state, strict=False)
    assert not surplus
    assert all(name.startswith(("pooler.", "sequence_head.", "demux.seq")) for name in lacking)
    return model.eval()


def _check_sizes(shape: MuxedBertShape, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuse a config of far more weights than there are, before zeros take their place."""
    shape.check()
    num_tables = shape.hidden_size * (shape.vocab_size + shape.max_positions)
    num_least = num_tables + shape.num_encoder_parameters
    num_stored = sum(tensor.numel() for tensor in tensors.values())
    if num_least > 2 * num_stored + _SLACK:
        raise CheckpointError(
            f"The weights in `{origin}` do not fit its config, which describes {num_least:,} of "
            f"them; its files hold {num_stored:,}."
        )


_SLACK = 10_000_000
"""Weights that may be missing before a message about sizes says more than one about names."""


def _encoder_shape(
    described: "PreTrainedConfig", layout: Layout, weights: NamedWeights, config: ModelConfig
) -> MuxedBertShape:
    _check_config(described, layout, config.source)
    _check_kind(described, config.source)
    dense, num_heads = described.hidden_size, described.num_attention_heads
    num_units = _attribute(described, "intermediate_size", "hidden_dim")
    return MuxedBertShape(
        vocab_size=described.vocab_size,
        hidden_size=_kept(weights.size("embeddings.word_embeddings.weight"), 1, dense),
        dense_hidden_size=dense,
        head_size=dense // num_heads,
        head_counts=_head_counts(described, layout, weights),
        feedforward_sizes=_feedforward_sizes(described, layout, weights, num_units),
        dense_num_heads=num_heads,
        dense_feedforward_size=num_units,
        max_positions=described.max_position_embeddings - _first_position(described, layout),
        num_token_types=max(2, getattr(described, "type_vocab_size", 0)),
        multiplexer=config.multiplexer,
        embed_mode=config.embed_mode,
        mask_mode=config.mask_mode,
        demultiplexer=config.demultiplexer,
        demux_norm=config.demux_norm,
        num_demux_layers=config.num_demux_layers,
        key_norm=config.key_norm,
        dropout=_attribute(described, "hidden_dropout_prob", "dropout"),
        layer_norm_eps=getattr(described, "layer_norm_eps", 1e-12),
    )


def _check_config(described: "PreTrainedConfig", layout: Layout, origin: str) -> None:
    """Refuse sizes that are none; what is computed from them comes later."""
    names = ["vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers"]
    for name in [*names, "max_position_embeddings"]:
        value = getattr(described, name, None)
        most = MAX_LAYERS if name == "num_hidden_layers" else MAX_VOCABULARY
        if type(value) is not int or not 1 <= value <= most:
            raise CheckpointError(
                f"`{name}` in the config of `{origin}` must be a whole number in 1 to {most}, got "
                f"{f'{value!r:.80}'}."
            )
    pad = described.pad_token_id
    if layout.skips_positions and not (pad is None or (type(pad) is int and pad >= 0)):
        raise CheckpointError(
            f"`pad_token_id` in the config of `{origin}` must be 0 or more, got {f'{pad!r:.80}'}."
        )


def _check_kind(described: "PreTrainedConfig", origin: str) -> None:
    found = {
        "activation": (_attribute(described, "hidden_act", "activation"), "gelu"),
        "kind of positions": (
            getattr(described, "position_embedding_type", "absolute"),
            "absolute",
        ),
    }
    for name, (value, known) in found.items():
        if value != known:
            raise CheckpointError(f"`{origin}` has the {name} `{value}`; only `{known}` is known.")
    dense, num_heads = described.hidden_size, described.num_attention_heads
    if dense % num_heads:
        raise CheckpointError(
            f"`{origin}` has {dense} hidden dimensions, not a multiple of its {num_heads} heads."
        )


def _attribute(described: "PreTrainedConfig", *names: str) -> Any:
    """Yield the first attribute that there is; families disagree on the word."""
    return next(getattr(described, name) for name in names if hasattr(described, name))


def _kept(size: tuple[int, ...], dimension: int, dense: int) -> int:
    """Yield what is left of `dense` units in a weight of `size`, or all if it cannot tell."""
    is_pruned = len(size) == 2 and size[dimension] < dense
    return size[dimension] if is_pruned else dense


def _head_counts(
    described: "PreTrainedConfig", layout: Layout, weights: NamedWeights
) -> tuple[int, ...]:
    head_size = described.hidden_size // described.num_attention_heads
    counts = []
    for index in range(described.num_hidden_layers):
        own = layout.layer.format(index)
        parts = [own + part for part in (*layout.query_key_value, layout.attention_output)]
        size = weights.size(f"{parts[-1]}.weight")
        is_gone = _is_gone(weights, parts, own + layout.attention_norm)
        counts.append(0 if is_gone else _kept(size, 1, described.hidden_size) // head_size)
    return tuple(counts)


def _feedforward_sizes(
    described: "PreTrainedConfig", layout: Layout, weights: NamedWeights, dense: int
) -> tuple[int, ...]:
    sizes = []
    for index in range(described.num_hidden_layers):
        own = layout.layer.format(index)
        parts = [own + part for part in (layout.feedforward_input, layout.feedforward_output)]
        size = weights.size(f"{parts[-1]}.weight")
        is_gone = _is_gone(weights, parts, own + layout.feedforward_norm)
        sizes.append(0 if is_gone else _kept(size, 1, dense))
    return tuple(sizes)


def _is_gone(weights: NamedWeights, parts: list[str], norm: str) -> bool:
    has_norm = f"{norm}.weight" in weights
    return has_norm and not any(f"{part}.weight" in weights for part in parts)


def _first_position(described: "PreTrainedConfig", layout: Layout) -> int:
    return int(described.pad_token_id or 0) + 1 if layout.skips_positions else 0


def _with_classifier(
    shape: MuxedBertShape, described: "PreTrainedConfig", weights: NamedWeights
) -> MuxedBertShape:
    size = weights.size("classifier.weight")
    if len(size) != 2:
        return shape
    assert described.id2label is not None
    names = tuple(str(name) for _, name in sorted(described.id2label.items()))
    is_named = len(names) == size[0] and not all(re.fullmatch(r"(LABEL_)?\d+", n) for n in names)
    return replace(
        shape, num_classes=size[0], labels=names if is_named else numbered_labels(size[0])
    )


def _embedding_state(
    described: "PreTrainedConfig", layout: Layout, weights: NamedWeights, shape: MuxedBertShape
) -> dict[str, Tensor]:
    width, first = shape.hidden_size, _first_position(described, layout)
    num_rows = described.max_position_embeddings
    positions = weights.take("embeddings.position_embeddings.weight", num_rows, width)
    state = {
        "embeddings.tokens.weight": weights.take(
            "embeddings.word_embeddings.weight", shape.vocab_size, width
        ),
        "embeddings.positions.weight": positions[first:],
        "embeddings.token_types.weight": _token_types(described, weights, shape),
    }
    for part, tensor in weights.take_pair("embeddings.LayerNorm", width).items():
        state[f"embeddings.norm.{part}"] = tensor
    return state


def _token_types(
    described: "PreTrainedConfig", weights: NamedWeights, shape: MuxedBertShape
) -> Tensor:
    """Yield rows for two types or more; where a family tells none apart, they are equal."""
    num_rows = getattr(described, "type_vocab_size", 0)
    if num_rows == 0:
        return torch.zeros(shape.num_token_types, shape.hidden_size)
    table = weights.take("embeddings.token_type_embeddings.weight", num_rows, shape.hidden_size)
    if num_rows == 1 or shape.num_instances > 1:  # published multiplexed models read row 0 alone
        table = table[:1].repeat(shape.num_token_types, 1)
    return table


def _encoder_state(
    layout: Layout, weights: NamedWeights, shape: MuxedBertShape
) -> dict[str, Tensor]:
    state = {}
    for index, sizes in enumerate(zip(shape.head_counts, shape.feedforward_sizes, strict=True)):
        found = _layer_state(layout, weights, layout.layer.format(index), shape, sizes)
        state.update({f"encoder.layers.{index}.{name}": t for name, t in found.items()})
    return state


def _contextual_state(weights: NamedWeights, shape: MuxedBertShape) -> dict[str, Tensor]:
    """Yield the two layers of a contextual multiplexer, which name their parts as ELECTRA does."""
    if shape.multiplexer != "contextual" or shape.num_instances == 1:
        return {}
    sizes, state = (shape.dense_num_heads, shape.dense_feedforward_size), {}
    for ours, theirs in CONTEXTUAL_LAYERS.items():
        found = _layer_state(LAYOUTS["electra"], weights, theirs, shape, sizes)
        state.update({ours + name: tensor for name, tensor in found.items()})
    return state


def _layer_state(
    layout: Layout,
    weights: NamedWeights,
    own: str,
    shape: MuxedBertShape,
    sizes: tuple[int, int],
) -> dict[str, Tensor]:
    """Yield the weights of a layer of so many heads and units whose names begin with `own`."""
    return {
        **_attention_state(layout, weights, own, shape, sizes[0]),
        **_feedforward_state(layout, weights, own, shape, sizes[1]),
    }


def _attention_state(
    layout: Layout, weights: NamedWeights, own: str, shape: MuxedBertShape, num_heads: int
) -> dict[str, Tensor]:
    if num_heads == 0:
        weights.ignore(own + layout.attention_norm)
        return {}
    width, inner = shape.hidden_size, num_heads * shape.head_size
    separate = [weights.take_pair(own + part, inner, width) for part in layout.query_key_value]
    joined = {part: torch.cat([pair[part] for pair in separate]) for part in ("weight", "bias")}
    pairs = {
        "query_key_value": joined,
        "output": weights.take_pair(own + layout.attention_output, width, inner),
        "norm": weights.take_pair(own + layout.attention_norm, width),
    }
    return _flatten("attention", pairs)


def _feedforward_state(
    layout: Layout, weights: NamedWeights, own: str, shape: MuxedBertShape, num_units: int
) -> dict[str, Tensor]:
    if num_units == 0:
        weights.ignore(own + layout.feedforward_norm)
        return {}
    width = shape.hidden_size
    pairs = {
        "input": weights.take_pair(own + layout.feedforward_input, num_units, width),
        "output": weights.take_pair(own + layout.feedforward_output, width, num_units),
        "norm": weights.take_pair(own + layout.feedforward_norm, width),
    }
    return _flatten("feedforward", pairs)


def _head_state(weights: NamedWeights, shape: MuxedBertShape) -> dict[str, Tensor]:
    pairs = {}
    if shape.num_instances > 1:
        weights.ignore("pooler.")
    elif "pooler.dense.weight" in weights:
        pairs["pooler"] = weights.take_pair(
            "pooler.dense", shape.dense_hidden_size, shape.hidden_size
        )
    if len(weights.size("classifier.weight")) == 2:
        pairs["sequence_head.output"] = weights.take_pair(
            "classifier", shape.num_classes, shape.dense_hidden_size
        )
    return {f"{name}.{part}": t for name, pair in pairs.items() for part, t in pair.items()}


def _flatten(prefix: str, pairs: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}.{part}": tensor
        for name, pair in pairs.items()
        for part, tensor in pair.items()
    }
