"""Checkpoints of transformers against the forward pass of transformers."""

import pytest
import torch
import transformers

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.batch import Batch
from trainers.models.checkpoints import save_tensors
from trainers.models.sources import load_source, load_stored

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
DISTILBERT_SIZES = {
    "vocab_size": 100,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 16,
}
ROBERTA_SIZES = {**SIZES, "max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1}
FAMILIES = {
    "Bert": SIZES,
    "Roberta": ROBERTA_SIZES,
    "XLMRoberta": ROBERTA_SIZES,
    "Camembert": ROBERTA_SIZES,
    "Electra": {**SIZES, "embedding_size": 32},
    "DistilBert": DISTILBERT_SIZES,
}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    transformers.utils.logging.disable_progress_bar()


def make_foreign(family, kind, directory, **changes):
    """A random model of transformers, saved; biases and norms are random, too."""
    config = getattr(transformers, f"{family}Config")(**{**FAMILIES[family], **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}{kind}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_equal_those_of_transformers(family, make_groups, tmp_path):
    theirs = make_foreign(family, "Model", tmp_path)
    batch = make_groups(length=12, num_groups=6)
    is_real, pad = batch.attention_mask[:, 0], theirs.config.pad_token_id
    ids = batch.input_ids[:, 0].masked_fill(~is_real, pad)

    ours = load_source(ModelConfig(source=str(tmp_path)), 1)

    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=is_real.long()).last_hidden_state
        types = torch.zeros_like(ids)[:, None]
        found = ours.encode(Batch(ids[:, None], is_real[:, None], types))[-1]
    assert not is_real.all()
    torch.testing.assert_close(found[is_real], expected[is_real], atol=1e-5, rtol=1e-5)
    assert ours.shape.max_positions == 16


@pytest.mark.parametrize("family", ["Roberta", "DistilBert"])
def test_families_without_segments_ignore_them(family, make_groups, tmp_path):
    make_foreign(family, "Model", tmp_path)
    batch = make_groups()

    model = load_source(ModelConfig(source=str(tmp_path)), 1)

    with torch.no_grad():
        marked = model(batch)
        unmarked = model(
            Batch(batch.input_ids, batch.attention_mask, torch.zeros_like(batch.input_ids))
        )
    assert batch.token_type_ids.any()
    assert torch.equal(marked, unmarked)


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_classifiers_equal_those_of_transformers(family, make_groups, tmp_path):
    names = {0: "bad", 1: "fair", 2: "good"}
    theirs = make_foreign(family, "ForSequenceClassification", tmp_path, id2label=names)
    batch = make_groups()
    is_real, pad = batch.attention_mask[:, 0], theirs.config.pad_token_id
    ids = batch.input_ids[:, 0].masked_fill(~is_real, pad)
    types = batch.token_type_ids[:, 0] * (family == "Bert")

    ours = load_stored(ModelConfig(source=str(tmp_path)))

    with torch.no_grad():
        found = ours(Batch(ids[:, None], is_real[:, None], types[:, None]))[:, 0]
        expected = theirs(ids, attention_mask=is_real.long(), token_type_ids=types).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert ours.shape.labels == ("bad", "fair", "good")


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("Bert", "ForMaskedLM"),
        ("Bert", "ForQuestionAnswering"),
        ("Roberta", "ForMaskedLM"),
        ("Electra", "ForSequenceClassification"),
        ("Electra", "ForPreTraining"),
        ("DistilBert", "ForSequenceClassification"),
        ("DistilBert", "ForMaskedLM"),
    ],
)
def test_heads_of_other_kinds_are_left_aside(family, kind, tmp_path):
    theirs = make_foreign(family, kind, tmp_path)
    table = theirs.get_input_embeddings().weight

    ours = load_source(ModelConfig(source=str(tmp_path)), 1)

    assert torch.equal(ours.embeddings.tokens.weight, table)
    assert ours.sequence_head.output.bias.count_nonzero() == 0  # new


def test_names_of_the_first_checkpoints_are_understood(tmp_path):
    theirs = make_foreign("Bert", "Model", tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in theirs.state_dict(prefix="bert.").items()
    }
    expected = load_source(ModelConfig(source=str(tmp_path)), 1).state_dict()

    save_tensors(old, tmp_path / "model.safetensors", {})

    found = load_source(ModelConfig(source=str(tmp_path)), 1).state_dict()
    assert sum("gamma" in name for name in old) == 7
    encoder = [name for name in expected if name.startswith(("embeddings.", "encoder."))]
    assert all(torch.equal(found[name], expected[name]) for name in encoder)


def test_an_electra_with_narrow_embeddings_is_refused(tmp_path):
    make_foreign("Electra", "Model", tmp_path, embedding_size=16)

    message = r"`electra` model: .*2 unexpected \(embeddings_project\.bias.* of another size"
    with pytest.raises(CheckpointError, match=message):
        load_source(ModelConfig(source=str(tmp_path)), 1)
