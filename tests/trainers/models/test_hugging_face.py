import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers.utils import logging

from trainers.data.encoding import encode
from trainers.errors import CheckpointError, ShapeError
from trainers.models.batch import Batch
from trainers.models.checkpoints import load_model, read_tensors, save_model, save_tensors
from trainers.models.compaction import compact
from trainers.models.hugging_face import MuxedBertConfig, MuxedBertForSequenceClassification
from trainers.models.muxed_bert import MuxedBert

LABELS = ("no", "perhaps", "yes")


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


@pytest.fixture
def make_directory(make_model, make_masks, tmp_path):
    def build(num_instances, *, is_compacted=False, **changes):
        model = make_model(num_instances, labels=LABELS, num_classes=3, **changes)
        if is_compacted:
            model = compact(model, make_masks(soft=True))
        save_model(model.float(), tmp_path / "model")
        return tmp_path / "model"

    return build


def flat_rows(make_groups, num_rows):
    batch = make_groups(num_groups=num_rows)
    return {
        "input_ids": batch.input_ids[:, 0],
        "attention_mask": batch.attention_mask[:, 0].long(),
        "token_type_ids": batch.token_type_ids[:, 0],
    }


def grouped_logits(model: MuxedBert, rows) -> torch.Tensor:
    """Group by hand: N after N, and the first rows again where the last group has a gap."""
    num_rows, num_instances = len(rows["input_ids"]), model.shape.num_instances
    groups, order = [], list(range(num_rows))
    while order:
        groups.append((order + list(range(num_rows)) * num_instances)[:num_instances])
        order = order[num_instances:]
    ids, mask, types = (
        torch.stack([rows[name][group] for group in groups])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    with torch.no_grad():
        return model(Batch(ids, mask.bool(), types)).flatten(0, 1)[:num_rows]


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize("num_instances", [1, 2, 5])
def test_transformers_loads_a_directory_with_bit_identical_logits(
    make_directory, make_groups, num_instances, is_compacted
):
    directory = make_directory(num_instances, is_compacted=is_compacted)
    rows = flat_rows(make_groups, 7)

    model = AutoModelForSequenceClassification.from_pretrained(directory)

    assert isinstance(model, MuxedBertForSequenceClassification)
    assert not model.training
    with torch.no_grad():
        logits = model(**rows).logits
    assert logits.shape == (7, 3)
    assert torch.equal(logits, grouped_logits(load_model(directory), rows))


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize("num_instances", [1, 2, 5])
def test_a_model_saved_by_transformers_comes_back_on_both_sides(
    make_directory, make_groups, tmp_path, num_instances, is_compacted
):
    directory = make_directory(num_instances, is_compacted=is_compacted)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    rows = flat_rows(make_groups, 7)

    model.save_pretrained(tmp_path / "again")

    ours, first = load_model(tmp_path / "again"), load_model(directory)
    assert ours.shape == first.shape
    before, after = first.state_dict(), ours.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(theirs(**rows).logits, model(**rows).logits)


@pytest.mark.parametrize(
    "changes",
    [
        {"embed_mode": "single_pass"},
        {"multiplexer": "learned_hadamard"},
        {"multiplexer": "contextual"},
        {"demux_norm": "published", "num_demux_layers": 3},
        {"demultiplexer": "index_prefix"},
    ],
)
def test_every_way_to_multiplex_is_loaded_and_as_trainable_as_before(
    make_directory, make_groups, changes
):
    directory, rows = make_directory(2, **changes), flat_rows(make_groups, 3)

    model = AutoModelForSequenceClassification.from_pretrained(directory)

    ours = load_model(directory)
    with torch.no_grad():
        assert torch.equal(model(**rows).logits, grouped_logits(ours, rows))
    expected = {name: p.requires_grad for name, p in ours.named_parameters()}
    assert {name: p.requires_grad for name, p in model.muxed.named_parameters()} == expected


@pytest.mark.parametrize("num_rows", [1, 4, 5, 6, 12])
def test_every_row_gets_its_logits_whatever_the_remainder(make_directory, make_groups, num_rows):
    directory = make_directory(5)
    rows = flat_rows(make_groups, num_rows)

    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(directory)(**rows).logits

    assert torch.equal(logits, grouped_logits(load_model(directory), rows))


def test_rows_influence_their_own_group_only(make_directory, make_groups):
    model = AutoModelForSequenceClassification.from_pretrained(make_directory(2))
    rows = flat_rows(make_groups, 6)
    changed = {**rows, "input_ids": rows["input_ids"].clone()}
    changed["input_ids"][2] = 10

    with torch.no_grad():
        is_same = (model(**rows).logits == model(**changed).logits).all(dim=1)

    assert is_same.tolist() == [True, True, False, False, True, True]


def test_without_mask_and_types_all_tokens_are_real_and_of_the_first_type(
    make_directory, make_groups
):
    model = AutoModelForSequenceClassification.from_pretrained(make_directory(2))
    ids = flat_rows(make_groups, 4)["input_ids"]

    with torch.no_grad():
        bare = model(ids).logits
        full = model(ids, torch.ones_like(ids), torch.zeros_like(ids)).logits
        other = model(ids, torch.ones_like(ids), torch.ones_like(ids)).logits

    assert torch.equal(bare, full)
    assert not torch.equal(bare, other)


def test_labels_give_the_cross_entropy_and_it_can_be_trained_on(make_directory, make_groups):
    model = AutoModelForSequenceClassification.from_pretrained(make_directory(2))
    rows, labels = flat_rows(make_groups, 5), torch.tensor([0, 1, 2, 0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    output = model(**rows, labels=labels)
    output.loss.backward()
    optimizer.step()

    assert output.loss == F.cross_entropy(output.logits, labels)
    assert model(**rows, labels=labels).loss < output.loss


def test_a_tuple_is_returned_to_those_who_ask_for_one(make_directory, make_groups):
    model = AutoModelForSequenceClassification.from_pretrained(make_directory(2))
    rows, labels = flat_rows(make_groups, 2), torch.tensor([0, 1])

    loss, logits = model(**rows, labels=labels, return_dict=False)

    assert loss.shape == ()
    assert logits.shape == (2, 3)


def test_a_batch_without_rows_is_refused(make_directory):
    model = AutoModelForSequenceClassification.from_pretrained(make_directory(2))

    with pytest.raises(ShapeError, match=r"At least 1 sequence is needed .*, got 0\."):
        model(torch.zeros((0, 4), dtype=torch.long))


@pytest.mark.parametrize("name", ["attention_mask", "token_type_ids"])
def test_inputs_of_different_shapes_are_refused(make_directory, name):
    model = AutoModelForSequenceClassification.from_pretrained(make_directory(2))
    ids = torch.full((4, 6), 7)

    with pytest.raises(ShapeError, match=r"must have one shape, got \(4, 6\), .*\(5, 6\)"):
        model(ids, **{name: torch.ones(5, 6, dtype=torch.long)})


def test_labels_have_the_names_of_the_task(make_directory):
    config = AutoConfig.from_pretrained(make_directory(2))

    assert config.id2label == {0: "no", 1: "perhaps", 2: "yes"}
    assert config.label2id == {"no": 0, "perhaps": 1, "yes": 2}
    assert config.num_labels == 3
    assert (config.num_hidden_layers, config.num_attention_heads) == (3, 4)


def test_classes_without_names_are_numbered_and_stay_without(make_model, tmp_path):
    save_model(make_model(dtype=torch.float32), tmp_path)

    config = AutoConfig.from_pretrained(tmp_path)

    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.shape == load_model(tmp_path).shape


def test_new_names_of_the_classes_reach_the_saved_model(make_directory, tmp_path):
    names = {0: "bad", 1: "fair", 2: "good"}

    model = AutoModelForSequenceClassification.from_pretrained(make_directory(1), id2label=names)
    model.save_pretrained(tmp_path / "again")

    assert load_model(tmp_path / "again").shape.labels == ("bad", "fair", "good")


def test_another_number_of_labels_gets_a_new_head_and_keeps_the_rest(make_directory):
    directory = make_directory(2)

    model = AutoModelForSequenceClassification.from_pretrained(
        directory, num_labels=4, ignore_mismatched_sizes=True
    )

    before, after = load_model(directory).state_dict(), model.muxed.state_dict()
    head = {name for name in after if name.startswith("sequence_head.")}
    assert all(torch.equal(after[name], before[name]) for name in after.keys() - head)
    assert after["sequence_head.output.weight"].shape == (4, 32)
    assert 0.01 < after["sequence_head.output.weight"].std() < 0.03
    assert model.config.shape.num_classes == 4


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("embeddings.mux.keys", 0.9, 1.1),
        ("demux.keys", 0.8, 1.2),
        ("encoder.layers.0.feedforward.input.weight", 0.01, 0.03),
    ],
)
def test_weights_that_are_missing_are_drawn_as_new_ones(make_directory, name, low, high):
    directory = make_directory(5)
    tensors = read_tensors(directory / "model.safetensors")
    del tensors[name]
    save_tensors(tensors, directory / "model.safetensors", {"format": "pt"})

    model = AutoModelForSequenceClassification.from_pretrained(directory)

    assert low < model.muxed.get_parameter(name).std() < high
    norms = model.muxed.embeddings.mux.keys.norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 32**0.5))


