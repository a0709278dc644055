import pytest
import torch

from trainers.errors import ShapeError
from trainers.measure.worth import unit_scores


@pytest.fixture
def model(make_model):
    return make_model(dtype=torch.float32, num_classes=2)


def test_units_that_do_nothing_are_worth_nothing(model, make_encoded):
    layer = model.encoder.layers[1]
    with torch.no_grad():
        layer.feedforward.output.weight[:, 7] = 0
        layer.attention.output.weight[:, 8:16] = 0  # of the second head

    scores = unit_scores(model, make_encoded(), seed=0)

    assert scores.intermediate[1, 7] == 0
    assert scores.heads[1, 1] == 0
    assert (scores.heads[1, [0, 2, 3]] > 0).all()
    assert (scores.intermediate[1] > 0).sum() == 63
    assert (scores.hidden > 0).all()


def test_the_same_seed_reads_the_same_examples(model, make_encoded, monkeypatch):
    monkeypatch.setattr("trainers.measure.worth.NUM_EXAMPLES", 16)
    examples = make_encoded(64)

    first, again, other = (unit_scores(model, examples, seed=seed).hidden for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_scores_leave_the_model_as_it_was(model, make_encoded):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    unit_scores(model, make_encoded(), seed=0)

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_multiplexes_is_refused(make_model, make_encoded):
    with pytest.raises(ShapeError, match="with N = 1"):
        unit_scores(make_model(2), make_encoded(), seed=0)
