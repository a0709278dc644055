import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from trainers.data.encoding import encode, special_ids
from trainers.errors import CheckpointError
from trainers.models.sources import load_tokenizer
from trainers.special_tokens import BERT_TOKENS, ROBERTA_TOKENS, special_tokens

SINGLE = [("the film was good",), ("it",), ("a much longer text about the film",)]
PAIRS = [("a film", "it was good and long"), ("a long text about the film", "no"), ("it", "it")]


@pytest.mark.parametrize("texts", [SINGLE, PAIRS])
@pytest.mark.parametrize("max_length", [16, 64])
def test_texts_of_roberta_are_encoded_and_padded_as_transformers_does(
    roberta_directory, texts, max_length
):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(roberta_directory)

    encoded = encode(load_tokenizer(str(roberta_directory)), texts, max_length)

    rows = theirs(
        *map(list, zip(*texts, strict=True)),
        padding=True,
        truncation="longest_first",
        max_length=max_length,
        return_tensors="np",
    )
    assert np.array_equal(encoded.input_ids, rows["input_ids"])
    assert np.array_equal(encoded.lengths, rows["attention_mask"].sum(axis=1))
    assert not encoded.token_type_ids.any()
    assert (encoded.input_ids == 1).any()  # <pad>


def test_padding_has_the_id_of_the_padding_token(tokenizer):
    described = json.loads(tokenizer.to_str())
    vocabulary = described["model"]["vocab"]
    swapped = {"[PAD]": vocabulary["[MASK]"], "[MASK]": vocabulary["[PAD]"]}
    vocabulary.update(swapped)
    for token in described["added_tokens"]:
        token["id"] = swapped.get(token["content"], token["id"])

    encoded = encode(Tokenizer.from_str(json.dumps(described)), SINGLE, 16)

    is_padding = np.arange(encoded.input_ids.shape[1]) >= encoded.lengths[:, None]
    assert is_padding.any()
    assert set(encoded.input_ids[is_padding]) == {swapped["[PAD]"]}
    assert swapped["[PAD]"] != 0


def test_special_tokens_are_found_by_their_spelling(tokenizer, roberta_directory):
    roberta = load_tokenizer(str(roberta_directory))

    assert special_tokens(tokenizer) == BERT_TOKENS
    assert special_tokens(roberta) == ROBERTA_TOKENS
    assert special_ids(roberta) == (1, 3, 0, 2, roberta.token_to_id("<mask>"))


@pytest.mark.parametrize("missing", ["[PAD]", "[CLS]"])
def test_a_tokenizer_without_a_token_that_every_text_needs_is_refused(tokenizer, missing):
    described = json.loads(tokenizer.to_str())
    del described["model"]["vocab"][missing]
    described["added_tokens"] = [t for t in described["added_tokens"] if t["content"] != missing]
    described["post_processor"] = None

    message = rf"The tokenizer lacks \{missing[:-1]}\]; one of the BERT or RoBERTa family"
    with pytest.raises(CheckpointError, match=message):
        encode(Tokenizer.from_str(json.dumps(described)), SINGLE, 16)