def test_weights_stored_in_half_precision_are_loaded_in_single(make_model, tmp_path):
    save_model(make_model(2).half(), tmp_path)

    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).dtype == torch.float32
    half = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float16)
    assert half.dtype == torch.float16


def test_a_model_is_built_from_its_config_alone(tiny_shape):
    shape = replace(tiny_shape, num_instances=2, labels=LABELS, num_classes=3)
    torch.manual_seed(0)

    model = AutoModelForSequenceClassification.from_config(MuxedBertConfig(**shape.to_dict()))

    assert model.muxed.shape == shape
    assert model.get_input_embeddings() is model.muxed.embeddings.tokens
    with torch.no_grad():
        assert model(torch.arange(12).view(3, 4)).logits.isfinite().all()


def test_a_config_without_sizes_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "muxed_bert", "vocab_size": 100}')

    with pytest.raises(CheckpointError, match=r"does not fit: .*hidden_size"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_keys_of_our_own_config_are_checked_as_before(make_directory):
    path = make_directory(1) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sise": 3}))

    with pytest.raises(CheckpointError, match=r"does not fit: .*'sise'"):
        load_model(path.parent)


@pytest.fixture
def texts():
    return [("the film was good",), ("it",), ("a plot", "the actors were bad")]


@pytest.fixture
def complete(tiny_shape, tokenizer, tmp_path):
    """Directory of a model for 2 instances with the tokenizer of the built-in texts."""
    torch.manual_seed(0)
    shape = replace(tiny_shape, num_instances=2, vocab_size=tokenizer.get_vocab_size())
    save_model(MuxedBert(replace(shape, labels=LABELS, num_classes=3)), tmp_path, tokenizer)
    return tmp_path


def test_the_tokenizer_of_a_directory_encodes_as_the_trainers_do(complete, tokenizer, texts):
    theirs = AutoTokenizer.from_pretrained(complete)
    single, pairs = texts[:2], texts[2:]

    for group in (single, pairs):
        encoded = encode(tokenizer, group, 16)
        rows = theirs(*map(list, zip(*group, strict=True)), padding=True, return_tensors="np")
        assert np.array_equal(rows["input_ids"], encoded.input_ids)
        assert np.array_equal(rows["token_type_ids"], encoded.token_type_ids)
        assert np.array_equal(rows["attention_mask"].sum(axis=1), encoded.lengths)
    assert theirs.model_max_length == 16
    assert (theirs.pad_token, theirs.mask_token) == ("[PAD]", "[MASK]")


def test_a_pipeline_of_transformers_classifies_texts_and_pairs(complete, tokenizer, texts):
    inputs = [
        {"text": text[0]} if len(text) == 1 else {"text": text[0], "text_pair": text[1]}
        for text in texts
    ]

    found = pipeline("text-classification", model=str(complete))(inputs, batch_size=3)

    encoded = encode(tokenizer, texts, 16)
    lengths = torch.from_numpy(encoded.lengths)[:, None]
    rows = {
        "input_ids": torch.from_numpy(encoded.input_ids),
        "attention_mask": torch.arange(encoded.input_ids.shape[1]) < lengths,
        "token_type_ids": torch.from_numpy(encoded.token_type_ids),
    }
    scores, classes = grouped_logits(load_model(complete), rows).softmax(dim=1).max(dim=1)
    assert [answer["label"] for answer in found] == [LABELS[index] for index in classes]
    torch.testing.assert_close(torch.tensor([answer["score"] for answer in found]), scores)


def test_the_other_modules_of_models_do_not_load_transformers():
    script = "import sys, trainers.models.checkpoints; print('transformers' in sys.modules)"

    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert found.stdout == "False\n"
