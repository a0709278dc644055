"""From a model of width 1 to one of width N with the same embeddings and encoder."""

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
