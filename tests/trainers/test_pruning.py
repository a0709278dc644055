import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from trainers.context import TrainingContext
from trainers.dense import finetuned_stage
from trainers.errors import ConfigError, SparsityError
from trainers.models.checkpoints import load_model, read_tensors
from trainers.models.compaction import compact
from trainers.models.masks import Gates
from trainers.models.muxed_bert import MuxedBert
from trainers.models.structure import choose_structure
from trainers.phase_config import LayerAlignment
from trainers.pipeline import Trainer
from trainers.pruning import pruned_stage

LADDER = (0.5, 0.6, 0.8)
MUXED_PHASES = ("prime", "pretrain", "finetune", "finetune")
"""Those of N = 2: the second-last is the N = 1 teacher."""


class KilledError(Exception):
    """Stands for a killed process."""


def names(result, *, is_cached):
    return tuple(phase.name for phase in result.phases if phase.is_cached == is_cached)


@pytest.fixture(scope="module")
def ladder(config):
    """The recipe of the tests with a ladder."""
    return replace(config, prune=replace(config.prune, ladder=LADDER, rung_updates=9))


@pytest.fixture(scope="module")
def ladder_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ladder")


@pytest.fixture(scope="module")
def reported():
    """What the training of the second rung reported."""
    return []


@pytest.fixture(scope="module")
def second(train, ladder, ladder_cache, reported):
    """Result of (2, 0.6), the second rung and the first candidate in its cache."""
    return train(ladder, ladder_cache, 2, 0.6, report=lambda *event: reported.append(event))


def test_a_rung_is_climbed_to_over_those_below_it(second):
    assert names(second, is_cached=False) == (*MUXED_PHASES, "prune", "prune", "finetune_pruned")
    assert [p.num_updates for p in second.phases[-3:]] == [30, 9, 4]
    assert second.sparsity == pytest.approx(0.6, abs=5e-3)
    assert all(p.duration_s > 0 and p.memory_mib > 1 for p in second.phases)


def test_every_rung_reports_under_its_sparsity(second, reported):
    totals = [(name, value) for name, value, _ in reported if name.endswith("/total")]

    assert totals[-4:] == [
        ("prune_0.5/total", 30),
        ("prune_0.6/total", 9),
        ("finetune_pruned/total", 4),
        ("measure/total", 2),
    ]


@pytest.mark.parametrize(
    ("sparsity", "trained"),
    [
        (0.8, ("prune", "finetune_pruned")),  # the next rung
        (0.5, ("finetune_pruned",)),  # the rung below
        (0.7, ("prune", "finetune_pruned")),  # between two rungs
        (0.4, ("prune", "finetune_pruned")),  # below the first
    ],
)
def test_a_candidate_pays_for_the_missing_rungs_only(
    ladder, ladder_cache, second, tmp_path, sparsity, trained
):
    trainer = Trainer(ladder, shared_seed=0, cache_dir=ladder_cache)

    result = trainer.train_and_measure(
        num_instances=2, sparsity=sparsity, seed=13, report=lambda *event: None
    )

    assert names(result, is_cached=False) == trained
    assert result.sparsity == pytest.approx(sparsity, abs=5e-3)
    prunes = [p.num_updates for p in result.phases if p.name == "prune"]
    assert prunes == {0.8: [30, 9, 9], 0.5: [30], 0.7: [30, 9, 9], 0.4: [30]}[sparsity]


def test_a_longer_ladder_shares_the_rungs_it_has_in_common(train, ladder, ladder_cache, second):
    longer = replace(ladder, prune=replace(ladder.prune, ladder=(0.5, 0.6, 0.9)))

    result = train(longer, ladder_cache, 2, 0.9)

    assert names(result, is_cached=True) == (*MUXED_PHASES, "prune", "prune")


@pytest.mark.parametrize(
    ("phase", "kill_at"), [("prune_0.5", 17), ("prune_0.6", 4), ("finetune_pruned", 3)]
)
def test_a_killed_climb_ends_with_the_bits_of_an_undisturbed_one(
    train, ladder, second, tmp_path, phase, kill_at
):
    def kill(name, value, step):
        if name == f"{phase}/step" and step == kill_at:
            raise KilledError

    with pytest.raises(KilledError):
        train(ladder, tmp_path, 2, 0.6, report=kill)
    seen = []

    result = train(ladder, tmp_path, 2, 0.6, report=lambda *event: seen.append(event))

    resumed = next(e for e in seen if e[0] == f"{phase}/total")
    assert resumed[2] == kill_at - 1  # nothing but the killed update is done again
    assert result.accuracy == second.accuracy
    assert [p.history for p in result.phases] == [p.history for p in second.phases]
    before, after = (
        read_tensors(Path(r.checkpoint) / "model.safetensors") for r in (second, result)
    )
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory):
    """Build the last stage of a candidate without training anything."""
    cache_dir = tmp_path_factory.mktemp("nothing")

    def build(config, sparsity=0.8, *, width=2, seed=0, shared_seed=0, cache=cache_dir):
        context = TrainingContext.open(config, seed=shared_seed, cache_dir=cache)
        return pruned_stage(context, finetuned_stage(context, width), sparsity, seed)

    return build


