from dataclasses import replace

import numpy as np
import pytest
import torch

from trainers.data.encoding import Encoded
from trainers.measure.batching import make_batch
from trainers.models.heads import TokenHead
from trainers.phase_config import PretrainConfig
from trainers.phases import pretrain
from trainers.phases.precision import Precision
from trainers.phases.pretrain import PretrainProgram, corrupt
from trainers.phases.retrieval import Vocabulary, slot_loss

CPU = Precision(torch.device("cpu"))
SPECIAL, MASK = (0, 1, 2, 3, 4), 4


@pytest.fixture(scope="module")
def large_batch(make_encoded):
    corpus = make_encoded(4000, length=16)
    groups = np.arange(4000).reshape(-1, 2)
    return make_batch(corpus, groups, torch.device("cpu")), Vocabulary(corpus, 100, SPECIAL)


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_the_share_of_chosen_words_is_the_requested_one(large_batch, probability):
    batch, vocabulary = large_batch
    torch.manual_seed(0)

    _, chosen = corrupt(batch, probability, SPECIAL, MASK, vocabulary)

    words = batch.attention_mask & (batch.input_ids > 4)
    assert float(chosen[words].double().mean()) == pytest.approx(probability, abs=0.01)


def test_special_tokens_and_padding_are_never_chosen(large_batch):
    batch, vocabulary = large_batch
    torch.manual_seed(0)

    corrupted, chosen = corrupt(batch, 0.99, SPECIAL, MASK, vocabulary)

    kept = (batch.input_ids <= 4) | ~batch.attention_mask
    assert kept.any()
    assert not chosen[kept].any()
    assert torch.equal(corrupted.input_ids[kept], batch.input_ids[kept])


def test_of_the_chosen_80_percent_are_masked_10_random_and_10_unchanged(large_batch):
    batch, vocabulary = large_batch
    torch.manual_seed(0)

    corrupted, chosen = corrupt(batch, 0.5, SPECIAL, MASK, vocabulary)

    old, new = batch.input_ids[chosen], corrupted.input_ids[chosen]
    is_masked = new == MASK
    num_tokens = len(vocabulary.tokens)
    assert float(is_masked.double().mean()) == pytest.approx(0.8 + 0.1 / num_tokens, abs=0.01)
    assert float((new == old).double().mean()) == pytest.approx(0.1 + 0.1 / num_tokens, abs=0.01)
    assert torch.isin(new, vocabulary.tokens).all()


def test_everything_else_of_the_batch_stays(large_batch):
    batch, vocabulary = large_batch
    torch.manual_seed(0)

    corrupted, chosen = corrupt(batch, 0.15, SPECIAL, MASK, vocabulary)

    assert torch.equal(corrupted.input_ids[~chosen], batch.input_ids[~chosen])
    assert corrupted.attention_mask is batch.attention_mask
    assert corrupted.token_type_ids is batch.token_type_ids


@pytest.fixture
def make_program(make_model, make_encoded):
    def build(num_instances=2, *, corpus=None, teacher=None, **changes):
        torch.manual_seed(0)
        values = {"num_updates": 4, "batch_size": 8, "distill_weight": 0.0, **changes}
        return PretrainProgram(
            make_model(num_instances, dtype=torch.float32),
            TokenHead(32, 100, 1e-12),
            teacher,
            corpus or make_encoded(40),
            SPECIAL,
            PretrainConfig(**values),
            seed=0,
            precision=CPU,
        )

    return build


def update(program):
    torch.manual_seed(1)
    return {name: float(value) for name, value in program.update(0).items()}


WEIGHTS = {
    "mlm_loss": 0.7,
    "detect_loss": 2.0,
    "bag_loss": 0.5,
    "state_loss": 3.0,
    "retrieval_loss": 0.25,
}
CONFIGURED = {name.replace("loss", "weight"): weight for name, weight in WEIGHTS.items()}
CONFIGURED["distill_weight"] = CONFIGURED.pop("state_weight")


@pytest.mark.parametrize("num_instances", [1, 3])
def test_every_part_of_the_loss_counts_by_its_weight(make_program, make_model, num_instances):
    teacher = make_model(1, dtype=torch.float32) if num_instances > 1 else None
    program = make_program(num_instances, teacher=teacher, **CONFIGURED)

    values = update(program)

    total = values.pop("loss")
    of_groups = {"state_loss", "retrieval_loss"}  # which one text alone has none of
    assert values.keys() == WEIGHTS.keys() - (of_groups if num_instances == 1 else set())
    assert all(value > 0 for value in values.values())
    expected = sum(WEIGHTS[name] * value for name, value in values.items())
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_parts", [2, 3])
@pytest.mark.parametrize("freezes", [False, True])
def test_every_part_of_the_loss_has_its_gradients_in_parts(
    make_program, make_model, monkeypatch, num_parts, freezes
):
    gradients = []

    def keep(optimizer):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients.append([None if p.grad is None else p.grad.clone() for p in parameters])

    monkeypatch.setattr("trainers.phases.pretrain.clip_and_step", keep)
    programs = [make_program(teacher=make_model(dtype=torch.float32), **CONFIGURED) for _ in "ab"]
    programs[1].precision = replace(CPU, num_parts=num_parts)
    for program in programs:
        program.model.embeddings.tokens.weight.requires_grad_(not freezes)

    losses = [update(program) for program in programs]

    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert any(gradient is not None for gradient in gradients[0])
    for one, many in zip(*gradients, strict=True):
        torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-4)


