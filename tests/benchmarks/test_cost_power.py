"""By which power of its minutes a candidate's score is divided: trials and minutes of searches."""

import importlib
import json
import sys

import pytest
from search_benchmark import FOLDER

from autoprumux.records import Candidate
from autoprumux.search import acquisition


@pytest.fixture
def cost_power(benchmark, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("cost_power")
    for name in ("cost_power", "search"):
        sys.modules.pop(name)


def test_each_power_has_a_row_and_the_package_keeps_its_own(
    cost_power, monkeypatch, tmp_path, capsys
):
    out, before = tmp_path / "cost.json", acquisition.COST_POWER
    asked = ["--family", "tuning", "--tables", "2", "--thin", "21", "--powers", "1", "0"]
    monkeypatch.setattr("sys.argv", ["cost_power.py", *asked, "--out", str(out)])

    seen, replay = [], cost_power.replay_search

    def remember(*arguments, **options):
        seen.append(acquisition.COST_POWER)
        return replay(*arguments, **options)

    monkeypatch.setattr(cost_power, "replay_search", remember)

    cost_power.main()

    assert seen == [1.0, 1.0, 0.0, 0.0]
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["num_searches"] == 2
    assert [row["power"] for row in record["rows"]] == [1.0, 0.0]
    assert record["rows"][0]["minutes, ratio"] == 1.0
    assert all(2 <= row["trials, mean"] <= 16 for row in record["rows"])
    assert before == acquisition.COST_POWER
    assert capsys.readouterr().out.count("\n") == 4


def test_what_a_width_shares_is_dearer_and_pruning_is_not(cost_power, tables):
    table = tables.make_table("recorded", 0)
    dear = cost_power._with_dearer_starts(table, 8.0)

    place = [t.candidate for t in table.recording.trials].index(Candidate(5, 0.8))
    plain, dearer = (t.recording.trials[place].measurement for t in (table, dear))
    pruning = [p.duration_s for p in plain.phases if p.name == "prune"]
    starts = sum(p.duration_s for p in plain.phases if p.name == "finetune")
    assert starts > 0.0
    assert dearer.duration_s == pytest.approx(plain.duration_s + 7.0 * starts)
    assert [p.duration_s for p in dearer.phases if p.name == "prune"] == pruning