def rungs_of(stage):
    """Yield the `prune` stages of a candidate, the lowest first."""
    rungs, pruned = [], stage.needs[-1]
    while pruned.name == "prune":
        rungs.append(pruned)
        pruned = pruned.needs[-1]
    return rungs[::-1]


def test_a_rung_keeps_the_gated_model_that_compacts_to_the_stored_one(
    ladder, ladder_cache, open_stage, second
):
    pruned = rungs_of(open_stage(ladder, 0.6, cache=ladder_cache))[-1]
    tensors = read_tensors(pruned.directory / "gated.safetensors")

    def part(name):
        start = f"{name}."
        return {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}

    stored = load_model(pruned.directory)
    model = MuxedBert(stored.shape.dense(2))
    model.load_state_dict(part("model"))
    gates = Gates(model.shape)
    gates.load_state_dict(part("gates"))
    compacted = compact(model.eval(), choose_structure(gates, 0.6))

    assert part("lagrangian").keys() == {"linear", "quadratic"}
    assert compacted.shape == stored.shape
    expected = stored.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in compacted.state_dict().items())


def test_without_a_ladder_no_gated_model_is_kept(config, open_stage):
    (own,) = rungs_of(open_stage(config))

    assert not own.keeps_gated
    assert own.label == ""


@pytest.mark.parametrize(
    ("stretch", "sparsity", "num_updates"), [(0.0, 0.95, 4), (0.5, 0.75, 8), (1.0, 0.6, 10)]
)
def test_sparser_models_are_trained_longer_after_pruning_if_asked_to(
    config, open_stage, stretch, sparsity, num_updates
):
    stretched = replace(config, finetune_pruned=replace(config.finetune_pruned, stretch=stretch))

    assert open_stage(stretched, sparsity).config.num_updates == num_updates


def test_without_a_stretch_the_stage_is_the_one_of_before(config, open_stage):
    plain, stretched = (
        replace(config, finetune_pruned=replace(config.finetune_pruned, stretch=stretch))
        for stretch in (0.0, 0.5)
    )

    assert not hasattr(open_stage(plain).config, "stretch")
    assert open_stage(plain).digest != open_stage(stretched).digest


@pytest.mark.parametrize("name", ["prune", "finetune_pruned"])
@pytest.mark.parametrize("teacher", ["plain", "both"])
def test_a_phase_that_the_n_1_model_teaches_needs_it(config, open_stage, name, teacher):
    config = replace(config, finetune=replace(config.finetune, distill_weight=0.0))
    taught = replace(config, **{name: replace(getattr(config, name), teacher=teacher)})
    (plain,) = open_stage(config, width=1).needs[:1]
    last = open_stage(taught)
    stages = {"finetune_pruned": last, "prune": rungs_of(last)[0]}

    needed = {phase: plain.digest in [s.digest for s in stages[phase].needs] for phase in stages}

    assert plain.num_instances == 1
    assert needed == {"finetune_pruned": False, "prune": False, name: True}
    assert last.digest != open_stage(config).digest


@pytest.mark.parametrize("name", ["prune", "finetune_pruned"])
def test_at_n_1_the_unpruned_model_is_the_n_1_teacher(config, open_stage, name):
    part = replace(getattr(config, name), teacher="both", state_distill_weight=0.5)

    taught = open_stage(replace(config, **{name: part}), width=1)

    assert taught.digest == open_stage(config, width=1).digest


