import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from trainers.errors import OutOfMemoryError
from trainers.measure.batching import make_batch
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import MuxedBert
from trainers.phases import retrieval
from trainers.phases.retrieval import (
    Slots,
    Vocabulary,
    bag_loss,
    retrieval_accuracy,
    retrieval_loss,
    slot_loss,
)

CPU = torch.device("cpu")


def make_head(dtype=torch.float64):
    torch.manual_seed(0)
    return TokenHead(32, 100, 1e-12).to(dtype)


def test_a_vocabulary_holds_the_tokens_that_occur_and_the_extra_ones(make_encoded):
    corpus = make_encoded(5)

    vocabulary = Vocabulary(corpus, 100, extra=(4, 1))

    occurring = sorted({1, 4, *corpus.input_ids.ravel().tolist()})
    assert vocabulary.tokens.tolist() == occurring
    assert vocabulary.ranks(torch.tensor(occurring)).tolist() == list(range(len(occurring)))


def test_retrieval_loss_equals_the_cross_entropy_of_each_selected_slot(make_model, make_encoded):
    model, head, corpus = make_model(3), make_head(), make_encoded(30)
    vocabulary = Vocabulary(corpus, 100)
    states = torch.randn(6, 32, dtype=torch.float64)
    slots, ids = torch.tensor([0, 2, 1, 1, 0, 2]), vocabulary.tokens[[3, 5, 7, 9, 11, 13]]

    loss = retrieval_loss(model, head, model.demux(states, slots), ids, vocabulary)

    each = []
    for state, slot, token in zip(states, slots, ids, strict=True):
        logits = head(model.demux(state)[slot], model.embeddings.tokens.weight)
        kept = logits[vocabulary.tokens]
        each.append(-F.log_softmax(kept.float(), -1)[(vocabulary.tokens == token).nonzero()])
    torch.testing.assert_close(loss, torch.stack(each).mean(), atol=1e-6, rtol=0)


def test_retrieval_loss_of_no_token_is_zero_not_nan(make_model, make_encoded):
    model = make_model(3)
    empty = torch.zeros(0, dtype=torch.long)

    loss = retrieval_loss(
        model,
        make_head(),
        torch.zeros(0, 32, dtype=torch.float64, requires_grad=True),
        empty,
        Vocabulary(make_encoded(30), 100),
    )

    loss.backward()
    assert float(loss.detach()) == 0


def test_bag_loss_equals_the_cross_entropy_of_every_token_but_the_first(
    make_model, make_encoded, make_groups
):
    model, head = make_model(3), make_head()
    batch, vocabulary = make_groups(3), Vocabulary(make_encoded(300), 100, tuple(range(100)))
    states = torch.randn(3, 9, 32, dtype=torch.float64)

    loss = bag_loss(model, head, states, batch, vocabulary)

    each = []
    for group, state in enumerate(states[:, 0]):
        for slot in range(3):
            logits = head(model.demux(state)[slot], model.embeddings.tokens.weight)
            length = int(batch.attention_mask[group, slot].sum())
            tokens = batch.input_ids[group, slot, 1:length]
            each.extend(-F.log_softmax(logits.float(), -1)[tokens])
    torch.testing.assert_close(loss, torch.stack(each).mean(), atol=1e-5, rtol=0)


