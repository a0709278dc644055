"""Published weights under their names against their forward pass, written here anew."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from published_checkpoints import DENSE, HEAD_SIZE, published_weights, write_published
from torch import Tensor
from torch.nn import functional as F

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.batch import Batch
from trainers.models.checkpoints import load_model, save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import load_source, load_stored


def published_logits(weights, batch: Batch) -> Tensor:
    """The forward pass of the published models, as their description has it, without dropout."""

    linear, norm = partial(apply_linear, weights), partial(apply_norm, weights)

    def embed(x, types):
        positions = weights["bert.embeddings.position_embeddings.weight"][: x.shape[-2]]
        kinds = weights["bert.embeddings.token_type_embeddings.weight"][types]
        return norm("bert.embeddings.LayerNorm", x + positions + kinds)

    tokens = weights["bert.embeddings.word_embeddings.weight"][batch.input_ids]
    is_muxed = "instance_embedding" in weights
    none = torch.zeros_like(batch.token_type_ids)
    x = embed(tokens, none if is_muxed else batch.token_type_ids)  # (B, N, T, D)
    mask = None
    if is_muxed:
        x = embed(published_mixture(weights, x, batch.attention_mask), none[:, 0])
    else:
        x, mask = x[:, 0], batch.attention_mask[:, 0]
    for index in range(3):
        x = apply_layer(weights, f"bert.encoder.layer.{index}", x, mask)
    if not is_muxed:
        return linear("classifier", linear("bert.pooler.dense", x[:, 0]).tanh())[:, None]
    return linear("classifier", published_demux(weights, x[:, 0]))


def published_mixture(weights, x, mask):
    """Yield the `(B, T, D)` mixture of the `(B, N, T, D)` embedded sequences."""
    keys = weights["instance_embedding"][:, None]
    if "muxing_attention.output.dense.weight" not in weights:
        return (x * keys).mean(dim=1)
    contextual = [
        apply_layer(weights, "muxing_attention", sequences, mask[:, i]) + sequences
        for i, sequences in enumerate(x.unbind(dim=1))
    ]
    keyed = torch.stack(contextual, dim=1) * keys
    mixed = []
    for t in range(x.shape[2]):
        instances = keyed[:, :, t]
        across = apply_layer(weights, "muxing_attention_2", instances, mask[:, :, t])
        mixed.append((across + instances).mean(dim=1))
    return torch.stack(mixed, dim=1)


def apply_layer(weights, own, x, mask):
    """Yield the next `(B, T, D)` states of a Transformer layer; `mask` `(B, T)` or none."""
    linear, norm = partial(apply_linear, weights), partial(apply_norm, weights)

    def split(states):
        return states.unflatten(-1, (-1, HEAD_SIZE)).transpose(1, 2)

    if f"{own}.attention.output.dense.weight" in weights:
        q, k, v = (
            split(linear(f"{own}.attention.self.{p}", x)) for p in ("query", "key", "value")
        )
        scores = q @ k.transpose(-1, -2) / HEAD_SIZE**0.5
        if mask is not None:
            scores = scores + (1 - mask[:, None, None].to(x)) * -1e4
        context = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        update = linear(f"{own}.attention.output.dense", context)
        x = norm(f"{own}.attention.output.LayerNorm", x + update)
    if f"{own}.output.dense.weight" in weights:
        units = F.gelu(linear(f"{own}.intermediate.dense", x))
        x = norm(f"{own}.output.LayerNorm", x + linear(f"{own}.output.dense", units))
    return x


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


@pytest.mark.parametrize("num_instances", [2, 3])
def test_published_contextual_multiplexers_have_the_logits_of_their_description(
    make_groups, tmp_path, num_instances
):
    weights = published_weights(num_instances, is_contextual=True)
    write_published(weights, tmp_path)
    batch = make_groups(num_instances)  # the last columns are padding in whole groups

    model = load_stored(ModelConfig(source=str(tmp_path))).double()  # -10000 rounds the scores

    with torch.no_grad():
        found, unmasked = model(batch), load_without_mask(model)(batch)
    expected = published_logits({name: t.double() for name, t in weights.items()}, batch)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    assert (unmasked - expected).abs().max() > 1e-3
    assert model.shape.multiplexer == "contextual"


def load_without_mask(model):
    """Yield the model with no mask inside its multiplexer either."""
    other = MuxedBert(replace(model.shape, mask_mode="none")).double().eval()
    other.load_state_dict(model.state_dict())
    return other


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
    weights = published_weights(2, depth=2, num_classes=0)
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
        (
            {"demux_norm": "published", "num_demux_layers": 4},
            r"`model\.num_demux_layers` is 4.* 3",
        ),
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


def test_pretrained_weights_of_depth_2_are_finetuned_at_depth_3(tmp_path):
    """As published: the third shared layer, new in fine-tuning, is on no path."""
    write_published(published_weights(2, depth=2, num_classes=0), tmp_path)
    words = {"source": str(tmp_path), "demux_norm": "published"}

    plain, deep = (load_source(ModelConfig(num_demux_layers=k, **words), 2) for k in (2, 3))

    assert deep.shape == replace(plain.shape, num_demux_layers=3)
    assert deep.demux.num_shared == 1
    state = {k: t for k, t in deep.state_dict().items() if "sequence" not in k}  # these are new
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in state.items())


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
            r"has an attention multiplexer of one layer .*`gaussian_attention_v2`",
        ),
        (
            lambda w: without(published_weights(2, is_contextual=True), "attention_2.interm"),
            r": 2 missing \(muxing_attention_2\.intermediate\.dense\.weight, \S+\)",
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


def test_the_notes_of_a_refusal_name_all_weights_that_do_not_fit(tmp_path):
    weights = without(published_weights(2), "layer.1.") | {"extra.a": torch.ones(1)}
    write_published(weights, tmp_path)

    with pytest.raises(CheckpointError, match=r"16 missing \(\S+, \S+, \S+, \.\.\.\)") as caught:
        load_stored(ModelConfig(source=str(tmp_path)))

    (note,) = caught.value.__notes__  # the one unexpected name is in the message
    assert note.startswith("missing: ")
    assert note.count("encoder.layer.1.") == 16
