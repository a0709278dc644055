import json
from dataclasses import replace

import pytest
import torch

from trainers.data.builtin import unlabelled_texts
from trainers.data.encoding import special_ids
from trainers.errors import CheckpointError
from trainers.models.checkpoints import load_model, read_tensors
from trainers.models.sources import load_tokenizer
from trainers.phase_config import PretrainConfig, PrimeConfig
from trainers.pretraining import VOCAB_SIZE, BuiltinRecipe, pretrain_builtin

RECIPE = BuiltinRecipe(
    num_texts=300,
    num_layers=2,
    hidden_size=32,
    feedforward_size=64,
    pretrain=PretrainConfig(num_updates=3, batch_size=8, detect_weight=1.0),
    prime=PrimeConfig(num_updates=3, batch_size=8),
    widen=PretrainConfig(num_updates=3, batch_size=8, detect_weight=1.0, distill_weight=2.0),
    sharpen=PretrainConfig(num_updates=3, batch_size=8, detect_weight=4.0, distill_weight=0.0),
)

PHASES = ["n1-pretrain", "n2-prime", "n2-widen", "n2-sharpen"]


class KilledError(Exception):
    """Stands for a killed process."""


def ignore(name, value, step):
    """Report to nobody."""


def take_tokenizer(made, directory):
    """Learning a tokenizer breaks ties by chance, so runs that are compared share one."""
    (directory / "n1").mkdir()
    path = directory / "n1" / "tokenizer.json"
    path.write_text((made / "n1" / "tokenizer.json").read_text())


@pytest.fixture(scope="module")
def events():
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory, events):
    """A tiny built-in model of two widths."""
    directory = tmp_path_factory.mktemp("builtin")
    pretrain_builtin(directory, (2,), RECIPE, lambda *event: events.append(event))
    return directory


def test_every_width_is_made_from_the_plain_model_first(made, events):
    assert {path.name for path in made.iterdir()} == {"n1", "n2", "phases"}
    started = [name for name, _, _ in events if name.endswith("/total")]
    assert started == [f"{name}/total" for name in PHASES]


@pytest.mark.parametrize("num_instances", [1, 2])
def test_each_width_is_a_model_of_the_recipe_s_size(made, num_instances):
    shape = load_model(made / f"n{num_instances}").shape

    assert shape.num_instances == num_instances
    assert (shape.hidden_size, shape.head_size, shape.max_positions) == (32, 8, 32)
    assert (shape.head_counts, shape.feedforward_sizes) == ((4, 4), (64, 64))
    assert shape.embed_mode == "single_pass"


def test_weights_are_stored_in_half_precision(made):
    for width in ("n1", "n2"):
        tensors = read_tensors(made / width / "model.safetensors")
        assert {t.dtype for t in tensors.values()} == {torch.float16}


def test_the_recipe_is_written_beside_the_weights(made):
    recipe = json.loads((made / "n2" / "recipe.json").read_text())

    assert recipe == RECIPE.describe(2)
    assert recipe["widen"]["num_updates"] == 3
    assert recipe["seed"] == 0


@pytest.mark.parametrize(
    ("num_instances", "phases"),
    [(1, ["pretrain"]), (2, ["prime", "widen", "sharpen"]), (5, ["prime"])],
)
def test_a_recipe_describes_the_phases_of_a_width_alone(num_instances, phases):
    assert list(RECIPE.schedules(num_instances)) == phases
    described = RECIPE.describe(num_instances)
    assert sorted(k for k, v in described.items() if isinstance(v, dict)) == sorted(phases)


def test_a_width_that_is_not_compared_is_primed_alone(made, tmp_path):
    take_tokenizer(made, tmp_path)
    seen = []

    pretrain_builtin(tmp_path, (3,), RECIPE, lambda *event: seen.append(event[0]))

    started = [name for name in seen if name.endswith("/total")]
    assert started == ["n1-pretrain/total", "n3-prime/total"]
    assert load_model(tmp_path / "n3").shape.num_instances == 3


def test_the_plain_model_brings_the_tokenizer(made):
    tokenizer = load_tokenizer(str(made / "n1"))

    assert tokenizer.get_vocab_size() == load_model(made / "n2").shape.vocab_size
    assert not (made / "n2" / "tokenizer.json").exists()


def test_nothing_unfinished_is_left(made):
    assert not list(made.rglob("*.progress.*"))
    assert not list(made.rglob("*.partial"))


def test_finished_widths_are_left_alone(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.*")}

    pretrain_builtin(made, (1, 2), RECIPE, pytest.fail)

    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.*")} == before


@pytest.mark.parametrize("killed", PHASES)
def test_a_killed_pretraining_ends_with_the_bits_of_an_undisturbed_one(made, tmp_path, killed):
    def kill(name, value, step):
        if name == f"{killed}/step" and step == 2:
            raise KilledError

    take_tokenizer(made, tmp_path)
    with pytest.raises(KilledError):
        pretrain_builtin(tmp_path, (2,), RECIPE, kill)
    seen = []

    pretrain_builtin(tmp_path, (2,), RECIPE, lambda *event: seen.append(event[0]))

    started = [name for name in seen if name.endswith("/total")]
    assert started == [f"{name}/total" for name in PHASES[PHASES.index(killed) :]]
    for width in ("n1", "n2"):
        before, after = (read_tensors(d / width / "model.safetensors") for d in (made, tmp_path))
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(("seed", "is_same"), [(0, True), (1, False)])
def test_the_seed_decides_the_weights(made, tmp_path, seed, is_same):
    take_tokenizer(made, tmp_path)

    pretrain_builtin(tmp_path, (1,), replace(RECIPE, seed=seed), ignore)

    first, second = (
        load_model(d / "n1").encoder.layers[0].feedforward.input.weight for d in (made, tmp_path)
    )
    assert torch.equal(first, second) == is_same


def test_a_later_run_reads_texts_as_the_first_one_did(made, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.pretraining.train_tokenizer", pytest.fail)
    take_tokenizer(made, tmp_path)

    pretrain_builtin(tmp_path, (1,), RECIPE, ignore)

    vocabularies = [load_tokenizer(str(d / "n1")).get_vocab() for d in (made, tmp_path)]
    assert vocabularies[0] == vocabularies[1]


def test_a_damaged_finished_phase_is_refused(tmp_path):
    (tmp_path / "phases").mkdir()
    (tmp_path / "phases" / "n1-pretrain.safetensors").write_bytes(b"junk")

    with pytest.raises(CheckpointError, match=r"n1-pretrain\.safetensors` cannot be read"):
        pretrain_builtin(tmp_path, (1,), RECIPE, ignore)


def test_the_tokenizer_knows_every_word_of_the_texts(tokenizer):
    texts = unlabelled_texts(500, 1)
    unknown = tokenizer.token_to_id("[UNK]")

    for text in texts:
        assert unknown not in tokenizer.encode(*text).ids


def test_the_tokenizer_frames_texts_and_pairs_as_bert_does(tokenizer):
    single, pair = tokenizer.encode("the film"), tokenizer.encode("the film", "the film")

    assert single.tokens[0] == "[CLS]"
    assert single.tokens[-1] == "[SEP]"
    assert pair.tokens == [*single.tokens, *single.tokens[1:]]
    second = len(single.tokens) - 1
    assert pair.type_ids == [0] * (second + 1) + [1] * second


def test_the_tokenizer_s_special_tokens_come_first(tokenizer):
    assert special_ids(tokenizer) == tuple(range(5))
    assert tokenizer.get_vocab_size() <= VOCAB_SIZE
