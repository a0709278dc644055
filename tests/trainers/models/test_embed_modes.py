import pytest
import torch

from trainers.models.batch import Batch
from trainers.models.embeddings import Embeddings


@pytest.mark.parametrize(("embed_mode", "is_bert"), [("single_pass", True), ("two_pass", False)])
def test_equal_instances_under_unit_keys_embed_like_one_in_a_single_pass_only(
    make_model, make_groups, embed_mode, is_bert
):
    single, groups = make_model(1), make_groups(1)
    muxed = make_model(2, embed_mode=embed_mode).embeddings
    assert isinstance(muxed, Embeddings)
    assert muxed.mux is not None
    with torch.no_grad():
        muxed.mux.keys.fill_(1.0)
        muxed.load_state_dict(single.embeddings.state_dict(), strict=False)
    pairs = Batch(*(part.expand(-1, 2, -1) for part in vars(groups).values()))

    with torch.no_grad():
        expected, found = single.embeddings(groups, None), muxed(pairs, None)

    assert torch.allclose(found, expected, atol=1e-12) == is_bert


@pytest.mark.parametrize("num_instances", [2, 5])
@pytest.mark.parametrize(("embed_mode", "is_plain"), [("single_pass", True), ("two_pass", False)])
def test_equal_instances_under_unit_keys_are_encoded_like_one_in_a_single_pass_only(
    make_model, make_groups, num_instances, embed_mode, is_plain
):
    single, groups = make_model(1), make_groups(1)
    muxed = make_model(num_instances, embed_mode=embed_mode)
    muxed.load_state_dict(
        {n: t for n, t in single.state_dict().items() if n.startswith(("embeddings", "encoder"))},
        strict=False,
    )
    with torch.no_grad():
        muxed.embeddings.mux.keys.fill_(1.0)
    copies = Batch(*(part.expand(-1, num_instances, -1) for part in vars(groups).values()))

    with torch.no_grad():
        layers = zip(single.encode(groups), muxed.encode(copies), strict=True)
        gaps = [float((found - expected).abs().max()) for expected, found in layers]

    assert all((gap < 1e-10) == is_plain for gap in gaps)
    assert is_plain or min(gaps) > 1e-2
