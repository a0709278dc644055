import pytest
import torch

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.widening import widen, with_multiplexing


def test_widening_to_the_same_width_keeps_the_model(make_model):
    model = make_model(2)

    assert widen(model, 2) is model


@pytest.mark.parametrize("embed_mode", ["two_pass", "single_pass"])
def test_a_wide_model_starts_from_the_weights_of_the_plain_one(make_model, embed_mode):
    plain = make_model(1, dtype=torch.float32, embed_mode=embed_mode)

    wide = widen(plain, 5)

    assert wide.shape == plain.shape.dense(5)
    before, after = plain.state_dict(), wide.state_dict()
    shared = {name for name in after if name.startswith(("embeddings", "encoder"))}
    assert shared - set(before) == {"embeddings.mux.keys"}
    assert all(torch.equal(after[name], before[name]) for name in shared & set(before))


def test_the_drawn_weights_follow_from_the_global_seed(make_model):
    model, drawn = make_model(1, dtype=torch.float32), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(widen(model, 2).state_dict())

    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())
    assert not torch.equal(drawn[0]["embeddings.mux.keys"], drawn[2]["embeddings.mux.keys"])


def test_a_plain_model_takes_up_every_word_of_the_study_but_how_it_embeds(make_model):
    plain = make_model(1, dtype=torch.float32, embed_mode="single_pass")
    config = ModelConfig(demux_norm="published", num_demux_layers=3, mask_mode="none", key_norm=2)

    changed = with_multiplexing(plain, config)

    shape = changed.shape
    assert (shape.demux_norm, shape.num_demux_layers) == ("published", 3)
    assert (shape.mask_mode, shape.key_norm, shape.embed_mode) == ("none", 2, "single_pass")
    assert not changed.training
    assert all(torch.equal(t, changed.state_dict()[k]) for k, t in plain.state_dict().items())
    assert float(widen(changed, 2).embeddings.mux.keys.norm(dim=1)[1]) == pytest.approx(2)


def test_a_model_that_fits_the_study_is_kept_as_it_is(make_model):
    model = make_model(2, dtype=torch.float32)

    assert with_multiplexing(model, ModelConfig()) is model


def test_the_contextual_multiplexer_embeds_in_two_passes_whatever_the_checkpoint_did(make_model):
    plain = make_model(1, dtype=torch.float32, embed_mode="single_pass")

    changed = with_multiplexing(plain, ModelConfig(multiplexer="contextual"))

    assert changed.shape.embed_mode == "two_pass"
    assert torch.equal(changed.embeddings.tokens.weight, plain.embeddings.tokens.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multiplexer": "contextual"}, "`model.multiplexer` is 'contextual'.*'gaussian_had"),
        ({"demultiplexer": "index_prefix"}, "`model.demultiplexer` is 'index_prefix'.*'rsa'"),
        ({"demux_norm": "published"}, "`model.demux_norm` is 'published'.*N=2 has 'all'"),
        ({"num_demux_layers": 3}, "`model.num_demux_layers` is 3.*N=2 has 2"),
    ],
)
def test_a_wide_model_with_other_weights_than_the_study_asks_for_is_refused(
    make_model, changes, message
):
    with pytest.raises(CheckpointError, match=message):
        with_multiplexing(make_model(2), ModelConfig(**changes))
