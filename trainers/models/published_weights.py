"""The multiplexer and demultiplexer of the published MUX-BERT and PruMUX checkpoints.

Symbols: N instances, D kept hidden dimensions, `dense` those before pruning, K the depth of the
demultiplexer that a checkpoint names.
"""

from torch import Tensor
from torch.nn import functional as F

from trainers.errors import CheckpointError
from trainers.models.named_weights import NamedWeights
from trainers.models.shape import MuxedBertShape

MUX_KEYS = "instance_embedding"
SHARED_PREFIXES = ("demultiplexer.demux_module.", "demux_module.", "retrieval_head.demux_module.")
"""Where the shared layers of the demultiplexer are stored, one and the same three times."""
DEMUX_KEYS = "demux_instance_embedding"
CONTEXTUAL_LAYERS = {
    "embeddings.mux.sequence_layer.": "muxing_attention.",
    "embeddings.mux.instance_layer.": "muxing_attention_2.",
}
"""Where a contextual multiplexer's layers within and across instances are, for us and for them."""
TRAINING_ONLY = (
    "retrieval_head.",
    "layer_transformation.",
    "mha_layer_transformation.",
    "emb_transformation.",
)
"""The token head of pre-training and the maps of layer-wise distillation."""


def published_width(weights: NamedWeights, origin: str) -> int:
    """Yield N of a checkpoint; 1 if it does not multiplex.

    Raises:
        CheckpointError: If it multiplexes in a way that no model here does.
    """
    if MUX_KEYS not in weights:
        return 1
    if weights.names("muxing_attention") and not has_contextual_layers(weights):
        raise CheckpointError(
            f"`{origin}` has an attention multiplexer of one layer (`muxing_attention`), an early "
            "form of the contextual one that no model here computes; use a checkpoint with both "
            "layers (`gaussian_attention_v2`) or with Gaussian-Hadamard keys."
        )
    if len(weights.size(MUX_KEYS)) != 2:
        raise CheckpointError(
            f"`{origin}` multiplexes with matrices (`{MUX_KEYS}` has "
            f"{len(weights.size(MUX_KEYS))} dimensions); use a checkpoint with Gaussian-Hadamard "
            "keys."
        )
    _shared_prefix(weights, origin)
    return weights.size(MUX_KEYS)[0]


def has_contextual_layers(weights: NamedWeights) -> bool:
    """Tell whether a checkpoint that multiplexes has both layers of the contextual multiplexer."""
    return all(weights.names(theirs) for theirs in CONTEXTUAL_LAYERS.values())


def published_depth(weights: NamedWeights, origin: str) -> int:
    """Yield K.

    Raises:
        CheckpointError: If there are fewer than the two layers that every path needs.
    """
    prefix = _shared_prefix(weights, origin)
    depth = 0
    while f"{prefix}dense_{depth + 1}.weight" in weights:
        depth += 1
    if depth < 2:
        raise CheckpointError(
            f"The demultiplexer in `{origin}` has {depth} shared layers (`dense_1`, ...); 2 or "
            "more are needed."
        )
    return depth


def published_state(
    weights: NamedWeights, shape: MuxedBertShape, origin: str
) -> dict[str, Tensor]:
    """Yield the state of multiplexer and demultiplexer under our names.

    PruMUX cuts the keys of the demultiplexer along with its input; zeros take their place, which
    adds nothing to the constant that a key contributes. A checkpoint that was never fine-tuned
    lacks the last layer of the path of sequences, and so does the state.

    Raises:
        CheckpointError: If the demultiplexer is not the RSA-inspired one.
    """
    prefix = _shared_prefix(weights, origin)
    num_instances, hidden, dense = (
        shape.num_instances,
        shape.hidden_size,
        shape.dense_hidden_size,
    )
    is_cut = weights.size(prefix + DEMUX_KEYS) == (num_instances, hidden)
    num_keyed = hidden if is_cut else dense
    first = weights.take_pair(f"{prefix}dense_1", dense, num_keyed + hidden)
    cut = (0, dense - num_keyed)  # columns of zeros
    state = {
        "embeddings.mux.keys": weights.take(MUX_KEYS, num_instances, hidden),
        "demux.keys": F.pad(weights.take(prefix + DEMUX_KEYS, num_instances, num_keyed), cut),
        "demux.key.weight": F.pad(first["weight"][:, :num_keyed], cut),
        "demux.key.bias": first["bias"],
        "demux.state.weight": first["weight"][:, num_keyed:],
    }
    linear = {
        f"demux.layers.{j}": f"{prefix}dense_{j + 2}"
        for j in range(max(1, shape.num_demux_layers - 2))
    }
    norms = {f"demux.norms.{j}": f"{prefix}layer_norm_{j + 1}" for j in range(2)}
    if "classifier.weight" in weights or weights.names("demultiplexer.pre_decoder"):
        linear["demux.sequence_layer"] = "demultiplexer.pre_decoder"
        norms["demux.sequence_norm"] = "demultiplexer.pre_decoder_layer_norm"
    for names, size in ((linear, (dense, dense)), (norms, (dense,))):
        for ours, theirs in names.items():
            for part, tensor in weights.take_pair(theirs, *size).items():
                state[f"{ours}.{part}"] = tensor
    weights.ignore(*SHARED_PREFIXES)
    return state


def _shared_prefix(weights: NamedWeights, origin: str) -> str:
    for prefix in SHARED_PREFIXES:
        if prefix + DEMUX_KEYS in weights:
            return prefix
    raise CheckpointError(
        f"The demultiplexer in `{origin}` has no keys (`{DEMUX_KEYS}`); of the published "
        "checkpoints, those with the RSA-inspired one (`index_pos`) can be loaded."
    )
