"""From a model of width 1 to one of width N with the same embeddings and encoder."""

from dataclasses import replace

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape


def widen(model: MuxedBert, num_instances: int) -> MuxedBert:
    """Yield a dense model of another width that starts from the weights of `model`.

    Multiplexer, demultiplexer or pooler, and head are drawn anew from the global generator.

    Args:
        model: Dense model with N = 1, or already of the asked width.
        num_instances: N of the new model.
    """
    if model.shape.num_instances == num_instances:
        return model
    wide = MuxedBert(replace(model.shape.dense(num_instances), labels=()))
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(("embeddings.", "encoder.")) and ".mux." not in name
    }
    wide.load_state_dict(state, strict=False)
    return wide


WORDS = (
    "multiplexer",
    "demultiplexer",
    "demux_norm",
    "num_demux_layers",
    "mask_mode",
    "key_norm",
)
"""Fields of `model` that a model of width 1 takes up."""


def with_multiplexing(model: MuxedBert, config: ModelConfig) -> MuxedBert:
    """Yield the model with the multiplexing that `config` names, its weights unchanged.

    A model of width 1 has no multiplexing yet, so any fits. A wider one keeps its own; only
    whether its keys are learned can change, and the depth of a published demultiplexer from 2 in
    pre-training to 3 in fine-tuning, as the authors did: the weights are the same.

    Args:
        model: Dense model.
        config: Words of the study file.

    Raises:
        CheckpointError: If the wide model has other weights than `config` asks for.
    """
    if model.shape.num_instances == 1:
        shape = replace(model.shape, **{name: getattr(config, name) for name in WORDS})
        if config.multiplexer == "contextual":
            shape = replace(shape, embed_mode="two_pass")
    else:
        name = first_difference(model.shape, config)
        if name is not None:
            raise CheckpointError(
                f"`model.{name}` is {getattr(config, name)!r}, but the checkpoint for "
                f"N={model.shape.num_instances} has {getattr(model.shape, name)!r}; ask for the "
                "same, or start from a plain (N=1) checkpoint."
            )
        depth = config.num_demux_layers
        shape = replace(model.shape, multiplexer=config.multiplexer, num_demux_layers=depth)
    if shape == model.shape:
        return model
    changed = MuxedBert(shape)
    changed.load_state_dict(model.state_dict())
    return changed.train(model.training)


def first_difference(shape: MuxedBertShape, config: ModelConfig) -> str | None:
    """Name the first field of `config` that asks for other weights than a wide `shape` has."""
    found, asked = _weight_words(shape), _weight_words(config)
    if found["demux_norm"] == "published" and _depths(shape, config) == (2, 3):
        found["num_demux_layers"] = 3
    return next((name for name in found if found[name] != asked[name]), None)


def _weight_words(source: MuxedBertShape | ModelConfig) -> dict[str, object]:
    return {
        "multiplexer": source.multiplexer.replace("learned", "gaussian"),  # keys have one name
        "demultiplexer": source.demultiplexer,
        "demux_norm": source.demux_norm,
        "num_demux_layers": source.num_demux_layers,
    }


def _depths(shape: MuxedBertShape, config: ModelConfig) -> tuple[int, int]:
    return shape.num_demux_layers, config.num_demux_layers
