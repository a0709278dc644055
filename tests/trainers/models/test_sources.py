import json

import pytest
import torch
from tokenizers import Tokenizer, models

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.batch import Batch
from trainers.models.checkpoints import (
    read_tensors,
    save_model,
    save_tensors,
)
from trainers.models.compaction import compact
from trainers.models.sources import (
    has_pretrained_width,
    load_source,
    load_tokenizer,
    source_fingerprint,
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT in the format of transformers, with its directory."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    directory = tmp_path_factory.mktemp("bert")
    model.save_pretrained(directory)
    return model, directory


@pytest.fixture
def bert_copy(bert, tmp_path):
    for path in bert[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_plain_model_equals_the_bert_of_transformers(bert, make_groups):
    theirs, directory = bert
    batch = make_groups(length=12, num_groups=6)

    ours = load_source(ModelConfig(source=str(directory)), 1)

    with torch.no_grad():
        expected = theirs(
            input_ids=batch.input_ids[:, 0],
            attention_mask=batch.attention_mask[:, 0].long(),
            token_type_ids=batch.token_type_ids[:, 0],
        )
        last = ours.encode(batch)[-1]
        pooled = ours.sequence_states(last)[:, 0]
    is_real = batch.attention_mask[:, 0]
    assert not is_real.all()
    torch.testing.assert_close(
        last[is_real], expected.last_hidden_state[is_real], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_instances", [2, 5])
@pytest.mark.parametrize(("embed_mode", "is_bert"), [("single_pass", True), ("two_pass", False)])
def test_equal_texts_under_unit_keys_are_read_as_by_bert_in_a_single_pass_only(
    bert, make_groups, num_instances, embed_mode, is_bert
):
    theirs, directory = bert
    one = make_groups(length=12, num_groups=6)
    ours = load_source(ModelConfig(source=str(directory), embed_mode=embed_mode), num_instances)
    copies = Batch(*(part.expand(-1, num_instances, -1) for part in vars(one).values()))

    with torch.no_grad():
        expected = theirs(
            input_ids=one.input_ids[:, 0],
            attention_mask=one.attention_mask[:, 0].long(),
            token_type_ids=one.token_type_ids[:, 0],
        ).last_hidden_state
        ours.embeddings.mux.keys.fill_(1.0)
        mixed = ours.eval().encode(copies)[-1]

    is_real = one.attention_mask[:, 0]
    gap = (mixed - expected)[is_real].abs().max()
    assert bool(gap < 1e-5) == is_bert
    assert is_bert or gap > 1e-2


def test_a_multiplexed_model_starts_from_the_weights_of_the_plain_one(bert):
    config = ModelConfig(source=str(bert[1]), num_demux_layers=3, embed_mode="single_pass")

    plain, wide = load_source(config, 1).state_dict(), load_source(config, 5).state_dict()

    shared = {name for name in wide if name.startswith(("embeddings", "encoder"))}
    assert shared - set(plain) == {"embeddings.mux.keys"}
    assert torch.equal(wide["embeddings.tokens.weight"], plain["embeddings.tokens.weight"])
    assert "demux.layers.1.weight" in wide
    assert wide["embeddings.mux.keys"].shape == (5, 32)


def test_the_new_weights_of_a_width_follow_from_the_seed(bert):
    config = ModelConfig(source=str(bert[1]))

    loaded = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loaded.append(load_source(config, 2).state_dict())

    first, second, other = loaded
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["embeddings.mux.keys"], other["embeddings.mux.keys"])


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 200])
def test_damaged_weights_of_a_bert_are_refused(bert_copy, content):
    (bert_copy / "model.safetensors").write_bytes(content)

    with pytest.raises(
        CheckpointError, match=r"model\.safetensors` cannot be read as safetensors"
    ):
        load_source(ModelConfig(source=str(bert_copy)), 1)


def test_pickled_weights_are_never_loaded(bert, bert_copy):
    (bert_copy / "model.safetensors").unlink()
    torch.save(bert[0].state_dict(), bert_copy / "pytorch_model.bin")
    config = ModelConfig(source=str(bert_copy))

    message = r"holds no weights \(\*\.safetensors\) but pickled ones.*docs/checkpoints\.md"
    with pytest.raises(CheckpointError, match=message):
        load_source(config, 1)
    with pytest.raises(CheckpointError, match=message):
        source_fingerprint(config, 1)


def test_a_directory_without_any_weights_is_refused(bert_copy):
    (bert_copy / "model.safetensors").unlink()
    config = ModelConfig(source=str(bert_copy))

    message = r"holds no weights \(\*\.safetensors\); name a model directory"
    with pytest.raises(CheckpointError, match=message):
        load_source(config, 1)
    with pytest.raises(CheckpointError, match=message):
        source_fingerprint(config, 1)


@pytest.fixture
def bert_in_parts(bert, tmp_path):
    bert[0].save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    return tmp_path


