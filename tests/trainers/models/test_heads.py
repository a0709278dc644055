import torch
from torch.nn import functional as F

from trainers.models.heads import DetectionHead, SequenceHead, TokenHead


def test_a_sequence_head_is_a_linear_layer_when_not_training():
    head = SequenceHead(32, 3, dropout=0.5).eval()
    states = torch.randn(4, 2, 32)

    assert torch.equal(head(states), F.linear(states, head.output.weight, head.output.bias))
    assert not torch.equal(head.train()(states), head.eval()(states))


def test_token_logits_of_chosen_ids_equal_columns_of_the_full_ones():
    torch.manual_seed(0)
    head = TokenHead(32, 100, 1e-12).double()
    torch.nn.init.normal_(head.bias)
    table = torch.randn(100, 32, dtype=torch.float64)
    states = torch.randn(6, 32, dtype=torch.float64)
    ids = torch.tensor([3, 50, 99])

    full, chosen = head(states, table), head(states, table, ids)

    assert full.shape == (6, 100)
    torch.testing.assert_close(chosen, full[:, ids], atol=1e-12, rtol=0)


def test_token_logits_are_tied_to_the_table_given():
    head = TokenHead(32, 100, 1e-12)
    table = torch.randn(100, 32, requires_grad=True)

    head(torch.randn(6, 32), table).square().sum().backward()

    assert table.grad is not None
    assert {name for name, _ in head.named_parameters()} == {
        "transform.weight",
        "transform.bias",
        "norm.weight",
        "norm.bias",
        "bias",
    }


def test_a_detection_head_yields_one_logit_for_a_token_and_one_for_a_sequence():
    head = DetectionHead(32)

    assert head.token(torch.randn(7, 32)).shape == (7, 1)
    assert head.sequence(torch.randn(3, 32)).shape == (3, 1)
