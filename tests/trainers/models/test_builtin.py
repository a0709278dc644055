"""The small model that ships with the package."""

import json

import pytest
import torch

from trainers.config import ModelConfig
from trainers.data.builtin import vocabulary
from trainers.data.encoding import special_ids
from trainers.models.sources import (
    builtin_directory,
    builtin_widths,
    has_pretrained_width,
    load_source,
    load_tokenizer,
    source_fingerprint,
)
from trainers.pretraining import RECIPE_FILE, BuiltinRecipe

BUILTIN = ModelConfig()
PACKAGE_LIMIT_MB = 12
OTHER_WEIGHTS = [
    {"multiplexer": "contextual"},
    {"demultiplexer": "index_prefix"},
    {"demux_norm": "published"},
    {"num_demux_layers": 3},
]


def test_the_built_in_model_ships_in_the_widths_of_the_default_search():
    assert builtin_widths() == (1, 2, 5, 10)
    assert all(has_pretrained_width(BUILTIN, n) for n in (1, 2, 5, 10))
    assert not has_pretrained_width(BUILTIN, 3)


@pytest.mark.parametrize("num_instances", [1, 2, 5, 10])
def test_each_built_in_width_loads_with_finite_weights(num_instances):
    model = load_source(BUILTIN, num_instances)

    assert model.shape.num_instances == num_instances
    assert model.shape == load_source(BUILTIN, 1).shape.dense(num_instances)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("num_instances", [1, 5, 10])
def test_the_shipped_weights_were_made_by_the_command_s_recipe(num_instances):
    """N = 2 is older than the recipe; its own file says what it was made with."""
    path = builtin_directory(num_instances) / RECIPE_FILE

    assert json.loads(path.read_text()) == BuiltinRecipe().describe(num_instances)


def test_a_width_that_does_not_ship_starts_from_the_plain_model():
    model = load_source(BUILTIN, 3)

    assert model.shape.num_instances == 3
    assert torch.equal(
        model.embeddings.tokens.weight, load_source(BUILTIN, 1).embeddings.tokens.weight
    )
    assert source_fingerprint(BUILTIN, 3) == source_fingerprint(BUILTIN, 1)


@pytest.mark.parametrize("changes", OTHER_WEIGHTS)
def test_a_width_that_ships_with_other_weights_starts_from_the_plain_model(changes):
    config = ModelConfig(**changes)

    assert not has_pretrained_width(config, 2)
    assert has_pretrained_width(config, 1)
    assert source_fingerprint(config, 2) == source_fingerprint(BUILTIN, 1)
    assert load_source(config, 2).shape == load_source(config, 1).shape.dense(2)
    assert load_source(config, 2).shape != load_source(BUILTIN, 2).shape


def test_learned_keys_go_on_from_the_width_that_ships():
    config = ModelConfig(multiplexer="learned_hadamard")

    learned, fixed = load_source(config, 2).state_dict(), load_source(BUILTIN, 2).state_dict()

    assert has_pretrained_width(config, 2)
    assert all(torch.equal(learned[name], tensor) for name, tensor in fixed.items())


def test_built_in_widths_are_different_models():
    assert len({source_fingerprint(BUILTIN, n) for n in (1, 2, 5, 10)}) == 4


def test_the_built_in_tokenizer_knows_every_word_of_the_built_in_data():
    tokenizer = load_tokenizer("builtin")
    unknown = tokenizer.token_to_id("[UNK]")

    assert special_ids(tokenizer) == tuple(range(5))
    assert all(unknown not in tokenizer.encode(word).ids for word in vocabulary())
    assert tokenizer.get_vocab_size() == load_source(BUILTIN, 1).shape.vocab_size


def test_the_built_in_model_is_small_enough_for_a_package():
    found = builtin_directory(1).parent.rglob("*.safetensors")

    assert sum(path.stat().st_size for path in found) < PACKAGE_LIMIT_MB * 2**20
