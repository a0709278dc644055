"""Tables of what searches found, and the record of them."""

import json

import numpy as np
from search_benchmark import case, options


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


def test_a_prior_is_compared_with_the_same_tables_without_it(report):
    firsts = {"performance_model": 9, "unrelated": 6, "related": 4}
    cases = [case(i, [first + i % 3], name) for name, first in firsts.items() for i in range(20)]

    rows = {row["sampler"]: row["p"] for row in report._search_rows(cases)}

    assert float(rows["`related`"]) < 1e-3
    assert rows["`unrelated`"] == rows["`performance_model`"] == ""


def test_a_calibration_is_compared_with_the_same_search_without_it(report):
    firsts = {"performance_model": 9, "calibrated": 6, "related": 5, "related_calibrated": 3}
    cases = [case(i, [first + i % 3], name) for name, first in firsts.items() for i in range(20)]

    rows = {row["sampler"]: row["p"] for row in report._search_rows(cases)}

    assert float(rows["`calibrated`"]) < 1e-3
    assert float(rows["`related_calibrated`"]) < 1e-3
    later = [*cases[:20], *(case(i, [12], "calibrated") for i in range(20))]
    assert float(report._search_rows(later)[1]["p"]) > 0.9


def test_what_a_calibration_is_worth_has_rows_of_its_own(benchmark, tmp_path, capsys):
    samplers = "calibrated,coverage_calibrated,hits,hits_calibrated"
    asked = options(tmp_path, family="recorded", samplers=samplers, shard="0/102")
    benchmark.run(asked)

    benchmark.print_tables(asked)

    printed = capsys.readouterr().out
    for part in (
        "| `calibrated` | 1 (1) |",
        "ours, 12 trials and a calibration",
        "| calibration |",
    ):
        assert part in printed


def test_made_up_models_have_no_structure_to_calibrate_for(benchmark, tmp_path):
    benchmark.run(options(tmp_path, samplers="calibrated,coverage_calibrated,hits_calibrated"))

    assert list(tmp_path.iterdir()) == []