def test_the_published_training_after_pruning_matches_layers_from_the_map_of_pruning(
    train, config, cache_dir, pruned, caplog
):
    """The cache holds a pruning that has its layer map; then one from before there was any."""
    after = replace(
        config.finetune_pruned,
        distill_weight=1.0,
        layer_distill_weight=0.9,
        decay="none",
        teacher="both",
        state_distill_weight=0.5,
    )
    published = replace(config, finetune_pruned=after)
    (directory,) = (d for d in cache_dir.glob("prune-n2-*") if len(list(d.glob("layer_map*"))))

    first = train(published, cache_dir, 2, 0.6)
    (directory / "layer_map.safetensors").unlink()
    results = json.loads((directory / "result.json").read_text())
    del results["checksums"]["layer_map.safetensors"]
    (directory / "result.json").write_text(json.dumps(results))
    longer = replace(published, finetune_pruned=replace(after, num_updates=5))
    second = train(longer, cache_dir, 2, 0.6)

    assert names(first, is_cached=False) == ("finetune_pruned",)
    assert names(second, is_cached=False) == ("prune", "finetune_pruned")
    assert "layer_map.safetensors in `" in caplog.text
    assert "is missing; the phase is trained again" in caplog.text
    assert names(train(config, cache_dir, 2, 0.6), is_cached=False) == ()


def test_rungs_have_seeds_of_their_own_that_the_candidate_does_not_change(ladder, open_stage):
    first, other = (rungs_of(open_stage(ladder, seed=seed)) for seed in (0, 1))

    assert [rung.digest for rung in first] == [rung.digest for rung in other]
    assert len({rung.seed for rung in first}) == 3
    assert open_stage(ladder, seed=0).digest != open_stage(ladder, seed=1).digest
    shared = rungs_of(open_stage(ladder, shared_seed=1))
    assert {rung.seed for rung in shared}.isdisjoint(rung.seed for rung in first)


@pytest.mark.parametrize(
    ("change", "num_shared"),
    [
        ({"ladder": (0.5, 0.6, 0.8, 0.9)}, 3),
        ({"ladder": (0.5, 0.65, 0.8)}, 1),
        ({"ladder": (0.4, 0.6, 0.8)}, 0),
        ({"rung_updates": 10}, 1),
        ({"num_updates": 31}, 0),
        ({"gates": ("heads", "intermediate")}, 0),
        ({"sparsity_convention": "cofi"}, 0),
        *(
            ({"layer_alignment": word}, 0)
            for word in get_args(LayerAlignment)
            if word != "ordered"
        ),
        ({"temperature": 1.0}, 0),
        ({"sparsity_warmup": 0.4}, 0),
    ],
)
def test_rungs_are_shared_as_far_up_as_everything_below_is_the_same(
    ladder, open_stage, change, num_shared
):
    changed = replace(ladder, prune=replace(ladder.prune, **change))

    ours, theirs = (
        [rung.digest for rung in rungs_of(open_stage(recipe))] for recipe in (ladder, changed)
    )

    shared = [mine == their for mine, their in zip(ours, theirs, strict=True)]
    assert shared == [True] * num_shared + [False] * (3 - num_shared)


def test_a_run_of_its_own_is_no_rung_since_it_keeps_no_gates(config, ladder, open_stage):
    (own,) = rungs_of(open_stage(config, 0.5))
    (first,) = rungs_of(open_stage(ladder, 0.5))

    assert own.digest != first.digest


def test_too_few_updates_for_a_rung_name_the_option(train, ladder, ladder_cache, second):
    prune = replace(ladder.prune, ladder=(0.05, 0.95), rung_updates=1, allows_slow_gates=True)

    with pytest.raises(SparsityError, match=r"instead of 0\.950; raise `prune\.rung_updates`"):
        train(replace(ladder, prune=prune), ladder_cache, 2, 0.95)


def test_a_rung_that_the_gates_cannot_reach_is_refused_before_any_training(
    train, ladder, tmp_path
):
    prune = replace(ladder.prune, gates=("head_layers", "feedforward_layers"), ladder=(0.4, 0.5))

    with pytest.raises(ConfigError, match=r"reaches a sparsity of 0\.2500 and 0\.5000, not 0\.4"):
        train(replace(ladder, prune=prune), tmp_path, 2, 0.5)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_asked_in_advance", [False, True])
def test_a_schedule_in_which_no_gate_can_close_is_refused_before_any_training(
    train, config, tmp_path, is_asked_in_advance
):
    slow = replace(config, prune=replace(config.prune, num_updates=10))
    message = r"`prune\.num_updates` must be at least 19 for gates to close .*, got 10\. Raise it"

    if is_asked_in_advance:
        with pytest.raises(ConfigError, match=message):
            Trainer(slow, shared_seed=0, cache_dir=tmp_path).check([0.0, 0.6])
    else:
        with pytest.raises(SparsityError, match=message):
            train(slow, tmp_path, 1, 0.6)

    assert not list(tmp_path.iterdir())
