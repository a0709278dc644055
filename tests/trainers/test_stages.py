from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainers.config import AccuracyConfig, DataConfig
from trainers.models.checkpoints import load_model, read_tensors, save_model
from trainers.phase_config import FinetunePrunedConfig, PretrainConfig, PrimeConfig
from trainers.phases import precision
from trainers.pipeline import Trainer

MUXED_PHASES = ("prime", "pretrain", "finetune", "finetune")
"""Those of N = 2: the second-last is the N = 1 teacher."""


class KilledError(Exception):
    """Stands for a killed process."""


def names(result, *, is_cached):
    return tuple(phase.name for phase in result.phases if phase.is_cached == is_cached)


def test_the_baseline_takes_its_finetuning_from_the_teacher_of_another_candidate(baseline):
    assert names(baseline, is_cached=True) == ("finetune",)
    assert baseline.sparsity == 0.0
    assert baseline.structure.head_counts == (4, 4)


def test_a_candidate_that_was_trained_before_is_taken_from_the_cache(
    train, config, cache_dir, pruned
):
    again = train(config, cache_dir, 2, 0.6)

    assert names(again, is_cached=False) == ()
    assert again.accuracy == pruned.accuracy
    assert again.structure == pruned.structure
    assert again.checkpoint == pruned.checkpoint
    assert [p.history for p in again.phases] == [p.history for p in pruned.phases]
    assert [p.duration_s for p in again.phases] == [p.duration_s for p in pruned.phases]


def test_candidates_of_the_same_width_share_their_first_phases(train, config, cache_dir, pruned):
    dense = train(config, cache_dir, 2, 0.0)
    sparser = train(config, cache_dir, 2, 0.8)

    assert names(dense, is_cached=True) == MUXED_PHASES
    assert names(dense, is_cached=False) == ()
    assert names(sparser, is_cached=True) == MUXED_PHASES
    assert names(sparser, is_cached=False) == ("prune", "finetune_pruned")


def test_a_later_phase_of_another_recipe_shares_the_phases_before_it(
    train, config, cache_dir, pruned
):
    other = replace(config, prune=replace(config.prune, num_updates=31))

    result = train(other, cache_dir, 2, 0.6)

    assert names(result, is_cached=False) == ("prune", "finetune_pruned")


@pytest.mark.parametrize(
    "change",
    [
        {"data": DataConfig(num_train=255, num_validation=83, num_held_out=32)},
        {"model": {"key_norm": 1.0}},
        {"seed": 1},
    ],
)
def test_other_data_models_or_seeds_share_nothing(config, cache_dir, pruned, change):
    change = dict(change)
    seed = change.pop("seed", 0)
    if "model" in change:
        change["model"] = replace(config.model, **change["model"])

    known = Trainer(config, shared_seed=0, cache_dir=cache_dir)
    other = Trainer(replace(config, **change), shared_seed=seed, cache_dir=cache_dir)
    assert known.cached_widths() == {1, 2}
    assert other.cached_widths() == set()


def test_smaller_parts_take_up_all_that_was_trained_in_larger_ones(
    train, config, cache_dir, pruned
):
    again = train(replace(config, num_parts=8), cache_dir, 2, 0.6)

    assert names(again, is_cached=False) == ()
    assert again.checkpoint == pruned.checkpoint


def test_a_killed_training_goes_on_in_smaller_parts_to_nearly_the_same_weights(
    train, config, tokenizer, tmp_path
):
    """What two deaths lead to; without dropout, which parts draw apart.

    One evaluation, so that the last weights are kept, whichever retrieve best.
    """
    model = load_model(Path(config.model.source))
    model.shape = replace(model.shape, dropout=0.0)
    save_model(model, tmp_path / "source", tokenizer)
    short = replace(
        config,
        model=replace(config.model, source=str(tmp_path / "source")),
        prime=replace(config.prime, num_updates=8, learning_rate=0.01, num_evaluations=1),
    )
    weights = {}

    def kill(name, value, step):
        if name == "prime/step" and step == 5:
            raise KilledError

    for num_parts in (1, 4):
        cache = tmp_path / str(num_parts)
        if num_parts > 1:
            with pytest.raises(KilledError):
                train(short, cache, 2, 0.0, report=kill)
        train(replace(short, num_parts=num_parts), cache, 2, 0.0)
        (entry,) = cache.glob("prime-n2-*")
        weights[entry.name, num_parts] = read_tensors(entry / "model.safetensors")

    (whole, _), (parted, _) = weights
    assert whole == parted
    gaps = [
        float((weights[whole, 4][name] - tensor).abs().max())
        for name, tensor in weights[whole, 1].items()
    ]
    assert 0 < max(gaps) < 1e-5  # an update moves a weight by up to 0.01


