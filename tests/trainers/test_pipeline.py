import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.config import (
    AccuracyConfig,
    DataConfig,
    FinetuneConfig,
    FinetunePrunedConfig,
    ModelConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
    TaskConfig,
    ThroughputConfig,
    TrainerConfig,
)
from trainers.data.encoding import encode
from trainers.data.load import load_splits
from trainers.data.tasks import find_task
from trainers.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    OutOfMemoryError,
    SparsityError,
)
from trainers.measure.accuracy import predict
from trainers.models.checkpoints import load_model, load_tokenizer, read_tensors, save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.phases.precision import Precision
from trainers.pipeline import cached_widths, check_inputs, train_and_measure

NUM_VALIDATION = 83  # leaves a remainder at every width above 1
MUXED_PHASES = ("prime", "pretrain", "finetune", "finetune")
"""Those of N = 2: the second-last is the N = 1 teacher."""


class KilledError(Exception):
    """Stands for a killed process."""


def ignore(name, value, step):
    """Report to nobody."""


@pytest.fixture(scope="module")
def source(tokenizer, tmp_path_factory) -> Path:
    """A plain model of two layers with the tokenizer of the built-in texts."""
    shape = MuxedBertShape(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        dense_hidden_size=32,
        head_size=8,
        head_counts=(4, 4),
        feedforward_sizes=(64, 64),
        dense_num_heads=4,
        dense_feedforward_size=64,
        max_positions=32,
        embed_mode="single_pass",
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("source")
    save_model(MuxedBert(shape), directory, tokenizer)
    return directory


@pytest.fixture(scope="module")
def config(source) -> TrainerConfig:
    """Few updates of a tiny model; nothing is learned, everything is exercised."""
    size = {"batch_size": 8, "learning_rate": 1e-3}
    return TrainerConfig(
        task="sst2",
        device="cpu",
        data=DataConfig(num_train=256, num_validation=NUM_VALIDATION, num_held_out=32),
        model=ModelConfig(source=str(source)),
        prime=PrimeConfig(num_updates=3, **size),
        pretrain=PretrainConfig(num_updates=3, detect_weight=0.5, **size),
        finetune=FinetuneConfig(num_updates=4, num_evaluations=2, distill_weight=0.5, **size),
        prune=PruneConfig(num_updates=30, gate_learning_rate=0.5, tolerance=0.3, **size),
        finetune_pruned=FinetunePrunedConfig(num_updates=4, num_evaluations=2, **size),
        accuracy=AccuracyConfig(num_compositions=2),
        throughput=ThroughputConfig(batch_size=4, num_repeats=4, num_warmup=1),
        checkpoint_interval_s=1e-6,
    )


def train(config, cache_dir, num_instances, sparsity, *, seed=0, report=ignore):
    return train_and_measure(
        config,
        num_instances=num_instances,
        sparsity=sparsity,
        seed=seed,
        cache_dir=cache_dir,
        report=report,
    )


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def events() -> list[tuple[str, float, int]]:
    """What the training of (2, 0.6) reported."""
    return []


@pytest.fixture(scope="module")
def pruned(config, cache_dir, events):
    """Result of (2, 0.6), the first candidate in its cache."""
    return train(config, cache_dir, 2, 0.6, report=lambda *event: events.append(event))


@pytest.fixture(scope="module")
def baseline(config, cache_dir, pruned):
    """Result of (1, 0), trained after (2, 0.6)."""
    return train(config, cache_dir, 1, 0.0)


def names(result, *, is_cached):
    return tuple(phase.name for phase in result.phases if phase.is_cached == is_cached)


def test_a_multiplexed_pruned_candidate_runs_all_phases_in_order(pruned):
    assert names(pruned, is_cached=False) == (*MUXED_PHASES, "prune", "finetune_pruned")
    assert [p.num_updates for p in pruned.phases] == [3, 3, 4, 4, 30, 4]
    assert all(p.duration_s > 0 and p.memory_mib > 1 for p in pruned.phases)


def test_every_phase_announces_itself_and_ticks(pruned, events):
    announced = [(name, value) for name, value, _ in events if name.endswith("/total")]

    assert announced == [
        ("prime/total", 3),
        ("pretrain/total", 3),
        ("finetune/total", 4),
        ("finetune/total", 4),
        ("prune/total", 30),
        ("finetune_pruned/total", 4),
        ("measure/total", 2),
    ]
    assert [e[2] for e in events if e[0] == "prune/step"] == list(range(1, 31))
    assert {"prune/sparsity", "finetune/held_out_accuracy"} <= {e[0] for e in events}


def test_the_baseline_takes_its_finetuning_from_the_teacher_of_another_candidate(baseline):
    assert names(baseline, is_cached=True) == ("finetune",)
    assert baseline.sparsity == 0.0
    assert baseline.structure.head_counts == (4, 4)


def test_a_candidate_that_was_trained_before_is_taken_from_the_cache(config, cache_dir, pruned):
    again = train(config, cache_dir, 2, 0.6)

    assert names(again, is_cached=False) == ()
    assert again.accuracy == pruned.accuracy
    assert again.structure == pruned.structure
    assert again.checkpoint == pruned.checkpoint
    assert [p.history for p in again.phases] == [p.history for p in pruned.phases]
    assert [p.duration_s for p in again.phases] == [p.duration_s for p in pruned.phases]


def test_candidates_of_the_same_width_share_their_first_phases(config, cache_dir, pruned):
    dense = train(config, cache_dir, 2, 0.0)
    sparser = train(config, cache_dir, 2, 0.8)

    assert names(dense, is_cached=True) == MUXED_PHASES
    assert names(dense, is_cached=False) == ()
    assert names(sparser, is_cached=True) == MUXED_PHASES
    assert names(sparser, is_cached=False) == ("prune", "finetune_pruned")


def test_a_later_phase_of_another_recipe_shares_the_phases_before_it(config, cache_dir, pruned):
    other = replace(config, prune=replace(config.prune, num_updates=31))

    result = train(other, cache_dir, 2, 0.6)

    assert names(result, is_cached=False) == ("prune", "finetune_pruned")


@pytest.mark.parametrize(
    "change",
    [
        {"data": DataConfig(num_train=255, num_validation=NUM_VALIDATION, num_held_out=32)},
        {"model": {"key_norm": 1.0}},
        {"seed": 1},
    ],
)
def test_other_data_models_or_seeds_share_nothing(config, cache_dir, pruned, change):
    change = dict(change)
    seed = change.pop("seed", 0)
    if "model" in change:
        change["model"] = replace(config.model, **change["model"])

    assert cached_widths(config, seed=0, cache_dir=cache_dir) == {1, 2}
    assert cached_widths(replace(config, **change), seed=seed, cache_dir=cache_dir) == set()


def test_measuring_differently_trains_nothing_again(config, cache_dir, pruned):
    other = replace(config, accuracy=AccuracyConfig(num_compositions=3))

    result = train(other, cache_dir, 2, 0.6)

    assert names(result, is_cached=False) == ()
    assert result.accuracy.num_compositions == 3


@pytest.mark.parametrize("sparsity", [0.6, 0.8])
def test_the_achieved_sparsity_is_the_requested_one_to_within_a_unit(
    config, cache_dir, pruned, sparsity
):
    result = train(config, cache_dir, 2, sparsity)

    structure = result.structure
    prunable = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    unit = 2 * structure.hidden_size / prunable
    assert 0 <= result.sparsity - sparsity <= 0.001 + unit
    assert result.sparsity == 1 - structure.num_encoder_parameters / prunable


def test_the_structure_is_that_of_the_stored_model(pruned):
    model = load_model(Path(pruned.checkpoint))

    structure = pruned.structure
    assert structure.hidden_size == model.shape.hidden_size
    assert structure.head_counts == model.shape.head_counts
    assert structure.feedforward_sizes == model.shape.feedforward_sizes
    matrices = [p for p in model.encoder.parameters() if p.ndim == 2]
    assert structure.num_encoder_parameters == sum(p.numel() for p in matrices)
    assert structure.num_parameters == sum(p.numel() for p in model.parameters())
    assert model.shape.num_instances == 2
    assert model.shape.labels == ("negative", "positive")


def test_the_checkpoint_holds_model_and_tokenizer_and_nothing_unfinished(pruned):
    found = {path.name for path in Path(pruned.checkpoint).iterdir()}

    assert found == {"config.json", "model.safetensors", "tokenizer.json", "result.json"}


def test_no_phase_leaves_anything_unfinished(pruned, cache_dir):
    assert not list(cache_dir.rglob("progress*"))
    assert not list(cache_dir.rglob("*.partial"))


def test_accuracy_is_measured_on_every_validation_example(config, pruned, tokenizer):
    accuracy = pruned.accuracy
    assert (accuracy.num_examples, accuracy.num_compositions) == (NUM_VALIDATION, 2)
    bits = np.unpackbits(
        np.frombuffer(accuracy.correctness, np.uint8), count=2 * NUM_VALIDATION
    ).reshape(2, NUM_VALIDATION)
    assert accuracy.accuracy == pytest.approx(bits.mean())
    validation = load_splits(config.data, find_task("sst2")).validation
    examples = encode(tokenizer, validation.texts, 32, validation.labels)
    model = load_model(Path(pruned.checkpoint))
    expected = predict(model, examples, torch.device("cpu"), seed=0) == validation.labels
    assert np.array_equal(bits[0], expected)


def test_throughput_is_measured_against_the_dense_baseline(pruned):
    throughput = pruned.throughput

    assert throughput.throughput_q1 <= throughput.throughput <= throughput.throughput_q3
    assert throughput.speedup_q1 <= throughput.speedup <= throughput.speedup_q3
    assert throughput.baseline_throughput > 0
    assert (throughput.num_repeats, throughput.batch_size, throughput.length) == (4, 4, 32)
    assert pruned.environment["device"] == "cpu"


def test_the_best_held_out_accuracy_is_that_of_the_stored_model(config, cache_dir, baseline):
    history = [p for p in baseline.phases[-1].history if p.name == "held_out_accuracy"]
    held_out = load_splits(config.data, find_task("sst2")).held_out
    examples = encode(load_tokenizer(baseline.checkpoint), held_out.texts, 32, held_out.labels)
    classes = predict(load_model(Path(baseline.checkpoint)), examples, torch.device("cpu"))

    assert len(history) == 2
    assert max(p.value for p in history) == (classes == held_out.labels).mean()


@pytest.mark.parametrize(
    ("phase", "kill_at"), [("prime", 2), ("finetune", 3), ("prune", 17), ("finetune_pruned", 3)]
)
def test_a_killed_training_ends_with_the_bits_of_an_undisturbed_one(
    config, pruned, tmp_path, phase, kill_at
):
    def kill(name, value, step):
        if name == f"{phase}/step" and step == kill_at:
            raise KilledError

    with pytest.raises(KilledError):
        train(config, tmp_path, 2, 0.6, report=kill)
    seen = []

    result = train(config, tmp_path, 2, 0.6, report=lambda *event: seen.append(event))

    resumed = next(e for e in seen if e[0] == f"{phase}/total")
    assert resumed[2] == kill_at - 1  # nothing but the killed update is done again
    assert result.accuracy == pruned.accuracy
    assert result.structure == pruned.structure
    assert [p.history for p in result.phases] == [p.history for p in pruned.phases]
    before, after = (
        read_tensors(Path(r.checkpoint) / "model.safetensors") for r in (pruned, result)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_same_seed_repeats_everything_and_another_does_not(config, tmp_path):
    short = replace(
        config,
        prime=replace(config.prime, num_updates=2),
        pretrain=PretrainConfig(num_updates=0),
        prune=replace(config.prune, num_updates=12, tolerance=0.9),
    )

    first, again, other = (
        train(short, tmp_path / str(k), 2, 0.6, seed=seed) for k, seed in enumerate((3, 3, 4))
    )

    weights = [read_tensors(Path(r.checkpoint) / "model.safetensors") for r in (first, again)]
    assert all(torch.equal(t, weights[1][name]) for name, t in weights[0].items())
    assert first.accuracy == again.accuracy
    assert first.structure == again.structure
    assert [p.history for p in first.phases] == [p.history for p in again.phases]
    assert first.phases[0].history != other.phases[0].history


def test_seeds_of_trials_share_the_phases_of_the_shared_seed(config, cache_dir, pruned):
    result = train_and_measure(
        config,
        num_instances=2,
        sparsity=0.6,
        seed=7,
        shared_seed=0,
        cache_dir=cache_dir,
        report=ignore,
    )

    assert names(result, is_cached=True) == MUXED_PHASES
    assert names(result, is_cached=False) == ("prune", "finetune_pruned")


def test_pairs_of_texts_are_trained_like_single_ones(config, tmp_path):
    pairs = replace(config, task="qnli", prune=replace(config.prune, tolerance=0.5))

    result = train(pairs, tmp_path, 2, 0.6)

    model = load_model(Path(result.checkpoint))
    assert model.shape.labels == ("entailment", "not_entailment")
    assert names(result, is_cached=False) == (*MUXED_PHASES, "prune", "finetune_pruned")
    assert any(p.name == "detect_loss" and p.value > 0 for p in result.phases[1].history)


def test_without_finetuning_after_pruning_the_pruned_model_is_the_result(
    config, cache_dir, pruned
):
    without = replace(config, finetune_pruned=FinetunePrunedConfig(num_updates=0))

    result = train(without, cache_dir, 2, 0.6)

    assert [p.name for p in result.phases] == [*MUXED_PHASES, "prune"]
    assert Path(result.checkpoint).name.startswith("prune-n2-")


def test_phases_without_updates_are_skipped(config, tmp_path):
    skipping = replace(
        config,
        prime=PrimeConfig(num_updates=0),
        pretrain=PretrainConfig(num_updates=0),
        finetune=replace(config.finetune, distill_weight=0.0),
    )

    result = train(skipping, tmp_path, 2, 0.0)

    assert [p.name for p in result.phases] == ["finetune"]


def test_too_few_updates_to_reach_the_sparsity_are_an_error(config, cache_dir, pruned):
    hasty = replace(config, prune=replace(config.prune, num_updates=2, tolerance=0.01))

    with pytest.raises(SparsityError, match=r"expected sparsity of 0\.\d+ instead of 0\.600"):
        train(hasty, cache_dir, 2, 0.6)


@pytest.mark.parametrize(
    ("num_instances", "sparsity", "message"),
    [
        (0, 0.0, "`num_instances` must be at least 1, got 0"),
        (1, 1.2, r"`sparsity` must be in \[0, 1\), got 1\.2"),
        (1, -0.1, r"`sparsity` must be in \[0, 1\), got -0\.1"),
        (1, float("nan"), r"`sparsity` must be in \[0, 1\), got nan"),
    ],
)
def test_an_impossible_candidate_is_refused(config, tmp_path, num_instances, sparsity, message):
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path, num_instances, sparsity)

    assert not list(tmp_path.iterdir())


def refuse(config, tmp_path, error, message):
    """Both the check and the training refuse, and nothing is written."""
    with pytest.raises(error, match=message):
        check_inputs(config)
    with pytest.raises(error, match=message):
        train(config, tmp_path / "cache", 1, 0.0)
    assert not (tmp_path / "cache").exists()


def test_inputs_without_fault_yield_the_fingerprint_of_the_data(config, source):
    fingerprint = check_inputs(config)

    assert fingerprint == load_splits(config.data, find_task("sst2")).fingerprint
    assert fingerprint.startswith("builtin:")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(config, tmp_path):
    refuse(replace(config, device="cuda"), tmp_path, ConfigError, "`device` is `cuda`")


def test_an_unknown_task_is_refused(config, tmp_path):
    refuse(replace(config, task="nix"), tmp_path, DataError, "`nix`.*`sst2`")


def test_a_task_of_one_s_own_has_no_built_in_data(config, tmp_path):
    task = TaskConfig(name="mood", text_columns=("text",), labels=("sad", "glad"))

    refuse(replace(config, task=task), tmp_path, DataError, "no task `mood`")


@pytest.fixture
def source_copy(source, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "No tokenizer of the BERT family in `.*copy`"),
        ("tokenizer.json", b"{", r"tokenizer\.json` cannot be read"),
        ("model.safetensors", None, r"holds no weights|model\.safetensors` cannot be read"),
        ("model.safetensors", b"junk", r"model\.safetensors` cannot be read as safetensors"),
        ("config.json", b"{", r"config\.json` cannot be read"),
        ("config.json", b'{"model_type": "roberta"}', "`roberta` model, not one of the BERT"),
    ],
)
def test_a_damaged_checkpoint_is_refused(config, source_copy, tmp_path, name, content, message):
    if content is None:
        (source_copy / name).unlink()
    else:
        (source_copy / name).write_bytes(content)

    refuse(
        replace(config, model=ModelConfig(source=str(source_copy))),
        tmp_path,
        CheckpointError,
        message,
    )


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(config, source_copy, tmp_path):
    described = json.loads((source_copy / "config.json").read_text())
    num_tokens = described["vocab_size"]
    model = load_model(source_copy)
    table = model.embeddings.tokens.weight.detach()[: num_tokens - 7]
    model.embeddings.tokens = torch.nn.Embedding.from_pretrained(table)
    model.shape = replace(model.shape, vocab_size=num_tokens - 7)
    save_model(model, source_copy)

    refuse(
        replace(config, model=ModelConfig(source=str(source_copy))),
        tmp_path,
        CheckpointError,
        f"has {num_tokens} tokens, but the model's table only {num_tokens - 7}",
    )


