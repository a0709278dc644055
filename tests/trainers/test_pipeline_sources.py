"""Whole trainings that start from checkpoints of transformers."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published_checkpoints import published_weights, write_published
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig
from typer.testing import CliRunner

import trainers.models.hugging_face  # noqa: F401, registers its classes
from autoprumux.cli.main import app
from trainers.config import ModelConfig
from trainers.data.builtin import unlabelled_texts
from trainers.errors import CheckpointError
from trainers.models.checkpoints import load_model, save_model
from trainers.models.sources import load_source, load_stored
from trainers.pipeline import Trainer
from trainers.pretraining import train_tokenizer


@pytest.fixture(scope="module")
def distilbert_directory(tokenizer, tmp_path_factory):
    from transformers import DistilBertModel, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("distilbert")
    torch.manual_seed(0)
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    config = DistilBertConfig(
        vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=32, **sizes
    )
    DistilBertModel(config).save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_a_checkpoint_of_another_family_is_trained_and_opens_in_transformers(
    train, config, tmp_path, request, family
):
    source = request.getfixturevalue(f"{family}_directory")
    config = replace(config, model=ModelConfig(source=str(source)), task="qnli")

    result = train(config, tmp_path, 2, 0.5)

    assert result.accuracy.num_examples == 83
    ours = load_model(Path(result.checkpoint))
    assert ours.shape.sparsity == pytest.approx(0.5, abs=0.02)
    rows = AutoTokenizer.from_pretrained(result.checkpoint)(
        ["who made it", "who"],
        ["the actors made the film", "it"],
        padding=True,
        return_tensors="pt",
    )
    pad = {"roberta": 1, "distilbert": 0}[family]
    assert rows["input_ids"][1, -1] == pad
    theirs = AutoModelForSequenceClassification.from_pretrained(result.checkpoint)
    with torch.no_grad():
        assert theirs(**rows).logits.isfinite().all()
    assert theirs.config.num_labels == 2


@pytest.fixture(scope="module")
def published(tokenizer, tmp_path_factory):
    """A folder with a plain model (`n1`), MUX-BERTs for N = 2 and 3, and ours of N = 2."""
    folder, vocab_size = tmp_path_factory.mktemp("published"), tokenizer.get_vocab_size()
    for num_instances in (1, 2, 3):
        directory = folder / f"n{num_instances}"
        directory.mkdir()
        weights = published_weights(num_instances, num_classes=2, vocab_size=vocab_size)
        labels = {"0": "positive", "1": "NEGATIVE"}
        write_published(weights, directory, id2label=labels)
    for name in ("n1", "n2"):
        tokenizer.save(str(folder / name / "tokenizer.json"))
    save_model(load_stored(ModelConfig(source=str(folder / "n2"))), folder / "ours2", tokenizer)
    return folder


@pytest.fixture
def wide_config(config, published):
    """A recipe that takes wide models from their own published checkpoints."""
    words = {"demux_norm": "published", "num_demux_layers": 3}
    model = ModelConfig(source=f"{published}/n1", wide_source=f"{published}/n{{N}}", **words)
    return replace(config, model=model)


@pytest.mark.parametrize("name", ["n{N}", "ours{N}", "n2"])
def test_a_wide_model_starts_from_its_own_checkpoint_already_pretrained(
    train, wide_config, published, cache_dir, name
):
    model = replace(wide_config.model, wide_source=f"{published}/{name}")

    result = train(replace(wide_config, model=model), cache_dir, 2, 0.5)

    phases = [phase.name for phase in result.phases]
    assert phases == ["finetune", "finetune", "prune", "finetune_pruned"]  # the plain one teaches
    assert result.sparsity == pytest.approx(0.5, abs=0.02)
    shape = load_model(Path(result.checkpoint)).shape
    assert (shape.num_instances, shape.demux_norm, shape.mask_mode) == (2, "published", "none")
    baseline = train(wide_config, cache_dir, 1, 0.0)
    assert all(phase.is_cached for phase in baseline.phases)  # whatever the wide ones start from


def test_each_width_has_the_weights_of_its_own_checkpoint(wide_config, published):
    for num_instances in (1, 2, 3):
        stored = load_stored(ModelConfig(source=f"{published}/n{num_instances}"))

        model = load_source(wide_config.model, num_instances)

        own = stored.state_dict()
        assert all(torch.equal(t, own[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("words", "width", "message"),
    [
        ({}, 5, r"`model\.wide_source` has no checkpoint for N=5: No model can be .*/n5`"),
        (
            {"wide_source": "PUBLISHED/n2"},
            5,
            r"names `.*/n2` for N=5, but that model multiplexes 2; put `\{N\}`",
        ),
        ({"wide_source": "PUBLISHED/n1"}, 2, r"for N=2, but that model multiplexes 1; put"),
        ({"num_demux_layers": 2}, 2, r"`model\.num_demux_layers` is 2, but .* N=2 has 3"),
        (
            {"source": "PUBLISHED/n2", "wide_source": ""},
            2,
            r"start a model for 1; use a plain .* this one in `model\.wide_source`",
        ),
        (
            {"source": "builtin", "wide_source": "PUBLISHED/n{N}"},
            2,
            r"for N=2 has `num_layers` 3, that in `builtin` 4; use plain and wide models of one",
        ),
    ],
)
def test_widths_without_a_checkpoint_of_theirs_are_refused_before_training(
    train, wide_config, published, tmp_path, words, width, message
):
    words = {key: str(word).replace("PUBLISHED", str(published)) for key, word in words.items()}
    words |= {"num_demux_layers": int(words.get("num_demux_layers", 3))}
    config = replace(wide_config, model=replace(wide_config.model, **words))

    with pytest.raises(CheckpointError, match=message):
        Trainer(config, shared_seed=0, cache_dir=tmp_path).check([0.0], [1, width])
    with pytest.raises(CheckpointError, match=message):
        train(config, tmp_path, width, 0.5)
    assert not list(tmp_path.iterdir())


def test_wide_checkpoints_of_another_vocabulary_are_refused(wide_config, published, tmp_path):
    other = tmp_path / "n2"
    shutil.copytree(published / "n2", other)
    train_tokenizer(unlabelled_texts(200, 1)).save(str(other / "tokenizer.json"))
    model = replace(wide_config.model, wide_source=str(other))
    trainer = Trainer(replace(wide_config, model=model), shared_seed=0, cache_dir=tmp_path)

    with pytest.raises(CheckpointError, match=r"n2` and `.*n1` have different tokens"):
        trainer.check([0.0], [1, 2])


STUDY = """
task = "sst2"
search = {{ budget = "50", widths = [1, 2], sparsities = [0, 0.5], max_trials = 2 }}

