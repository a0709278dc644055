"""Whole trainings that start from checkpoints of transformers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig

import trainers.models.hugging_face  # noqa: F401, registers its classes
from trainers.config import ModelConfig
from trainers.models.checkpoints import load_model


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
