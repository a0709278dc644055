"""Published weights under their names against their forward pass, written here anew."""

import json
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.batch import Batch
from trainers.models.checkpoints import load_model, save_model, save_tensors
from trainers.models.sources import load_source, load_stored

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
HEAD_SIZE, DENSE, NUM_UNITS = 8, 32, 64


def published_weights(num_instances, *, is_pruned=False, depth=3, is_finetuned=True, seed=0):
    """Weights under the names, and with the sizes, of the published checkpoints.

    Pruned ones have lost hidden dimensions, heads and units; the first feed-forward network and
    the second attention are gone but for their layer norms, which nobody cut.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = 24 if is_pruned else DENSE
    heads, units = ([2, 0, 4], [0, 10, 64]) if is_pruned else ([4] * 3, [NUM_UNITS] * 3)
    sizes = {
        "bert.embeddings.position_ids": (1, 16),
        "bert.embeddings.word_embeddings.weight": (100, hidden),
        "bert.embeddings.position_embeddings.weight": (16, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        **both("bert.embeddings.LayerNorm", hidden),
    }
    for index, (num_heads, num_units) in enumerate(zip(heads, units, strict=True)):
        own, inner = f"bert.encoder.layer.{index}", num_heads * HEAD_SIZE
        if num_heads:
            for part in ("query", "key", "value"):
                sizes |= both(f"{own}.attention.self.{part}", inner, hidden)
            sizes |= both(f"{own}.attention.output.dense", hidden, inner)
        sizes |= both(f"{own}.attention.output.LayerNorm", hidden if num_heads else DENSE)
        if num_units:
            sizes |= both(f"{own}.intermediate.dense", num_units, hidden)
            sizes |= both(f"{own}.output.dense", hidden, num_units)
        sizes |= both(f"{own}.output.LayerNorm", hidden if num_units else DENSE)
    if num_instances == 1 or is_pruned:
        sizes |= both("bert.pooler.dense", DENSE, hidden)
    if is_finetuned:
        sizes |= both("classifier", 3, DENSE) | both("layer_transformation", DENSE, hidden)
    weights = {name: 0.3 * torch.randn(size, generator=generator) for name, size in sizes.items()}
    if num_instances > 1:
        weights |= published_multiplexing(num_instances, hidden, depth, is_finetuned, generator)
    return weights


def published_multiplexing(num_instances, hidden, depth, is_finetuned, generator):
    shared = {
        "demux_instance_embedding": (num_instances, hidden),
        **both("dense_1", DENSE, 2 * hidden),
        **{k: v for j in range(2, depth + 1) for k, v in both(f"dense_{j}", DENSE, DENSE).items()},
        **{k: v for j in range(1, depth + 1) for k, v in both(f"layer_norm_{j}", DENSE).items()},
    }
    drawn = {name: 0.3 * torch.randn(size, generator=generator) for name, size in shared.items()}
    sizes = {
        "instance_embedding": (num_instances, hidden),
        **both("retrieval_head.pre_decoder", DENSE, DENSE),
        **both("retrieval_head.pre_decoder_layer_norm", DENSE),
        **both("retrieval_head.decoder", 100, DENSE),
    }
    prefixes = ["demux_module.", "retrieval_head.demux_module."]
    if is_finetuned:
        sizes |= both("demultiplexer.pre_decoder", DENSE, DENSE)
        sizes |= both("demultiplexer.pre_decoder_layer_norm", DENSE)
        prefixes.append("demultiplexer.demux_module.")
    copies = {prefix + name: t.clone() for prefix in prefixes for name, t in drawn.items()}
    own = {name: 0.3 * torch.randn(size, generator=generator) for name, size in sizes.items()}
    return copies | own


def both(name, *size):
    return {f"{name}.weight": size, f"{name}.bias": size[:1]}


def write_published(weights, directory, **described):
    config = {"model_type": "bert", **SIZES, "architectures": ["BertForSequenceClassification"]}
    config["id2label"] = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    save_tensors(weights, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({**config, **described}))
    return directory


def published_logits(weights, batch: Batch) -> Tensor:
    """The forward pass of the published models, as their description has it, without dropout."""

    linear, norm = partial(apply_linear, weights), partial(apply_norm, weights)

    def embed(x, types):
        positions = weights["bert.embeddings.position_embeddings.weight"][: x.shape[-2]]
        kinds = weights["bert.embeddings.token_type_embeddings.weight"][types]
        return norm("bert.embeddings.LayerNorm", x + positions + kinds)

    def split(x):
        return x.unflatten(-1, (-1, HEAD_SIZE)).transpose(1, 2)

    tokens = weights["bert.embeddings.word_embeddings.weight"][batch.input_ids]
    is_muxed = "instance_embedding" in weights
    none = torch.zeros_like(batch.token_type_ids)
    x = embed(tokens, none if is_muxed else batch.token_type_ids)  # (B, N, T, D)
    bias = torch.zeros(())
    if is_muxed:
        x = (x * weights["instance_embedding"][:, None]).mean(dim=1)
        x = embed(x, none[:, 0])
    else:
        x = x[:, 0]
        bias = torch.where(batch.attention_mask, 0.0, -torch.inf)[:, None]  # (B, 1, 1, T)
    for index in range(3):
        own = f"bert.encoder.layer.{index}"
        if f"{own}.attention.output.dense.weight" in weights:
            q, k, v = (
                split(linear(f"{own}.attention.self.{p}", x)) for p in ("query", "key", "value")
            )
            shares = (q @ k.transpose(-1, -2) / HEAD_SIZE**0.5 + bias).softmax(dim=-1)
            context = (shares @ v).transpose(1, 2).flatten(2)
            update = linear(f"{own}.attention.output.dense", context)
            x = norm(f"{own}.attention.output.LayerNorm", x + update)
        if f"{own}.output.dense.weight" in weights:
            units = F.gelu(linear(f"{own}.intermediate.dense", x))
            x = norm(f"{own}.output.LayerNorm", x + linear(f"{own}.output.dense", units))
    if not is_muxed:
        return linear("classifier", linear("bert.pooler.dense", x[:, 0]).tanh())[:, None]
    return linear("classifier", published_demux(weights, x[:, 0]))


def published_demux(weights, first):
    """Yield `(B, N, D)` states of the sequences from the `(B, D)` states of `[CLS]`."""
    shared = "demultiplexer.demux_module"
    num_instances = len(weights["instance_embedding"])
    keys = weights[f"{shared}.demux_instance_embedding"].expand(len(first), -1, -1)
    states = first[:, None].expand(-1, num_instances, -1)
    a = F.gelu(apply_linear(weights, f"{shared}.dense_1", torch.cat([keys, states], dim=-1)))
    j = 2
    while f"{shared}.dense_{j + 1}.weight" in weights:
        a = a + F.gelu(apply_linear(weights, f"{shared}.dense_{j}", a))
        j += 1
    own = F.gelu(apply_linear(weights, "demultiplexer.pre_decoder", a))
    return a + apply_norm(weights, "demultiplexer.pre_decoder_layer_norm", own)


def apply_linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def apply_norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)


@pytest.mark.parametrize("is_pruned", [False, True])
@pytest.mark.parametrize("num_instances", [1, 2, 5])
def test_published_classifiers_have_the_logits_of_their_description(
    make_groups, tmp_path, num_instances, is_pruned
):
    weights = published_weights(num_instances, is_pruned=is_pruned)
    write_published(weights, tmp_path)
    batch = make_groups(num_instances)

    model = load_stored(ModelConfig(source=str(tmp_path)))

    with torch.no_grad():
        found = model(batch)
    expected = published_logits(weights, batch)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (model.shape.sparsity > 0.3) == is_pruned
    assert model.shape.labels == ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize("depth", [2, 4])
def test_demultiplexers_of_any_depth_are_loaded(make_groups, tmp_path, depth):
    weights = published_weights(2, depth=depth)
    write_published(weights, tmp_path)
    batch = make_groups(2)

    model = load_stored(ModelConfig(source=str(tmp_path)))

    with torch.no_grad():
        torch.testing.assert_close(
            model(batch), published_logits(weights, batch), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("is_pruned", [False, True])
def test_a_converted_model_comes_back_from_a_directory_of_ours(make_groups, tmp_path, is_pruned):
    write_published(published_weights(2, is_pruned=is_pruned), tmp_path)
    model, batch = load_stored(ModelConfig(source=str(tmp_path))), make_groups(2)

    save_model(model, tmp_path / "ours")

    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "ours")(batch), model(batch))


def test_pretrained_weights_for_two_instances_start_a_training(make_groups, tmp_path):
    weights = published_weights(2, depth=2, is_finetuned=False)
    write_published(weights, tmp_path)
    config = ModelConfig(source=str(tmp_path), demux_norm="published", num_demux_layers=2)

    model = load_source(config, 2)

    with torch.no_grad():
        states = model.encode(make_groups(2))[-1]
        found = model.demux.tokens(states)  # (B, T, N, D)
    shared = {k.removeprefix("demux_module."): t for k, t in weights.items()}
    key = shared["demux_instance_embedding"][1].expand_as(states)
    a = F.linear(
        torch.cat([key, states], dim=-1), shared["dense_1.weight"], shared["dense_1.bias"]
    )
    for j in (1, 2):
        names = (f"layer_norm_{j}.weight", f"layer_norm_{j}.bias")
        a = F.layer_norm(F.gelu(a), (DENSE,), *(shared[name] for name in names), 1e-12)
        if j == 1:
            a = F.linear(a, shared["dense_2.weight"], shared["dense_2.bias"])
    torch.testing.assert_close(found[:, :, 1], a, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"num_demux_layers": 3}, r"`model\.demux_norm` is 'all'.*'published'"),
        ({"demux_norm": "published"}, r"`model\.num_demux_layers` is 2.* 3"),
        ({"multiplexer": "contextual"}, r"`model\.multiplexer` is 'contextual'.*'gaussian_had"),
        ({"demultiplexer": "index_prefix"}, r"`model\.demultiplexer` is 'index_prefix'.*'rsa'"),
    ],
)
def test_a_training_that_multiplexes_otherwise_is_refused(tmp_path, words, message):
    write_published(published_weights(2), tmp_path)

    with pytest.raises(CheckpointError, match=message):
        load_source(ModelConfig(source=str(tmp_path), **words), 2)


def test_the_published_keys_can_be_trained_further(tmp_path):
    weights = published_weights(2)
    write_published(weights, tmp_path)
    words = {"demux_norm": "published", "num_demux_layers": 3, "multiplexer": "learned_hadamard"}

    model = load_source(ModelConfig(source=str(tmp_path), **words), 2)

    keys = model.embeddings.mux.keys
    assert keys.requires_grad
    assert torch.equal(keys, weights["instance_embedding"])


@pytest.mark.parametrize("num_instances", [1, 2])
def test_a_pruned_published_model_starts_no_training(tmp_path, num_instances):
    write_published(published_weights(num_instances, is_pruned=True), tmp_path)
    config = ModelConfig(source=str(tmp_path), demux_norm="published", num_demux_layers=3)

    with pytest.raises(CheckpointError, match=r"pruned already \(sparsity 0\.\d\d\)"):
        load_source(config, num_instances)


def without(weights, part):
    return {name: t for name, t in weights.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: without(w, "layer.1."),
            r"do not fit .* 16 missing \(encoder\.layer\.1\.\S+, \S+, \S+, \.\.\.\)",
        ),
        (lambda w: without(w, "layer.1.intermediate"), r": 2 missing \(encoder\.layer\.1\.inter"),
        (lambda w: without(w, "demultiplexer.pre"), r": 4 missing \(demultiplexer\.pre_decoder"),
        (lambda w: w | {"extra.a": torch.ones(1)}, r": 1 unexpected \(extra\.a\)"),
        (
            lambda w: w | {"classifier.bias": torch.ones(4)},
            r": 1 of another size \(classifier\.bias \(4,\) for \(3,\)\)",
        ),
        (
            lambda w: w | {"muxing_attention.query.weight": torch.ones(1)},
            r"has a contextual multiplexer \(`muxing_attention`\)",
        ),
        (
            lambda w: w | {"instance_embedding": torch.ones(2, DENSE, DENSE)},
            r"multiplexes with matrices \(`instance_embedding` has 3 dimensions\)",
        ),
        (lambda w: without(w, "demux_instance"), r"has no keys \(`demux_instance_embedding`\)"),
        (lambda w: without(w, "dense_2."), r"has 1 shared layers .*; 2 or more are needed"),
    ],
)
def test_published_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    write_published(change(published_weights(2)), tmp_path)

    with pytest.raises(CheckpointError, match=message):
        load_stored(ModelConfig(source=str(tmp_path)))
