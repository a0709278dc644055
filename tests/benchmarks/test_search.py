import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    parts = ("search_tables", "search_rivals", "search_report")
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_of_search", FOLDER / "search.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    yield module
    for name in (spec.name, *parts):
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


def options(folder, **changes):
    defaults = {"family": "tuning", "tables": 2, "samplers": "grid", "seeds": 1, "shard": "0/1"}
    return Namespace(out=folder, **(defaults | changes))


def case(index, firsts, sampler="performance_model"):
    searches = [
        {
            "num_until_best": first,
            "num_repeated": 0,
            "num_until_stop": 8,
            "regret_at_stop": 0.0,
            "regret_after": {str(number): 0.01 for number in (4, 6, 8, 12, 16)},
        }
        for first in firsts
    ]
    return {"index": index, "sampler": sampler, "num_candidates": 36, "searches": searches}


@pytest.mark.parametrize("family", ["tuning", "foreign"])
def test_a_table_has_a_model_faster_than_the_baseline_within_its_budget(tables, family):
    for index in range(10):
        table = tables.make_table(family, index)
        measured = table.measured()

        baseline = measured[tables.BASELINE]
        assert baseline.speedup == 1.0
        assert len(measured) == 36
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
        for index in range(20):
            measured = tables.make_table(family, index).measured()
            base = measured[tables.BASELINE].accuracy
            loss = {(c.num_instances, c.sparsity): base - m.accuracy for c, m in measured.items()}
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


def test_with_equal_costs_every_trial_takes_as_long(tables):
    table = tables.make_table("tuning", 0)

    durations = {m.duration_s for m in table.measured().values()}
    equal = {m.duration_s for m in table.with_equal_costs().measured().values()}

    assert len(durations) > 3
    assert len(equal) == 1


def test_the_papers_design_trains_its_24_cells_and_its_top_three(tables, rivals):
    for seed in range(3):
        played = rivals.play_paper(tables.make_table("tuning", 1), seed, 16)

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
    samplers = "performance_model,grid,coverage,hits"
    asked = options(tmp_path, samplers=samplers)
    benchmark.run(asked)
    kept, lost = tmp_path / "tuning-001-grid.json", tmp_path / "tuning-000-grid.json"
    before = {file: file.read_text() for file in tmp_path.iterdir()}
    kept.write_text(before[kept].replace('"grid"', '"kept"'))
    lost.unlink()

    benchmark.run(asked)
    benchmark.print_tables(asked)

    assert len(before) == 8
    assert '"kept"' in kept.read_text()
    assert lost.read_text() == before[lost]
    printed = capsys.readouterr().out
    for part in ("performance_model", "after 12", "top three", "speedup"):
        assert part in printed


def test_random_samplers_search_a_table_with_every_seed_and_others_once(benchmark, tmp_path):
    random, ours = (
        benchmark.run_case("tuning", 0, sampler, 3) for sampler in ("random", "performance_model")
    )

    assert [search["seed"] for search in random["searches"]] == [0, 1, 2]
    assert len({search["num_until_best"] for search in random["searches"]}) > 1
    assert len(ours["searches"]) == 1


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

    assert (best["sampler"], best["searches"]) == ("performance_model", 40)
    assert (worst["sampler"], worst["searches"]) == ("random", 120)
    assert float(worst["p"]) < 1e-6
    low, high = best["mean"].split("(")[1].rstrip(")").split("-")
    assert float(low) < np.mean([c["searches"][0]["num_until_best"] for c in ours]) < float(high)
    swapped = report._search_rows(
        [{**c, "sampler": "random" if c in ours else "performance_model"} for c in ours + theirs]
    )
    assert float(swapped[1]["p"]) > 0.99


def test_a_best_model_that_was_never_measured_counts_as_one_more_than_there_are(report):
    assert report._firsts(case(0, [None, 4])) == [37, 4]


def test_a_plot_has_a_line_for_each_sampler(benchmark, report, tmp_path):
    asked = options(tmp_path, samplers="performance_model,random")
    benchmark.run(asked)
    for name in ("one.svg", "other.svg"):
        report.save_plot(Namespace(**vars(asked), image=tmp_path / name))

    drawn = (tmp_path / "one.svg").read_text()
    assert "performance model (2)" in drawn
    assert "random (2)" in drawn
    assert drawn == (tmp_path / "other.svg").read_text()


def test_a_prior_is_compared_with_the_same_tables_without_it(report):
    firsts = {"performance_model": 9, "unrelated": 6, "related": 4}
    cases = [case(i, [first + i % 3], name) for name, first in firsts.items() for i in range(20)]

    rows = {row["sampler"]: row["p"] for row in report._search_rows(cases)}

    assert float(rows["related"]) < 1e-3
    assert rows["unrelated"] == rows["performance_model"] == ""


def test_a_prior_makes_searches_of_recorded_tasks_shorter(benchmark):
    told, alone = (
        [
            benchmark.run_case("recorded", index, sampler)["searches"][0]
            for index in range(0, 80, 10)
        ]
        for sampler in ("related", "performance_model")
    )

    assert sum(s["num_until_best"] for s in told) < sum(s["num_until_best"] for s in alone)