@pytest.mark.parametrize(
    ("rule", "num_updates"), [({"stop_accuracy": 0.55}, 2), ({"patience": 2}, 6), ({}, 8)]
)
def test_priming_ends_when_enough_is_retrieved_or_no_more_and_says_how_much(
    train, config, tmp_path, monkeypatch, rule, num_updates
):
    scores = iter([0.6, 0.6, 0.5, 0.9])
    monkeypatch.setattr("trainers.phases.prime.retrieval_accuracy", lambda *asked: next(scores))
    prime = replace(config.prime, num_updates=8, num_evaluations=4, **rule)
    short = replace(config, prime=prime, pretrain=replace(config.pretrain, num_updates=0))

    result = train(short, tmp_path, 2, 0.0)

    phase = result.phases[0]
    told = [(p.step, p.value) for p in phase.history if p.name == "held_out_retrieval"]
    assert phase.name == "prime"
    assert phase.num_updates == num_updates
    assert told == [(2, 0.6), (4, 0.6), (6, 0.5), (8, 0.9)][: num_updates // 2]


def test_measuring_differently_trains_nothing_again(train, config, cache_dir, pruned):
    other = replace(config, accuracy=AccuracyConfig(num_compositions=3))

    result = train(other, cache_dir, 2, 0.6)

    assert names(result, is_cached=False) == ()
    assert result.accuracy.num_compositions == 3


def test_no_phase_leaves_anything_unfinished(pruned, cache_dir):
    assert not list(cache_dir.rglob("progress*"))
    assert not list(cache_dir.rglob("*.partial"))


@pytest.mark.parametrize(
    ("phase", "kill_at"), [("prime", 2), ("finetune", 3), ("prune", 17), ("finetune_pruned", 3)]
)
def test_a_killed_training_ends_with_the_bits_of_an_undisturbed_one(
    train, config, pruned, tmp_path, phase, kill_at
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


def test_the_same_seed_repeats_everything_and_another_does_not(train, config, tmp_path):
    short = replace(
        config,
        prime=replace(config.prime, num_updates=2),
        pretrain=PretrainConfig(num_updates=0),
        prune=replace(config.prune, num_updates=12, gate_learning_rate=1.0, tolerance=0.9),
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
    trainer = Trainer(config, shared_seed=0, cache_dir=cache_dir)

    result = trainer.train_and_measure(
        num_instances=2, sparsity=0.6, seed=7, report=lambda *event: None
    )

    assert names(result, is_cached=True) == MUXED_PHASES
    assert names(result, is_cached=False) == ("prune", "finetune_pruned")


def test_without_finetuning_after_pruning_the_pruned_model_is_the_result(
    train, config, cache_dir, pruned
):
    without = replace(config, finetune_pruned=FinetunePrunedConfig(num_updates=0))

    result = train(without, cache_dir, 2, 0.6)

    assert [p.name for p in result.phases] == [*MUXED_PHASES, "prune"]
    assert Path(result.checkpoint).name.startswith("prune-n2-")


def test_phases_without_updates_are_skipped(train, config, tmp_path):
    skipping = replace(
        config,
        prime=PrimeConfig(num_updates=0),
        pretrain=PretrainConfig(num_updates=0),
        finetune=replace(config.finetune, distill_weight=0.0),
    )

    result = train(skipping, tmp_path, 2, 0.0)

    assert [p.name for p in result.phases] == ["finetune"]


def test_an_empty_cache_has_no_widths(config, tmp_path):
    assert (
        Trainer(config, shared_seed=0, cache_dir=tmp_path / "nowhere").cached_widths()
        == frozenset()
    )


@pytest.mark.parametrize(("flags", "word"), [({"amx_bf16": True}, "bfloat16"), ({}, "float32")])
def test_a_precision_that_is_chosen_shares_the_cache_with_a_named_one(
    train, config, tmp_path, monkeypatch, flags, word
):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    named = train(replace(config, precision=word), tmp_path, 1, 0.0)

    chosen = train(replace(config, precision="auto"), tmp_path, 1, 0.0)

    assert names(chosen, is_cached=True) == ("finetune",)
    assert chosen.environment["precision"] == named.environment["precision"] == word
