import json
import sys
from argparse import Namespace

import numpy as np
import pytest
from search_benchmark import options


@pytest.mark.parametrize("family", ["reporting", "foreign"])
def test_each_seed_draws_the_noise_of_the_same_task_anew(tables, family):
    seen = [tables.make_table(family, 0, seed) for seed in range(tables.NUM_SEEDS)]

    accuracies = {tuple(m.accuracy for m in table.measured.values()) for table in seen}
    assert len(accuracies) == tables.NUM_SEEDS
    assert all(table.source == seen[0].source for table in seen)
    assert seen[3] == tables.make_table(family, 0, 3)


def test_the_seeds_of_a_table_ask_for_all_budgets_that_a_faster_model_meets(tables):
    asked = {
        tables.make_table("reporting", index, seed).budget
        for index in range(4)
        for seed in range(tables.NUM_SEEDS)
    }
    first = [tables.make_table("reporting", 0, seed).budget for seed in range(tables.NUM_SEEDS)]

    assert asked == set(tables.BUDGETS)
    assert first[0] < first[10] < first[20] == 0.10


def test_other_tasks_are_the_same_for_every_seed(tables):
    (one, others), (another, same) = (tables.make_related("tuning", 2, seed) for seed in (0, 1))

    assert others == same
    assert one.measured != another.measured


@pytest.mark.parametrize("family", ["tuning", "foreign"])
def test_a_table_has_a_model_faster_than_the_baseline_within_its_budget(tables, family):
    for index in range(10):
        table = tables.make_table(family, index)
        measured = table.measured

        baseline = measured[tables.BASELINE]
        assert baseline.speedup == 1.0
        assert len(table.outcomes) == 36
        assert any(
            m.speedup > 1.0 and baseline.accuracy - m.accuracy <= table.budget + 1e-9
            for m in measured.values()
        )


def test_the_families_share_no_table(tables):
    tuning, reporting = (tables.make_table(name, 0) for name in ("tuning", "reporting"))

    assert tuning != reporting
    assert tuning == tables.make_table("tuning", 0)


def test_losses_of_foreign_tables_do_not_add_up(tables):
    misfits = {"tuning": [], "foreign": []}
    for family, found in misfits.items():
        for index in range(40):
            accuracies = tables.make_table(family, index).source.accuracies
            base = accuracies[tables.BASELINE]
            loss = {(c.num_instances, c.sparsity): base - a for c, a in accuracies.items()}
            both = loss[10, 0.0] + loss[1, 0.95]
            if 0.05 < loss[10, 0.95] < 0.4:
                found.append(loss[10, 0.95] / both)

    assert np.median(misfits["foreign"]) < 1.0 < np.median(misfits["tuning"])


def test_recorded_tables_are_all_budgets_that_a_faster_model_meets(tables):
    num = tables.num_tables("recorded", 1)
    names = {tables.make_table("recorded", index).recording.name for index in range(num)}

    assert names >= {f"{task}-builtin-builtin" for task in ("mnli", "qnli", "qqp", "sst2")}
    assert all(0 <= tables.make_table("recorded", index).budget <= 0.10 for index in range(num))


def test_other_recorded_tasks_are_those_of_the_same_model(tables):
    table, others = tables.make_related("recorded", 0)

    assert len(others) >= 3
    for other in others:
        assert other.recording.task != table.recording.task
        assert other.recording.trainer["model"] == table.recording.trainer["model"]


def test_a_task_without_others_is_not_searched_with_a_prior(benchmark, tables, tmp_path):
    num = tables.num_tables("recorded", 1)
    alone = [index for index in range(num) if not tables.has_others("recorded", index)]

    assert {tables.make_table("recorded", i).recording.name for i in alone} == {
        "sst2-glue-minilm-ladder"
    }
    assert tables.has_others("tuning", 0)
    shard = f"{alone[0]}/{num}"
    asked = {"family": "recorded", "samplers": "related,coverage_related", "shard": shard}
    benchmark.run(options(tmp_path, seeds=1, **asked))
    assert list(tmp_path.iterdir()) == []


def test_with_equal_costs_every_trial_takes_as_long(tables):
    table = tables.make_table("tuning", 0)

    durations = {m.duration_s for m in table.measured.values()}
    equal = {m.duration_s for m in table.with_equal_costs().measured.values()}

    assert len(durations) > 3
    assert len(equal) == 1


def test_the_papers_design_trains_its_24_cells_and_its_top_three(tables, rivals):
    for seed in range(3):
        played = rivals.play_paper(tables.make_table("tuning", 1, seed), seed, 16)

        assert 24 <= played["num_until_stop"] <= 27
        assert played["num_repeated"] == 0
        assert (played["num_until_best"] is None) == (played["regret_at_stop"] > 1e-9)


@pytest.mark.slow
def test_botorch_finds_the_best_and_repeats_nothing(tables, rivals):
    pytest.importorskip("botorch", reason="needs the extra `rivals`")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        played = rivals.play_botorch(tables.make_table("tuning", 0), 0, 8)

    assert 1 < played["num_until_best"] <= 36
    assert played["regret_after"][16] <= played["regret_after"][4]


def test_a_benchmark_goes_on_where_it_stopped(benchmark, tmp_path, capsys):
    asked = options(tmp_path, samplers="grid", seeds=2)
    benchmark.run(asked)
    kept, lost = tmp_path / "tuning-001-grid.json", tmp_path / "tuning-000-grid.json"
    before = {file: file.read_text() for file in tmp_path.iterdir()}
    kept.write_text(before[kept].replace('"grid"', '"kept"'))
    lost.unlink()

    benchmark.run(asked)
    benchmark.run(options(tmp_path, samplers="grid", seeds=3))

    two, three = (json.loads(text)["searches"] for text in (before[lost], lost.read_text()))
    assert len(before) == 2
    assert [search["seed"] for search in three] == [0, 1, 2]
    assert three[:2] == two
    assert len(json.loads(kept.read_text())["searches"]) == 3


