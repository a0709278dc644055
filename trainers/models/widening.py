"""From a model of width 1 to one of width N that starts as N thinned copies in superposition.

The stream of a multiplexed model is s = (v_1 * h_1 + ... + v_N * h_N) / sqrt(N): states h_i bound
to their keys v_i. Since v_i * v_i has mean 1 and v_i * v_j mean 0, v_i * s is h_i / sqrt(N) and
noise: a key binds and unbinds. So every head and every feed-forward unit is given to one instance: its
inputs are unbound and its outputs bound with that instance's key, and constants are bound with all
keys. What the N = 1 model has learned to compute is then there from the start, in a weaker form.
"""

import torch
from torch import Tensor, nn

from trainers.models.encoder import EncoderLayer
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
    if wide.embeddings.mux is not None:
        _superpose(wide, wide.embeddings.mux.keys)
    return wide


@torch.no_grad()
def _superpose(model: MuxedBert, keys: Tensor) -> None:
    keys = keys * (keys.shape[1] ** 0.5 / keys.norm(dim=1, keepdim=True))  # v_i of mean square 1
    num_instances = len(keys)
    constant = keys.sum(dim=0) / num_instances**0.5  # what binds a constant to every instance
    embeddings = model.embeddings
    if embeddings.embed_mode == "single_pass":
        embeddings.positions.weight.mul_(keys.mean(dim=0))
        embeddings.norm.bias.mul_(constant)
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        assert layer.attention is not None
        assert layer.feedforward is not None
        heads = torch.arange(layer.attention.num_heads) % num_instances
        head_keys = keys[heads.repeat_interleave(layer.attention.head_size)]  # (H * head_size, D)
        unit_keys = keys[torch.arange(layer.feedforward.input.out_features) % num_instances]
        unbind = num_instances**0.5
        layer.attention.query_key_value.weight.mul_(head_keys.repeat(3, 1) * unbind)
        layer.feedforward.input.weight.mul_(unit_keys * unbind)
        for output, bound in (
            (layer.attention.output, head_keys),
            (layer.feedforward.output, unit_keys),
        ):
            output.weight.mul_(bound.T)
            output.bias.mul_(constant)
        for norm in (layer.attention.norm, layer.feedforward.norm):
            assert isinstance(norm, nn.LayerNorm)
            norm.bias.mul_(constant)