def test_retrieval_asks_for_the_tokens_under_the_masks(make_program, monkeypatch):
    seen = []

    def remember(model, head, states, batch, slots, vocabulary):
        seen.append((batch, slots))
        return slot_loss(model, head, states, batch, slots, vocabulary)

    monkeypatch.setattr(pretrain, "slot_loss", remember)
    program = make_program(retrieval_weight=0.1, mask_probability=0.9)
    read = remember_batches(program.model)
    update(program)

    ((asked, slots),) = seen
    groups = program.sampler.groups(0)
    ids = program.corpus.input_ids[groups][..., : asked.input_ids.shape[-1]]
    assert np.array_equal(asked.input_ids.numpy(), ids)
    assert slots.instances.shape[1] == 1
    assert (read[0].input_ids == MASK).any()


def remember_batches(model):
    """Yield the list to which every batch that `model` reads is added."""
    seen = []
    model.embeddings.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize("mlm_weight", [0.0, 1.0])
def test_teacher_and_student_see_the_same_sequences_in_the_same_order(
    make_program, make_model, mlm_weight
):
    teacher = make_model(dtype=torch.float32)
    program = make_program(teacher=teacher, distill_weight=1.0, mlm_weight=mlm_weight)
    students_read, teachers_read = remember_batches(program.model), remember_batches(teacher)

    update(program)

    (students,), (teachers,) = students_read, teachers_read
    assert teachers.input_ids.shape == (16, 1, students.input_ids.shape[-1])
    for name, tensor in vars(students).items():
        assert torch.equal(getattr(teachers, name).flatten(0, 1), tensor.flatten(0, 1))
    ids = program.corpus.input_ids[program.sampler.groups(0)][..., : students.input_ids.shape[-1]]
    is_clean = bool((students.input_ids == torch.from_numpy(ids)).all())
    assert is_clean == (mlm_weight == 0)


def test_states_alone_are_matched_where_no_token_is_to_be_predicted(make_program, make_model):
    teacher = make_model(dtype=torch.float32)

    values = update(make_program(teacher=teacher, distill_weight=2.0, mlm_weight=0.0))

    assert values.keys() == {"loss", "state_loss"}
    assert values["loss"] == pytest.approx(2 * values["state_loss"])


def test_the_plain_model_is_trained_by_masked_words_alone(make_program):
    program = make_program(num_instances=1)

    values = update(program)

    assert values.keys() == {"loss", "mlm_loss"}
    assert values["loss"] == values["mlm_loss"] > 0
    assert program.evaluate() is None


def test_the_loss_is_the_weighted_sum_of_its_parts(make_program, make_model):
    program = make_program(
        teacher=make_model(dtype=torch.float32), detect_weight=0.5, distill_weight=3.0
    )

    values = update(program)

    assert values.keys() == {"loss", "mlm_loss", "detect_loss", "state_loss"}
    expected = values["mlm_loss"] + 0.5 * values["detect_loss"] + 3 * values["state_loss"]
    assert values["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_state_targets_are_what_the_teacher_reads_in_each_sequence_alone(
    make_program, make_model, make_groups
):
    teacher, batch = make_model(dtype=torch.float32), make_groups(2)
    program = make_program(teacher=teacher, distill_weight=1.0)
    states = torch.randn(3, 9, 32)

    with torch.no_grad():
        loss = program._state_loss(teacher, states, batch)
        demuxed = program.model.demux(states)  # (B, T, N, D)

        squares = []
        for g in range(3):
            for i in range(2):
                num_tokens = int(batch.attention_mask[g, i].sum())
                alone = replace(
                    batch,
                    **{k: t[g : g + 1, i : i + 1, :num_tokens] for k, t in vars(batch).items()},
                )
                target = teacher.encode(alone)[-1][0]
                error = demuxed[g, :num_tokens, i] - target
                squares.extend(error.square().mean(dim=-1))
    torch.testing.assert_close(loss, torch.stack(squares).mean(), atol=1e-5, rtol=1e-4)


def test_single_texts_have_no_replaced_words_to_detect(make_program, make_encoded):
    corpus = replace(make_encoded(40), token_type_ids=np.zeros((40, 8), dtype=np.int64))

    values = update(make_program(corpus=corpus, detect_weight=1.0))

    assert values["detect_loss"] == 0
    assert values["loss"] == pytest.approx(values["mlm_loss"])


def test_a_batch_in_which_nothing_is_masked_does_not_end_the_training(make_program):
    values = update(make_program(mask_probability=1e-9))

    assert values["loss"] == 0


def test_half_of_the_texts_are_shown_altered(make_program):
    """All pairs repeat a word between the same neighbours, where five words are plausible."""
    rows = [[2, 5, word, 6, 3, 5, word, 6, 3] for word in (8, 9, 10, 11, 12)] * 40
    types = np.zeros((200, 9), dtype=np.int64)
    types[:, 5:] = 1
    corpus = Encoded(np.array(rows), np.full(200, 9), types)
    program = make_program(
        1, corpus=corpus, detect_weight=1.0, mask_probability=1e-9, num_updates=10
    )

    share = []
    for seed in range(5):
        torch.manual_seed(seed)
        clean = make_batch(corpus, np.arange(200)[:, None], torch.device("cpu"))
        batch, is_changed = program._alter(clean, np.arange(200)[:, None])
        assert torch.equal(is_changed, batch.input_ids != clean.input_ids)
        share.append(float(is_changed.any(dim=-1).double().mean()))

    assert program.altered.is_changed.any(axis=1).all()
    assert np.mean(share) == pytest.approx(0.5, abs=0.05)
    assert update(program)["detect_loss"] > 0