def test_a_seed_that_is_there_is_not_played_again(benchmark, tmp_path):
    asked = options(tmp_path, samplers="grid", seeds=2)
    benchmark.run(asked)
    file = tmp_path / "tuning-000-grid.json"
    file.write_text(file.read_text().replace('"seed": 0', '"played": true, "seed": 0'))

    benchmark.run(options(tmp_path, samplers="grid", seeds=4))

    searches = json.loads(file.read_text())["searches"]
    assert ["played" in search for search in searches] == [True, False, False, False]


def test_thinned_seeds_are_among_all_of_a_table_and_occur_alike(benchmark):
    thinned = [benchmark.seeds_of(index, 21, 7) for index in range(21)]

    assert all(len(seeds) == 3 for seeds in thinned)
    assert [sum(seed in seeds for seeds in thinned) for seed in range(21)] == [3] * 21
    for index in range(21):
        (seed,) = benchmark.seeds_of(index, 21, 21)
        assert seed in thinned[index]


def test_shards_are_the_whole_family(benchmark, tmp_path):
    for shard in ("0/2", "1/2"):
        benchmark.run(options(tmp_path, tables=3, shard=shard))

    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"tuning-00{index}-grid.json" for index in range(3)]


def test_plots_have_lines_for_samplers_and_levels(benchmark, tmp_path):
    asked = options(tmp_path, samplers="performance_model,random,coverage")
    benchmark.run(asked)
    for name in ("one.svg", "other.svg"):
        benchmark.save_plots(Namespace(**vars(asked), image=tmp_path / name))

    for end, parts in {
        "": ("performance model (2)", "random (2)"),
        "-regret": ("performance model (2)", "random (2)"),
        "-calibration": ("90 %, prior: none", "speed-ups"),
    }.items():
        drawn = (tmp_path / f"one{end}.svg").read_text()
        assert all(part in drawn for part in parts)
        assert drawn == (tmp_path / f"other{end}.svg").read_text()


def test_a_prior_makes_searches_of_recorded_tasks_shorter(benchmark):
    told, alone = (
        [next(benchmark.run_case("recorded", index, sampler)) for index in range(0, 80, 10)]
        for sampler in ("related", "performance_model")
    )

    assert sum(s["num_until_best"] for s in told) < sum(s["num_until_best"] for s in alone)


def test_an_oracle_that_is_told_everything_names_the_best(tables, oracle):
    for index in range(5):
        table = tables.make_table("reporting", index)
        budgets = tables.BUDGETS

        tops = oracle.rank_knowing(table, table.recording.candidates, budgets)

        baseline = table.measured[tables.BASELINE].accuracy
        for budget, top in zip(budgets, tops, strict=True):
            within = {
                c: m.speedup
                for c, m in table.measured.items()
                if baseline - m.accuracy <= budget + 1e-9
            }
            assert top[0] == max(within, key=within.get)


def test_no_ranking_of_the_same_trials_has_more_hits_than_the_oracles(tables, checks):
    found = [
        checks.check_hits(tables.make_table("reporting", index, index), index, 16)
        for index in range(6)
    ]

    means = {key: np.mean([one[key] for one in found]) for key in found[0] if "rate" in key}
    assert means["oracle_hit_rate"] >= means["hit_rate"] - 0.02
    assert 0.5 < means["paper_hit_rate"] <= 1.0


def test_an_oracle_needs_few_trials_but_cannot_see_noise(tables, oracle):
    firsts = [
        oracle.play_oracle(tables.make_table("reporting", index, index), index, 16)
        for index in range(21)
    ]

    numbers = [first["num_until_best"] for first in firsts]
    assert all(numbers)
    assert 2.0 <= np.mean(numbers) < 4.0


def test_an_oracle_knows_recorded_trainings_but_not_which_one_it_gets(tables, oracle):
    table = tables.make_table("recorded", 5)

    possible = table.possible(200)

    for place, candidate in enumerate(table.recording.candidates):
        recorded = {
            t.measurement.accuracy for t in table.recording.trials if t.candidate == candidate
        }
        assert set(possible.accuracies[:, place]) == recorded
    assert oracle.play_oracle(table, 0, 16)["num_until_best"] < 10


def test_the_papers_table_holds_speeds_of_another_task(tables):
    own, recorded = tables.make_table("reporting", 0), tables.make_table("recorded", 0)

    for table in (own, recorded):
        theirs = table.other_speedups()
        ratios = [theirs[c] / m.speedup for c, m in table.measured.items() if not c.is_baseline]
        assert max(abs(np.log(ratios))) > 0.01
        assert np.median(ratios) == pytest.approx(1.0, abs=0.3)


def test_a_calibration_makes_searches_of_recorded_tasks_shorter(benchmark):
    told, alone = (
        [next(benchmark.run_case("recorded", index, sampler)) for index in range(0, 102, 6)]
        for sampler in ("calibrated", "performance_model")
    )

    assert sum(s["num_until_best"] for s in told) < sum(s["num_until_best"] for s in alone)


def test_every_recorded_grid_has_a_calibration_of_its_device_and_model(tables):
    for recording in tables.grids():
        (calibration,) = tables.Table(recording, 0.05, 0).calibrations
        error, published = sys.modules["calibrations"].median_errors(recording)

        assert error < 0.2
        assert error < 0.75 * published
        assert len(calibration.timings) <= 10
