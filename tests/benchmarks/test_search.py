import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    parts = [path.stem for path in FOLDER.glob("search_*.py")]
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_of_search", FOLDER / "search.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    yield module
    for name in (spec.name, "common", *parts):
        sys.modules.pop(name, None)


@pytest.fixture
def tables(benchmark):
    return sys.modules["search_tables"]


@pytest.fixture
def rivals(benchmark):
    return sys.modules["search_rivals"]


@pytest.fixture
def report(benchmark):
    return sys.modules["search_report"]


@pytest.fixture
def oracle(benchmark):
    return sys.modules["search_oracle"]


@pytest.fixture
def checks(benchmark):
    return sys.modules["search_checks"]


def options(folder, **changes):
    defaults = {"family": "tuning", "tables": 2, "samplers": "grid", "seeds": 1, "thin": 1}
    return Namespace(out=folder, **(defaults | {"shard": "0/1", "record": None} | changes))


def case(index, firsts, sampler="performance_model"):
    searches = [
        {
            "seed": seed,
            "num_until_best": first,
            "num_repeated": 0,
            "num_until_stop": 8,
            "regret_at_stop": 0.0,
            "regret_after": {str(number): 0.01 for number in (4, 6, 8, 12, 16)},
        }
        for seed, first in enumerate(firsts)
    ]
    return {"index": index, "sampler": sampler, "num_candidates": 36, "searches": searches}


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


def test_tables_and_record_have_what_was_asked(benchmark, tmp_path, capsys):
    samplers = "performance_model,random,oracle,related,coverage,coverage_related,hits"
    asked = options(tmp_path, tables=1, samplers=samplers, record=tmp_path / "record.json")
    benchmark.run(asked)

    benchmark.print_tables(asked)

    printed = capsys.readouterr().out
    for part in (
        "| `performance_model` | 1 (1) |",
        "after 12, %",
        "oracle, our 12",
        "other tasks",
    ):
        assert part in printed
    record = json.loads(asked.record.read_text())
    assert record["command"]
    assert "commit" in record
    assert {row["sampler"] for row in record["searches"]} >= {"`oracle`", "`random`"}
    assert len(record["hits"]) == 4
    assert {row["prior"] for row in record["coverage"]} == {"none", "other tasks"}


def test_a_recorded_task_is_asked_for_hits_once(benchmark, tables):
    num = tables.num_tables("recorded", 0)
    firsts = [index for index in range(num) if tables.is_first_of_task("recorded", index)]

    names = [tables.make_table("recorded", index).recording.name for index in range(num)]
    assert [names[index] for index in firsts] == sorted(set(names))


def test_shards_are_the_whole_family(benchmark, tmp_path):
    for shard in ("0/2", "1/2"):
        benchmark.run(options(tmp_path, tables=3, shard=shard))

    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"tuning-00{index}-grid.json" for index in range(3)]


def test_an_interval_holds_the_median_and_the_test_is_one_sided(report):
    rng = np.random.default_rng(0)
    ours = [case(i, [int(first)]) for i, first in enumerate(rng.integers(3, 7, 40))]
    theirs = [case(i, [int(rng.integers(8, 30)) for _ in range(3)], "random") for i in range(40)]

    best, worst = report._search_rows([*theirs, *ours])

    assert (best["sampler"], best["tables (searches)"]) == ("`performance_model`", "40 (40)")
    assert (worst["sampler"], worst["tables (searches)"]) == ("`random`", "40 (120)")
    assert float(worst["p"]) < 1e-6
    low, high = best["mean"].split("(")[1].rstrip(")").split("-")
    assert float(low) < np.mean([c["searches"][0]["num_until_best"] for c in ours]) < float(high)
    swapped = report._search_rows(
        [{**c, "sampler": "random" if c in ours else "performance_model"} for c in ours + theirs]
    )
    assert float(swapped[1]["p"]) > 0.99


def test_a_best_model_that_was_never_measured_counts_as_one_more_than_there_are(report):
    assert report.firsts_of(case(0, [None, 4])) == {0: 37, 1: 4}


def test_a_test_compares_the_seeds_that_both_played(report):
    slow = [case(i, [20 + i % 3] * 3, "random") for i in range(20)]
    mine = [case(i, [30, 2, 2]) for i in range(20)]
    for played in slow:
        del played["searches"][0]

    rows = report._search_rows([*mine, *slow])

    assert float(rows[1]["p"]) < 1e-3


def test_an_oracle_is_not_tested_against(report):
    cases = [case(i, [4], name) for i in range(9) for name in ("performance_model", "oracle")]

    assert {row["sampler"]: row["p"] for row in report._search_rows(cases)}["`oracle`"] == ""


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


def test_a_prior_is_compared_with_the_same_tables_without_it(report):
    firsts = {"performance_model": 9, "unrelated": 6, "related": 4}
    cases = [case(i, [first + i % 3], name) for name, first in firsts.items() for i in range(20)]

    rows = {row["sampler"]: row["p"] for row in report._search_rows(cases)}

    assert float(rows["`related`"]) < 1e-3
    assert rows["`unrelated`"] == rows["`performance_model`"] == ""


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
