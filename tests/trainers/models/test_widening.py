import pytest
import torch

from trainers.models.widening import widen


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
