"""From a model of width 1 to one of width N with the same embeddings and encoder."""

from dataclasses import replace

from trainers.config import ModelConfig
from trainers.models.muxed_bert import MuxedBert


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


def with_multiplexing(model: MuxedBert, config: ModelConfig) -> MuxedBert:
    """Yield the model with the multiplexing that `config` names, its weights unchanged.

    Args:
        model: Dense model.
        config: Words of the study file.
    """
    shape = replace(model.shape, multiplexer=config.multiplexer)
    if shape == model.shape:
        return model
    changed = MuxedBert(shape)
    changed.load_state_dict(model.state_dict())
    return changed.train(model.training)
