from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainers.measure.batching import make_batch
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import initialise
from trainers.phase_config import PrimeConfig
from trainers.phases.loop import LoopOptions, run_phase
from trainers.phases.precision import Precision
from trainers.phases.prime import (
    PrimeProgram,
    Vocabulary,
    bag_loss,
    retrieval_accuracy,
    retrieval_loss,
)

CPU = Precision(torch.device("cpu"))


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


def test_a_state_that_names_its_sequence_is_not_asked_for_its_own_token(make_model, make_encoded):
    losses = {}
    for weight in (0.0, 1.0):
        config = PrimeConfig(num_updates=1, slots_per_token=0, bag_weight=weight)
        program = PrimeProgram(
            make_model(2), make_head(), make_encoded(), config, seed=0, precision=CPU
        )
        batch = make_batch(program.corpus, program.sampler.groups(0), CPU.device)
        states = torch.randn(*batch.input_ids[:, 0].shape, 32, dtype=torch.float64)
        changed = states.clone()
        changed[:, 0] += 1
        asked = program._draw_slots(batch)
        losses[weight] = [
            program._retrieval_loss(s, batch, *asked).item() for s in (states, changed)
        ]

    assert abs(losses[0.0][0] - losses[0.0][1]) > 1e-3
    assert losses[1.0][0] == pytest.approx(losses[1.0][1], abs=1e-5)


def run_priming(program, config, tmp_path, seed=0):
    options = LoopOptions(
        num_updates=config.num_updates,
        num_evaluations=1,
        seed=seed,
        progress_path=tmp_path / "progress.safetensors",
        checkpoint_interval_s=1e9,
    )
    return run_phase("prime", program, options, lambda *event: None)


