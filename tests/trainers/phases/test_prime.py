from dataclasses import replace

import numpy as np
import pytest
import torch

from trainers.data.encoding import Encoded
from trainers.measure.batching import make_batch
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import initialise
from trainers.phase_config import PrimeConfig
from trainers.phases import prime
from trainers.phases.loop import LoopOptions, run_phase
from trainers.phases.precision import Precision
from trainers.phases.prime import PrimeProgram
from trainers.phases.retrieval import bag_loss, slot_loss

CPU = Precision(torch.device("cpu"))


def make_head(dtype=torch.float64):
    torch.manual_seed(0)
    return TokenHead(32, 100, 1e-12).to(dtype)


@pytest.mark.parametrize(
    ("slots_per_token", "bag_weight", "num_asked"), [(1, 0.0, 1), (0, 0.0, 3), (2, 0.5, 2)]
)
def test_priming_asks_for_as_many_slots_as_configured(
    make_model, make_encoded, monkeypatch, slots_per_token, bag_weight, num_asked
):
    config = PrimeConfig(num_updates=1, slots_per_token=slots_per_token, bag_weight=bag_weight)
    head, seen = make_head(torch.float32), []
    model = make_model(3, dtype=torch.float32)
    program = PrimeProgram(model, head, make_encoded(), config, seed=0, precision=CPU)

    def remember(model, head, states, batch, slots, vocabulary):
        seen.append(slots)
        return slot_loss(model, head, states, batch, slots, vocabulary)

    monkeypatch.setattr(prime, "slot_loss", remember)
    program.update(0)

    (slots,) = seen
    assert slots.instances.shape[1] == num_asked
    assert bool(slots.is_asked[..., 0].any()) == (bag_weight == 0)  # else it names its sequence


def run_priming(program, config, tmp_path, seed=0):
    options = LoopOptions(
        num_updates=config.num_updates,
        num_evaluations=1,
        seed=seed,
        progress_path=tmp_path / "progress.safetensors",
        checkpoint_interval_s=1e9,
    )
    return run_phase("prime", program, options, lambda *event: None)


def retrieved_share(program):
    """Share of the tokens of all instances that the head names rightly."""
    model, head, corpus = program.model.eval(), program.head, program.corpus
    groups = np.arange(len(corpus) // model.shape.num_instances * model.shape.num_instances)
    batch = make_batch(corpus, groups.reshape(-1, model.shape.num_instances), torch.device("cpu"))
    with torch.no_grad():
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


def independent_tokens(num_texts, seed):
    """Yield texts of eight tokens that tell nothing of each other, none more frequent."""
    ids = np.random.default_rng(seed).integers(5, 100, (num_texts, 8))
    return Encoded(ids, np.full(num_texts, 8), np.zeros_like(ids))


@pytest.mark.slow
@pytest.mark.parametrize(("num_instances", "share"), [(2, 0.99), (4, 0.95)])
def test_priming_learns_to_retrieve_every_token_and_needs_the_keys_for_it(
    make_model, tmp_path, num_instances, share
):
    """With one slot for each token, as published, and of texts that it was not trained on."""
    torch.manual_seed(0)
    model = make_model(num_instances, dtype=torch.float32, embed_mode="single_pass")
    model.apply(initialise)
    config = PrimeConfig(num_updates=2000, batch_size=64, learning_rate=3e-3, weight_decay=0.0)
    held_out = independent_tokens(512, 1)
    program = PrimeProgram(
        model,
        make_head(torch.float32),
        independent_tokens(4000, 0),
        config,
        seed=0,
        precision=CPU,
        held_out=held_out,
    )
    counts = np.bincount(held_out.input_ids[:, 1:].ravel())
    unigram = counts.max() / counts.sum()
    assert program.evaluate() <= unigram + 0.01

    run_priming(program, config, tmp_path)

    assert program.evaluate() >= share
    with torch.no_grad():
        model.demux.keys.copy_(model.demux.keys[:1].expand_as(model.demux.keys))
    assert program.evaluate() == pytest.approx(1 / num_instances, abs=0.1)


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