def test_a_checkpoint_without_cls_and_sep_is_refused(config, source_copy, tmp_path):
    described = json.loads((source_copy / "tokenizer.json").read_text())
    described["post_processor"] = None
    (source_copy / "tokenizer.json").write_text(json.dumps(described))

    refuse(
        replace(config, model=ModelConfig(source=str(source_copy))),
        tmp_path,
        CheckpointError,
        r"must put \[CLS\] before and \[SEP\] after",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"data": DataConfig(max_length=33, num_train=20, num_validation=20, num_held_out=8)},
        {"throughput": ThroughputConfig(length=33)},
    ],
)
def test_lengths_beyond_the_positions_of_the_model_are_refused(config, tmp_path, change):
    refuse(
        replace(config, **change), tmp_path, ConfigError, "must be at most 32, .* model, got 33"
    )


def test_running_out_of_memory_is_an_error_of_its_own(config, tmp_path, monkeypatch):
    def exhaust(self):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(Precision, "autocast", exhaust)

    with pytest.raises(OutOfMemoryError, match="Memory ran out"):
        train(config, tmp_path, 1, 0.0)


def test_other_errors_of_torch_keep_their_traceback(config, tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Precision, "autocast", fail)

    with pytest.raises(RuntimeError, match="a bug"):
        train(config, tmp_path, 1, 0.0)


def test_an_empty_cache_has_no_widths(config, tmp_path):
    assert cached_widths(config, seed=0, cache_dir=tmp_path / "nowhere") == frozenset()
