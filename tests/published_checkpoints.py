"""Random weights under the names, and with the sizes, of the published checkpoints."""

import json
from pathlib import Path

import torch
from torch import Tensor

from trainers.models.checkpoints import save_tensors

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
HEAD_SIZE, DENSE, NUM_UNITS, NUM_POSITIONS = 8, 32, 64, 32


def published_weights(
    num_instances: int,
    *,
    is_pruned: bool = False,
    depth: int = 3,
    num_classes: int = 3,
    is_contextual: bool = False,
    vocab_size: int = 100,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Yield the weights of a model; `num_classes` 0 means that it was never fine-tuned.

    Pruned ones have lost hidden dimensions, heads and units; the first feed-forward network and
    the second attention are gone but for their layer norms, which nobody cut.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = 24 if is_pruned else DENSE
    heads, units = ([2, 0, 4], [0, 10, 64]) if is_pruned else ([4] * 3, [NUM_UNITS] * 3)
    sizes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.position_ids": (1, NUM_POSITIONS),
        "bert.embeddings.word_embeddings.weight": (vocab_size, hidden),
        "bert.embeddings.position_embeddings.weight": (NUM_POSITIONS, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        **both("bert.embeddings.LayerNorm", hidden),
    }
    for index, size in enumerate(zip(heads, units, strict=True)):
        sizes |= layer_sizes(f"bert.encoder.layer.{index}", hidden, *size)
    if num_instances == 1 or is_pruned:
        sizes |= both("bert.pooler.dense", DENSE, hidden)
    if num_classes:
        sizes |= both("classifier", num_classes, DENSE)
        sizes |= both("layer_transformation", DENSE, hidden)
    if is_contextual:
        sizes |= layer_sizes("muxing_attention", hidden, 4, NUM_UNITS)
        sizes |= layer_sizes("muxing_attention_2", hidden, 4, NUM_UNITS)
    weights = draw(sizes, generator)
    if num_instances > 1:
        own = _multiplexing_sizes(num_instances, hidden, vocab_size, bool(num_classes))
        weights |= draw(own, generator)
        shared = draw(_shared_sizes(num_instances, hidden, depth), generator)
        prefixes = ["demux_module.", "retrieval_head.demux_module."]
        prefixes += ["demultiplexer.demux_module."] if num_classes else []
        weights |= {p + name: t.clone() for p in prefixes for name, t in shared.items()}
    return weights


def write_published(weights: dict[str, Tensor], directory: Path, **described: object) -> Path:
    """Write a directory with these weights and a config that fits them, but for `described`."""
    num_positions, _ = weights["bert.embeddings.position_embeddings.weight"].shape
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": len(weights["bert.embeddings.word_embeddings.weight"]),
        "max_position_embeddings": num_positions,
        "id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"},
        **SIZES,
    }
    save_tensors(weights, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({**config, **described}))
    return directory


def layer_sizes(
    own: str, hidden: int, num_heads: int, num_units: int
) -> dict[str, tuple[int, ...]]:
    """Yield the sizes of one Transformer layer; of a sub-layer that is gone the norm is left."""
    sizes, inner = dict[str, tuple[int, ...]](), num_heads * HEAD_SIZE
    if num_heads:
        for part in ("query", "key", "value"):
            sizes |= both(f"{own}.attention.self.{part}", inner, hidden)
        sizes |= both(f"{own}.attention.output.dense", hidden, inner)
    sizes |= both(f"{own}.attention.output.LayerNorm", hidden if num_heads else DENSE)
    if num_units:
        sizes |= both(f"{own}.intermediate.dense", num_units, hidden)
        sizes |= both(f"{own}.output.dense", hidden, num_units)
    return sizes | both(f"{own}.output.LayerNorm", hidden if num_units else DENSE)


def both(name: str, *size: int) -> dict[str, tuple[int, ...]]:
    """Yield the sizes of a weight and its bias."""
    return {f"{name}.weight": size, f"{name}.bias": size[:1]}


def draw(sizes: dict[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
    """Yield random tensors of these sizes."""
    return {name: 0.3 * torch.randn(size, generator=generator) for name, size in sizes.items()}


def _shared_sizes(num_instances: int, hidden: int, depth: int) -> dict[str, tuple[int, ...]]:
    sizes = {
        "demux_instance_embedding": (num_instances, hidden),
        **both("dense_1", DENSE, 2 * hidden),
    }
    for j in range(2, depth + 1):
        sizes |= both(f"dense_{j}", DENSE, DENSE)
    for j in range(1, depth + 1):
        sizes |= both(f"layer_norm_{j}", DENSE)
    return sizes


def _multiplexing_sizes(
    num_instances: int, hidden: int, vocab_size: int, is_finetuned: bool
) -> dict[str, tuple[int, ...]]:
    sizes = {
        "instance_embedding": (num_instances, hidden),
        **both("retrieval_head.pre_decoder", DENSE, DENSE),
        **both("retrieval_head.pre_decoder_layer_norm", DENSE),
        **both("retrieval_head.decoder", vocab_size, DENSE),
    }
    if is_finetuned:
        sizes |= both("demultiplexer.pre_decoder", DENSE, DENSE)
        sizes |= both("demultiplexer.pre_decoder_layer_norm", DENSE)
    return sizes
