from dataclasses import replace

import pytest
import torch

from trainers.config import ModelConfig
from trainers.context import TrainingContext
from trainers.dense import finetuned_stage, with_labels
from trainers.errors import ConfigError
from trainers.models.checkpoints import load_model, read_tensors
from trainers.phase_config import NarrowConfig
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.pretrain import PretrainProgram
from trainers.pipeline import Trainer


@pytest.fixture(scope="module")
def blocks(config):
    """The recipe of the tests with wide models made of blocks."""
    model = replace(config.model, widening="blocks")
    narrow = NarrowConfig(num_updates=4, num_evaluations=2, batch_size=8, learning_rate=1e-3)
    return replace(config, model=model, narrow=narrow)


@pytest.fixture(scope="module")
def result(train, blocks, cache_dir):
    """Result of (2, 0.6), the first candidate in its cache."""
    return train(blocks, cache_dir, 2, 0.6)


def test_a_narrow_model_takes_the_place_of_priming(result):
    names = [phase.name for phase in result.phases]

    assert names == ["finetune", "narrow", "finetune", "prune", "finetune_pruned"]
    assert result.sparsity == pytest.approx(0.6, abs=5e-3)


def test_the_narrow_model_is_an_nth_of_the_plain_one(result, cache_dir):
    (directory,) = cache_dir.glob("narrow-n2-*")

    shape = load_model(directory).shape

    assert shape.num_instances == 1
    assert (shape.hidden_size, *shape.head_counts) == (16, 2, 2)
    assert shape.feedforward_sizes == (32, 32)


def test_a_narrow_model_is_taught_the_layers_that_it_was_cut_from(blocks, cache_dir, result):
    taught = replace(blocks, narrow=replace(blocks.narrow, layer_distill_weight=0.5))
    context = TrainingContext.open(taught, seed=0, cache_dir=cache_dir)
    (narrow,) = (s for s in finetuned_stage(context, 2).needs if s.name == "narrow")

    program, model = narrow.start()

    layers, plain = program.layers, narrow.needs[0].load()
    assert not narrow.is_complete  # another model than the one of `result`
    assert layers.config.layer_alignment == "fixed"
    assert layers.teacher is program.teachers.same_width
    assert plain.state_dict().keys() == layers.teacher.state_dict().keys()
    first = layers.layer_map.weight
    kept = first.nonzero()
    assert first.shape == (32, 16)
    assert kept[:, 1].tolist() == list(range(16))  # each of its dimensions is one of the teacher's
    tokens = layers.teacher.embeddings.tokens.weight[:, kept[:, 0]]
    assert torch.equal(model.embeddings.tokens.weight, tokens)
    before = first.detach().clone()
    program.update(0)
    assert not torch.equal(layers.layer_map.weight, before)


def test_other_sparsities_share_the_wide_model(train, blocks, cache_dir, result):
    dense = train(blocks, cache_dir, 2, 0.0)

    assert [p.name for p in dense.phases if p.is_cached] == ["finetune", "narrow", "finetune"]
    assert dense.sparsity == 0


def test_the_plain_model_is_that_of_any_widening(train, config, cache_dir, blocks, result):
    plain = train(replace(blocks, model=replace(blocks.model, widening="keys")), cache_dir, 1, 0.0)

    assert all(phase.is_cached for phase in plain.phases)


def test_a_width_without_a_head_for_each_instance_is_refused_before_training(blocks, tmp_path):
    trainer = Trainer(blocks, shared_seed=0, cache_dir=tmp_path)

    with pytest.raises(ConfigError, match="the model has 4; N must be at most that, got 5"):
        trainer.train_and_measure(
            num_instances=5, sparsity=0.0, seed=0, report=lambda *event: None
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"multiplexer": "contextual"}, "or `learned_hadamard`, got `contextual`"),
        ({"demultiplexer": "index_prefix"}, "needs `model.demultiplexer` = `rsa`, got `index_pr"),
        ({"demux_norm": "published"}, "needs `model.demux_norm` = `all`, got `published`"),
    ],
)
def test_multiplexing_that_cannot_keep_blocks_apart_is_refused(changes, needed):
    with pytest.raises(ConfigError, match=needed):
        ModelConfig(widening="blocks", **changes)


def test_a_narrow_model_is_trained():
    with pytest.raises(ConfigError, match=r"`narrow\.num_updates` must be at least 1, got 0"):
        NarrowConfig(num_updates=0)


NUMBERED = ("LABEL_0", "LABEL_1", "LABEL_2")
MNLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("own", "labels", "rows"),
    [
        (MNLI, MNLI, [0, 1, 2]),
        (("contradiction", "entailment", "neutral"), MNLI, [1, 2, 0]),
        (("CONTRADICTION", "Neutral", "entailment"), MNLI, [2, 1, 0]),
        (("not-entailment", "entailment"), ("entailment", "not_entailment"), [1, 0]),
        (NUMBERED, MNLI, [0, 1, 2]),
    ],
)
def test_a_classifier_of_the_same_classes_keeps_its_rows(make_model, own, labels, rows):
    model = make_model(num_classes=len(own), labels=own)
    weight, bias = (p.clone() for p in model.sequence_head.output.parameters())

    model = with_labels(model, labels)

    assert (model.shape.labels, model.shape.num_classes) == (labels, len(labels))
    assert torch.equal(model.sequence_head.output.weight, weight[rows])
    assert torch.equal(model.sequence_head.output.bias, bias[rows])
    assert all(p.requires_grad for p in model.sequence_head.parameters())


