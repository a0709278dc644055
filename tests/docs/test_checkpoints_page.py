"""The examples of docs/checkpoints.md, run on tiny models with the names that the page uses."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published_checkpoints import published_weights, write_published
from small_encoders import SMALL
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import RobertaConfig, RobertaModel
from transformers.utils import logging

from trainers.config import ModelConfig
from trainers.models.checkpoints import save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import load_source
from trainers.special_tokens import BERT_TOKENS

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
}


def run(name: str) -> None:
    found = re.search(rf"<!-- run: {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"the page has no block {name}"
    exec(compile(found[1], f"docs/checkpoints.md: {name}", "exec"), {})


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logging.disable_progress_bar()
    torch.manual_seed(0)


def make_tokenizer() -> Tokenizer:
    words = [*BERT_TOKENS.as_tuple(), "a", "film", "it", "was", "no"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(BERT_TOKENS.as_tuple()))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def test_the_example_for_transformers_classifies_each_text(capsys):
    shape = replace(SMALL, vocab_size=50)
    save_model(MuxedBert(shape), Path("model"), make_tokenizer())

    run("transformers")

    assert len(re.findall(r"'label': '(?:bad|good)'", capsys.readouterr().out)) == 3


def test_the_example_for_an_encoder_widens_it(capsys):
    RobertaModel(RobertaConfig(**SIZES, type_vocab_size=1)).save_pretrained("roberta")

    run("encoder")

    assert capsys.readouterr().out == "5 32\n"


def test_the_example_for_published_weights_converts_them(capsys):
    for num_instances in (2, 5):
        directory = Path(f"published/n{num_instances}")
        directory.mkdir(parents=True)
        weights = published_weights(num_instances)
        write_published(weights, directory)
        torch.save(weights, directory / "pytorch_model.bin")
        (directory / "model.safetensors").unlink()

    run("published")

    assert capsys.readouterr().out == "2 0.0\n5 0.0\n"
    model = load_source(
        ModelConfig(wide_source="muxbert/n{N}", demux_norm="published", num_demux_layers=3), 5
    )
    assert torch.equal(model.sequence_head.output.weight, weights["classifier.weight"])
