"""From a model of width 1 to one of width N with the same embeddings and encoder."""

from dataclasses import replace
from typing import Any

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape


def widen(model: MuxedBert, num_instances: int) -> MuxedBert:
    """Yield a dense model of another width that starts from the weights of `model`.

    Multiplexing keys, demultiplexer or pooler, and head are drawn anew from the global generator.

    Args:
        model: Dense model with N = 1, or already of the asked width.
        num_instances: N of the new model.
    """
    if model.shape.num_instances == num_instances:
        return model
    wide = MuxedBert(model.shape.dense(num_instances))
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(("embeddings.", "encoder.")) and ".mux." not in name
    }
    wide.load_state_dict(state, strict=False)
    return wide


WEIGHT_WORDS = ("demux_norm", "num_demux_layers")
"""Fields of `model` that decide which weights a wide model has."""
FREE_WORDS = ("multiplexer", "mask_mode", "key_norm")
"""Fields of `model` that a model of width 1 takes up as well."""


def with_multiplexing(model: MuxedBert, config: ModelConfig) -> MuxedBert:
    """Yield the model with the multiplexing that `config` names, its weights unchanged.

    A model of width 1 has no multiplexing yet, so any fits. A wider one keeps its own, and only
    whether its keys are learned can change.

    Args:
        model: Dense model.
        config: Words of the study file.

    Raises:
        CheckpointError: If the wide model has other weights than `config` asks for.
    """
    if model.shape.num_instances == 1:
        shape = replace(model.shape, **_values(config, (*WEIGHT_WORDS, *FREE_WORDS)))
    elif multiplexes_as(model.shape, config):
        shape = replace(model.shape, multiplexer=config.multiplexer)
    else:
        found, asked = (_values(source, WEIGHT_WORDS) for source in (model.shape, config))
        name = next(name for name in WEIGHT_WORDS if found[name] != asked[name])
        raise CheckpointError(
            f"`model.{name}` is {asked[name]!r}, but the checkpoint for "
            f"N={model.shape.num_instances} has {found[name]!r}; ask for the same, or start from "
            "a plain (N=1) checkpoint."
        )
    if shape == model.shape:
        return model
    changed = MuxedBert(shape)
    changed.load_state_dict(model.state_dict())
    return changed.train(model.training)


def multiplexes_as(shape: MuxedBertShape, config: ModelConfig) -> bool:
    """Tell whether a wide model of `shape` has the weights that `config` asks for."""
    return _values(shape, WEIGHT_WORDS) == _values(config, WEIGHT_WORDS)


def _values(source: MuxedBertShape | ModelConfig, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}