[trainer.data]
num_train = 200
num_validation = 60
num_held_out = 32

[trainer.model]
source = "{folder}/n1"
demux_norm = "published"
num_demux_layers = 3
{phases}

[trainer.throughput]
batch_size = 4
num_repeats = 2
num_warmup = 1
"""
PHASES = ("finetune", "finetune_pruned", "prune")


def test_a_search_takes_up_wide_checkpoints(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = "num_updates = 30\nbatch_size = 8"
    phases = "\n".join(f"[trainer.{name}]\n{sizes}" for name in PHASES)
    phases += "\ngate_learning_rate = 0.5\ntolerance = 0.3"  # of the last, the pruning
    Path("study.toml").write_text(STUDY.format(folder=published, phases=phases))
    places = ["--storage", "sqlite:///study.db", "--cache-dir", "cache"]
    wide = ["--set", f"trainer.model.wide_source={published}/n{{N}}"]

    result = CliRunner().invoke(app, ["search", "--preset", "study.toml", *places, *wide])

    assert result.exit_code == 0, result.output
    trained = {path.name.rsplit("-", 1)[0] for path in Path("cache").iterdir()}
    assert {"finetune-n1", "finetune-n2"} <= trained
    assert not any(name.startswith(("prime", "pretrain")) for name in trained)
    wide[1] += "x"
    other = ["--study", "other", "--json"]
    refused = CliRunner().invoke(app, ["search", "--preset", "study.toml", *places, *wide, *other])
    assert refused.exit_code == 1
    assert "`trainer.model.wide_source` has no checkpoint for N=2" in refused.stderr