@settings(max_examples=15, deadline=None)
@given(
    num_instances=st.sampled_from([2, 3, 5]),
    per_token=st.integers(0, 5),
    length=st.integers(1, 9),
    skips_first=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_loss_of_drawn_slots_equals_a_loop_over_groups_slots_and_positions(
    make_model, make_groups, make_encoded, num_instances, per_token, length, skips_first, seed
):
    model, head = make_model(num_instances), make_head()
    batch = make_groups(num_instances, length=max(2, length), seed=seed)
    vocabulary = Vocabulary(make_encoded(20), 100, tuple(range(100)))
    torch.manual_seed(seed)
    slots = Slots.draw(batch, per_token, skips_first=skips_first)
    states = torch.randn(3, batch.input_ids.shape[-1], 32, dtype=torch.float64)

    loss = slot_loss(model, head, states, batch, slots, vocabulary)

    each = []
    for group, drawn in enumerate(slots.instances.tolist()):
        for instances in drawn:
            for place, i in enumerate(instances):
                if not batch.attention_mask[group, i, place] or (skips_first and place == 0):
                    continue
                named = head(model.demux(states[group, place])[i], model.embeddings.tokens.weight)
                token = batch.input_ids[group, i, place]
                each.append(-F.log_softmax(named, -1)[token])
    expected = torch.stack(each).mean() if each else torch.zeros(())
    torch.testing.assert_close(loss.double(), expected.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("per_token", "expected"), [(1, 1), (2, 2), (0, 3), (9, 3)])
def test_different_instances_are_asked_for_at_each_position(make_groups, per_token, expected):
    batch = make_groups(3, num_groups=50, length=9)

    slots = Slots.draw(batch, per_token)

    assert slots.instances.shape == (50, expected, 9)
    ordered = slots.instances.sort(dim=1).values
    assert (ordered.diff(dim=1) > 0).all()
    assert slots.instances.unique().tolist() == [0, 1, 2]
    assert torch.equal(slots.is_asked, batch.attention_mask.gather(1, slots.instances))


def test_a_state_that_names_its_sequence_is_not_asked_for_its_own_token(make_groups):
    slots = Slots.draw(make_groups(2), 0, skips_first=True)

    assert not slots.is_asked[..., 0].any()
    assert slots.is_asked[..., 1].any()


@pytest.mark.parametrize("num_texts", [1, 7, 40])
def test_retrieval_is_scored_on_every_token_but_the_first_once(
    make_model, make_encoded, num_texts
):
    """As many texts as do not fill the last group; the loop names token by token."""
    model, head = make_model(3, dtype=torch.float32), make_head(torch.float32)
    corpus, texts = make_encoded(40), make_encoded(num_texts, seed=1)
    vocabulary = Vocabulary(corpus, 100)

    share = retrieval_accuracy(model, head, texts, vocabulary, CPU)

    padded = [index % num_texts for index in range(-(-num_texts // 3) * 3)]
    right = total = 0
    for start in range(0, len(padded), 3):
        batch = make_batch(texts, np.array([padded[start : start + 3]]), CPU)
        states = model.token_states(model.encode(batch)[-1])[0]  # (T, N, D)
        for instance in range(min(3, num_texts - start)):
            for place in range(1, int(batch.attention_mask[0, instance].sum())):
                logits = head(states[place, instance][None], model.embeddings.tokens.weight)[0]
                named = max(vocabulary.tokens.tolist(), key=logits.__getitem__)
                right += named == int(batch.input_ids[0, instance, place])
                total += 1
    assert total > 0
    assert share == pytest.approx(right / total)


def make_scored(make_model, make_encoded):
    model, head = make_model(3, dtype=torch.float32), make_head(torch.float32)
    return model, head, make_encoded(40, seed=1), Vocabulary(make_encoded(40), 100), CPU


@pytest.mark.parametrize("most", [1, 100, 1000])
def test_scores_are_the_same_with_few_logits_at_once(make_model, make_encoded, monkeypatch, most):
    scored, seen = make_scored(make_model, make_encoded), []
    expected = retrieval_accuracy(*scored)
    forward = TokenHead.forward

    def remember(head, states, table, tokens):
        seen.append(len(states) * len(tokens))
        return forward(head, states, table, tokens)

    monkeypatch.setattr(retrieval, "LOGITS_AT_ONCE", most)
    monkeypatch.setattr(TokenHead, "forward", remember)
    share = retrieval_accuracy(*scored)

    assert share == expected
    assert max(seen) <= max(most, len(scored[3].tokens))
    assert len(seen) > 1


@pytest.mark.parametrize("most", [1, 3])
def test_scores_are_the_same_with_few_groups_at_once(make_model, make_encoded, monkeypatch, most):
    scored, seen = make_scored(make_model, make_encoded), []
    expected = retrieval_accuracy(*scored)
    encode = MuxedBert.encode

    def scarce(model, batch):
        if len(batch.input_ids) > most:
            raise MemoryError
        seen.append(len(batch.input_ids))
        return encode(model, batch)

    monkeypatch.setattr(MuxedBert, "encode", scarce)

    assert retrieval_accuracy(*scored) == expected
    assert sum(seen) >= 14
    most = 0
    with pytest.raises(OutOfMemoryError, match="one group at a time"):
        retrieval_accuracy(*scored)