@pytest.mark.parametrize(
    "own",
    [
        (),  # never trained
        ("bad", "fair", "good"),
        ("entailment", "neutral"),
        ("entailment", "Entailment", "neutral"),
        ("LABEL_0", "LABEL_1"),
        ("LABEL_2", "LABEL_1", "LABEL_0"),
    ],
)
def test_a_classifier_of_other_classes_is_drawn_anew(make_model, own):
    model = make_model(num_classes=len(own) or 3, labels=own)

    model = with_labels(model, MNLI)

    assert (model.shape.labels, model.shape.num_classes) == (MNLI, 3)
    assert model.sequence_head.output.weight.shape == (3, 32)
    assert not model.sequence_head.output.bias.any()


def phases_of(result):
    return [(phase.name, phase.is_cached) for phase in result.phases]


@pytest.mark.parametrize("is_primed", [False, True])
def test_a_fine_tuned_teacher_of_pre_training_is_trained_before_it(
    train, config, tmp_path, monkeypatch, is_primed
):
    taught_by = []

    class Remembering(PretrainProgram):
        def __init__(self, model, head, teacher, *rest, **options):
            taught_by.append({name: t.clone() for name, t in teacher.state_dict().items()})
            super().__init__(model, head, teacher, *rest, **options)

    monkeypatch.setattr("trainers.dense.PretrainProgram", Remembering)
    pretrain = replace(config.pretrain, teacher="finetuned", mlm_weight=0.0, detect_weight=0.0)
    prime = replace(config.prime, num_updates=3 if is_primed else 0)
    finetune = replace(config.finetune, distill_weight=0.0)
    recipe = replace(config, prime=prime, pretrain=pretrain, finetune=finetune)

    result = train(recipe, tmp_path, 2, 0.0)
    source = train(replace(recipe, pretrain=replace(pretrain, teacher="source")), tmp_path, 2, 0.0)

    primed = ["prime"] if is_primed else []
    assert [p.name for p in result.phases] == [*primed, "finetune", "pretrain", "finetune"]
    assert phases_of(source) == [
        *((name, True) for name in primed),
        ("pretrain", False),
        ("finetune", False),
    ]
    (finetuned,) = tmp_path.glob("finetune-n1-*")
    finetuned_state = load_model(finetuned).state_dict()
    assert all(torch.equal(t, finetuned_state[name]) for name, t in taught_by[0].items())
    assert not torch.equal(
        taught_by[1]["sequence_head.output.weight"], taught_by[0]["sequence_head.output.weight"]
    )


def test_a_fine_tuned_teacher_whose_states_do_not_count_is_not_trained(train, config, tmp_path):
    pretrain = replace(config.pretrain, teacher="finetuned", distill_weight=0.0)
    finetune = replace(config.finetune, distill_weight=0.0)

    result = train(replace(config, pretrain=pretrain, finetune=finetune), tmp_path, 2, 0.0)

    assert [phase.name for phase in result.phases] == ["prime", "pretrain", "finetune"]


@pytest.mark.parametrize("num_updates", [0, 3])
def test_retrieval_beside_the_task_goes_on_with_the_head_of_the_phases_before(
    train, config, tmp_path, monkeypatch, num_updates
):
    heads = []
    update = FinetuneProgram.update

    def remember(program, step):
        if step == 0 and "token_head" in program.modules:
            heads.append(program.modules["token_head"].transform.weight.detach().clone())
        return update(program, step)

    monkeypatch.setattr(FinetuneProgram, "update", remember)
    phases = {
        "prime": replace(config.prime, num_updates=num_updates),
        "pretrain": replace(config.pretrain, num_updates=0),
        "finetune": replace(config.finetune, retrieval_weight=0.1),
    }

    result = train(replace(config, **phases), tmp_path, 2, 0.0)

    (head,) = heads  # the N = 1 teacher has none
    if num_updates > 0:
        (primed,) = tmp_path.glob("prime-n2-*")
        stored = read_tensors(primed / "token_head.safetensors")
        assert torch.equal(head, stored["transform.weight"])
    assert any(point.name == "retrieval_loss" for point in result.phases[-1].history)


def test_retrieval_beside_the_task_changes_nothing_of_the_plain_model(train, config, tmp_path):
    train(config, tmp_path, 1, 0.0)

    finetune = replace(config.finetune, retrieval_weight=0.1)
    again = train(replace(config, finetune=finetune), tmp_path, 1, 0.0)

    assert phases_of(again) == [("finetune", True)]