def test_weights_in_several_files_are_read_together(bert, bert_in_parts):
    whole, parts = (
        load_source(ModelConfig(source=str(path)), 1).encoder.state_dict()
        for path in (bert[1], bert_in_parts)
    )

    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_a_missing_part_of_the_weights_is_refused(bert_in_parts):
    next(bert_in_parts.glob("model-*.safetensors")).unlink()

    with pytest.raises(CheckpointError, match=r"model-\d+.*safetensors` cannot be read"):
        load_source(ModelConfig(source=str(bert_in_parts)), 1)


def test_an_index_without_files_is_refused(bert_in_parts):
    (bert_in_parts / "model.safetensors.index.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"index\.json` has no `weight_map`"):
        load_source(ModelConfig(source=str(bert_in_parts)), 1)


def test_weights_of_fewer_layers_than_described_are_refused(bert_copy):
    tensors = read_tensors(bert_copy / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "layer.2." not in name}
    save_tensors(kept, bert_copy / "model.safetensors", {"format": "pt"})

    with pytest.raises(CheckpointError, match=r": 16 missing \(encoder\.layer\.2\."):
        load_source(ModelConfig(source=str(bert_copy)), 1)


def test_weights_without_a_pooler_are_loaded(bert_copy):
    tensors = read_tensors(bert_copy / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "pooler" not in name}
    save_tensors(kept, bert_copy / "model.safetensors", {"format": "pt"})

    model = load_source(ModelConfig(source=str(bert_copy)), 1)

    assert torch.equal(
        model.embeddings.tokens.weight.detach(), kept["embeddings.word_embeddings.weight"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_size": 64},
            "do not fit its config of a `bert` model: .* of another size .pooler",
        ),
        ({"hidden_size": "wide"}, "No model can be loaded"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"model_type": "mpnet"}, "is a `mpnet` model; those of the families bert, roberta, "),
        ({"position_embedding_type": "relative_key"}, "has the kind of positions `relative_key`"),
        ({"hidden_act": "relu"}, "has the activation `relu`; only `gelu` is known"),
    ],
)
def test_a_model_of_another_kind_is_refused(bert_copy, changes, message):
    change_config(bert_copy, **changes)

    with pytest.raises(CheckpointError, match=message):
        load_source(ModelConfig(source=str(bert_copy)), 1)


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    config = ModelConfig(source=str(tmp_path / "nowhere"))

    with pytest.raises(CheckpointError, match=r"No model can be loaded from `.*nowhere`"):
        load_source(config, 1)


def test_a_multiplexed_checkpoint_starts_no_other_width(make_model, tmp_path):
    save_model(make_model(2, dtype=torch.float32), tmp_path)
    config = ModelConfig(source=str(tmp_path))

    assert load_source(config, 2).shape.num_instances == 2
    with pytest.raises(
        CheckpointError, match=r"multiplexes 2 instances and cannot start .* for 5"
    ):
        load_source(config, 5)


@pytest.mark.parametrize("num_instances", [1, 2])
def test_a_pruned_checkpoint_is_refused_as_a_start(
    make_model, make_masks, tmp_path, num_instances
):
    save_model(compact(make_model(), make_masks()).float(), tmp_path)

    with pytest.raises(CheckpointError, match=r"pruned already \(sparsity 0\.\d\d\)"):
        load_source(ModelConfig(source=str(tmp_path)), num_instances)


def test_only_plain_models_of_a_directory_count_as_pretrained(tmp_path):
    config = ModelConfig(source=str(tmp_path))

    assert has_pretrained_width(config, 1)
    assert not has_pretrained_width(config, 2)


def test_the_fingerprint_follows_the_weights(make_model, tmp_path):
    config = ModelConfig(source=str(tmp_path))
    fingerprints = []
    for seed in (0, 0, 1):
        save_model(make_model(seed=seed, dtype=torch.float32), tmp_path)
        fingerprints.append(source_fingerprint(config, 1))

    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert fingerprints[0].startswith("files:")


def test_an_id_of_the_hub_is_its_own_fingerprint():
    assert source_fingerprint(ModelConfig(source="some/model"), 1) == "hub:some/model"


def test_a_tokenizer_comes_back_as_it_was_saved(make_model, tmp_path):
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))

    save_model(make_model(dtype=torch.float32), tmp_path, tokenizer)

    assert load_tokenizer(str(tmp_path)).to_str() == tokenizer.to_str()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_tokenizer_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer(str(tmp_path))


def test_a_directory_without_a_tokenizer_is_refused(make_model, tmp_path):
    save_model(make_model(dtype=torch.float32), tmp_path)

    with pytest.raises(
        CheckpointError, match=f"No tokenizer of the BERT or RoBERTa family in `{tmp_path}`"
    ):
        load_tokenizer(str(tmp_path))