def retrieved_share(program, keys_are_equal=False):
    """Share of the tokens of all instances that the head names rightly."""
    model, head, corpus = program.model.eval(), program.head, program.corpus
    groups = np.arange(len(corpus) // model.shape.num_instances * model.shape.num_instances)
    batch = make_batch(corpus, groups.reshape(-1, model.shape.num_instances), torch.device("cpu"))
    with torch.no_grad():
        if keys_are_equal:
            model.demux.keys.copy_(model.demux.keys[:1].expand_as(model.demux.keys))
        states = model.token_states(model.encode(batch)[-1]).transpose(1, 2)  # (B, N, T, D)
        named = head(states, model.embeddings.tokens.weight).argmax(dim=-1)
    return float((named == batch.input_ids)[batch.attention_mask].double().mean())


def test_priming_trains_the_demultiplexer_but_not_the_multiplexing_keys(
    make_model, make_encoded, tmp_path
):
    model = make_model(2, dtype=torch.float32)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    config = PrimeConfig(num_updates=3, batch_size=4)
    program = PrimeProgram(
        model, make_head(torch.float32), make_encoded(), config, seed=0, precision=CPU
    )

    run_priming(program, config, tmp_path)

    after = model.state_dict()
    assert torch.equal(after["embeddings.mux.keys"], before["embeddings.mux.keys"])
    assert torch.equal(after["sequence_head.output.weight"], before["sequence_head.output.weight"])
    for name in ("demux.keys", "demux.state.weight", "embeddings.tokens.weight"):
        assert not torch.equal(after[name], before[name])
    assert program.evaluate() is None


@pytest.mark.parametrize("num_texts", [1, 7, 40])
def test_retrieval_is_scored_on_every_token_but_the_first_once(
    make_model, make_encoded, num_texts
):
    """As many texts as do not fill the last group; the loop names token by token."""
    model, head = make_model(3, dtype=torch.float32), make_head(torch.float32)
    corpus, texts = make_encoded(40), make_encoded(num_texts, seed=1)
    vocabulary = Vocabulary(corpus, 100)

    share = retrieval_accuracy(model, head, texts, vocabulary, torch.device("cpu"))

    padded = [index % num_texts for index in range(-(-num_texts // 3) * 3)]
    right = total = 0
    for start in range(0, len(padded), 3):
        batch = make_batch(texts, np.array([padded[start : start + 3]]), torch.device("cpu"))
        states = model.token_states(model.encode(batch)[-1])[0]  # (T, N, D)
        for instance in range(min(3, num_texts - start)):
            for place in range(1, int(batch.attention_mask[0, instance].sum())):
                logits = head(states[place, instance][None], model.embeddings.tokens.weight)[0]
                named = max(vocabulary.tokens.tolist(), key=logits.__getitem__)
                right += named == int(batch.input_ids[0, instance, place])
                total += 1
    assert total > 0
    assert share == pytest.approx(right / total)


@pytest.mark.parametrize(("slots_per_token", "expected"), [(1, 1), (2, 2), (0, 3), (9, 3)])
def test_priming_asks_for_different_instances_at_each_position(
    make_model, make_encoded, make_groups, slots_per_token, expected
):
    config = PrimeConfig(num_updates=1, slots_per_token=slots_per_token)
    head = make_head(torch.float32)
    program = PrimeProgram(make_model(3), head, make_encoded(), config, seed=0, precision=CPU)

    slots, _ = program._draw_slots(make_groups(3, num_groups=50, length=9))

    assert slots.shape == (50, expected, 9)
    ordered = slots.sort(dim=1).values
    assert (ordered.diff(dim=1) > 0).all()
    assert slots.unique().tolist() == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("num_instances", "share"), [(2, 0.99), (4, 0.95)])
def test_priming_learns_to_retrieve_every_token_and_needs_the_keys_for_it(
    make_model, make_encoded, tmp_path, num_instances, share
):
    torch.manual_seed(0)
    model = make_model(num_instances, dtype=torch.float32, embed_mode="single_pass")
    model.apply(initialise)
    corpus = make_encoded(4000)
    config = PrimeConfig(
        num_updates=800, batch_size=64, learning_rate=3e-3, weight_decay=0.0, slots_per_token=0
    )
    program = PrimeProgram(model, make_head(torch.float32), corpus, config, seed=0, precision=CPU)
    assert retrieved_share(program) < 0.1

    run_priming(program, config, tmp_path)

    assert retrieved_share(program) >= share
    # [CLS] is the same in all instances, so a little more than one in N stays right.
    assert retrieved_share(program, keys_are_equal=True) < 1 / num_instances + 0.25


@pytest.mark.slow
def test_every_way_to_multiplex_learns_to_retrieve(make_model, make_encoded, tmp_path, variant):
    torch.manual_seed(0)
    model = make_model(2, dtype=torch.float32, **variant)
    model.apply(initialise)
    config = PrimeConfig(
        num_updates=600, batch_size=64, learning_rate=3e-3, weight_decay=0.0, slots_per_token=0
    )
    program = PrimeProgram(
        model, make_head(torch.float32), make_encoded(4000), config, seed=0, precision=CPU
    )
    assert retrieved_share(program) < 0.1

    run_priming(program, config, tmp_path)

    assert retrieved_share(program) >= 0.99


@pytest.mark.slow
def test_priming_gathers_what_each_sequence_says_in_its_first_state(
    make_model, make_encoded, tmp_path
):
    """Frequencies alone leave the loss of 95 equally frequent tokens above ln 95 = 4.55."""
    torch.manual_seed(0)
    model = make_model(2, dtype=torch.float32, embed_mode="single_pass")
    model.apply(initialise)
    config = PrimeConfig(
        num_updates=800,
        batch_size=64,
        learning_rate=3e-3,
        weight_decay=0.0,
        slots_per_token=0,
        bag_weight=1.0,
    )
    head, corpus = make_head(torch.float32), make_encoded(4000)
    program = PrimeProgram(model, head, corpus, config, seed=0, precision=CPU)

    run_priming(program, config, tmp_path)

    batch = make_batch(corpus, program.sampler.groups(0), CPU.device)
    with torch.no_grad():
        states = model.eval().encode(batch)[-1]
        loss = float(bag_loss(model, head, states, batch, program.vocabulary))
        swapped = replace(batch, input_ids=batch.input_ids.flip(1))
        of_the_other = float(bag_loss(model, head, states, swapped, program.vocabulary))
    assert loss < 3.5
    assert of_the_other > loss + 1
