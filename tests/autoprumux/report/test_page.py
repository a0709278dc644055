"""What the page says about a study, section by section, against the database and `query`."""

from dataclasses import replace

import pytest

from autoprumux.answers import (
    answer_budgets,
    candidate_grid,
    loss_interval,
    measured_models,
    speedup_interval,
)
from autoprumux.config import study_to_dict
from autoprumux.records import Candidate, StudyRecord
from autoprumux.report.page import provenance
from autoprumux.report.page.calibration import calibration_info
from autoprumux.report.page.courses import MAX_POINTS, MAX_TRIALS, course_info
from autoprumux.report.page.document import render_page
from autoprumux.report.page.front import MAX_WIDTHS_APART, budget_lines, front_info, series_of
from autoprumux.report.page.surfaces import surface_info
from autoprumux.report.tables import BUILTIN_NOTE
from autoprumux.storage.database import open_database
from autoprumux.study_files import load_study
from autoprumux.surrogates.performance import PerformanceModel, telling_failures

PLAIN = "SELECT * FROM prumux_trials ORDER BY number"


def percents(values):
    return pytest.approx([100 * value for value in values], abs=1e-3)


def test_the_summary_counts_the_trials(page):
    assert page.headline == "qnli-embedded"
    assert "Task qnli: 14 of 24 candidates measured, 2 failed." in page.text


def test_the_front_is_the_one_of_the_database(study, page):
    rows = study.rows("SELECT * FROM prumux_front ORDER BY speedup")

    line = page.trace("front", "measured front")

    assert len(rows) > 2
    assert line["x"] == pytest.approx([row["speedup"] for row in rows])
    assert line["y"] == percents([row["accuracy"] for row in rows])


@pytest.mark.parametrize(
    ("name", "condition", "order"),
    [
        ("CoFi-only (N = 1)", "num_instances = 1", "sparsity"),
        ("multiplexing-only (s = 0)", "sparsity = 0", "num_instances"),
        ("N = 5, pruned", "num_instances = 5 AND sparsity > 0", "sparsity"),
        ("dense baseline", "num_instances = 1 AND sparsity = 0", "sparsity"),
    ],
)
def test_each_series_of_the_front_holds_its_models(study, page, name, condition, order):
    rows = study.rows(
        f"SELECT * FROM prumux_trials WHERE state = 'complete' AND {condition} ORDER BY {order}"
    )

    trace = page.trace("front", name)

    assert len(rows) >= 1
    assert trace["x"] == pytest.approx([row["speedup"] for row in rows])
    assert trace["y"] == percents([row["accuracy"] for row in rows])
    assert trace["error_x"]["array"] == pytest.approx(
        [row["speedup_q3"] - row["speedup"] for row in rows], abs=1e-4
    )
    assert trace["error_x"]["arrayminus"] == pytest.approx(
        [row["speedup"] - row["speedup_q1"] for row in rows], abs=1e-4
    )


def test_bars_of_the_front_are_the_intervals_of_query(study, page):
    record = study.record()
    models = {m.candidate: m for m in measured_models(record, record.baseline)}
    ordered = sorted(c for c in models if c.num_instances == 1)

    bars = page.trace("front", "CoFi-only (N = 1)")["error_y"]

    assert len(ordered) > 2
    for candidate, up, down in zip(ordered, bars["array"], bars["arrayminus"], strict=True):
        model = models[candidate]
        assert up == pytest.approx(100 * (model.accuracy_loss - model.interval.low), abs=1e-3)
        assert down == pytest.approx(100 * (model.interval.high - model.accuracy_loss), abs=1e-3)


def test_budgets_are_lines_below_the_baseline(study):
    record = study.record()

    lines = budget_lines(front_info(record, (0.01, 0.02, 0.05)))

    baseline = 100 * record.baseline.accuracy
    assert [line.label for line in lines] == ["1 point", "2 points", "5 points"]
    assert [line.height for line in lines] == pytest.approx(
        [baseline - 1, baseline - 2, baseline - 5]
    )


def test_of_many_budgets_two_are_drawn_and_the_caption_says_so(study):
    record = study.record()
    budgets = tuple(i / 200 for i in range(21))

    lines = budget_lines(front_info(record, budgets))

    assert [line.label for line in lines] == ["0 points", "10 points"]
    assert "Dashed: the tightest and the loosest budget." in render_page(record, budgets, "-")


def test_many_widths_share_one_series(stored):
    record = stored(60, widths=tuple(range(1, 9)), failing=frozenset()).record()

    series = series_of(front_info(record, ()))

    combined = [s for s in series if s.name == "multiplexed and pruned"]
    assert len({c.num_instances for c in record.measured}) > MAX_WIDTHS_APART
    assert len(series) == 4
    assert {p.candidate for p in combined[0].points} == {
        c for c in record.measured if c.num_instances > 1 and c.sparsity > 0
    }


def test_the_table_of_answers_is_that_of_query(study, page):
    answers = answer_budgets(study.record(), (0.01, 0.02, 0.05))

    _, *rows = page.tables["answers"]

    assert any(answer.is_met for answer in answers)
    for row, answer in zip(rows, answers, strict=True):
        assert row[0] == f"{100 * answer.budget:g}"
        if answer.is_met:
            best = answer.best
            assert row[1:3] == [str(best.candidate), f"{100 * best.measurement.accuracy:.2f}"]
            assert row[3] == (
                f"{100 * best.accuracy_loss:.2f} "
                f"({100 * best.interval.low:.2f} to {100 * best.interval.high:.2f})"
            )
            assert row[4] == f"{best.speedup:.2f}x"
        for model in answer.predicted:
            is_named = (
                f"{model.candidate} ({model.speedup:.2f}x, chance {model.chance:.2f})" in row[-1]
            )
            is_faster = answer.best is None or model.speedup > answer.best.speedup
            assert is_named == (not model.is_verified and is_faster)


def test_a_budget_that_nothing_meets_names_the_closest(stored):
    record = stored(4).record()
    (answer,) = answer_budgets(record, (0.0,))

    text = render_page(record, (0.0,), "-")

    assert not answer.is_met
    assert f"none meets it; closest: {answer.closest.candidate} loses" in text


def test_the_budget_curve_is_that_of_query(study, page):
    budgets = [i / 200 for i in range(21)]
    answers = answer_budgets(study.record(), budgets)

    measured, predicted = page.trace("budgets", "measured"), page.trace("budgets", "predicted")

    assert measured["x"] == percents(budgets)
    assert measured["y"] == pytest.approx([a.best.speedup for a in answers])
    first = [a.predicted[0] for a in answers]
    assert predicted["y"] == pytest.approx([model.speedup for model in first])
    high = [y + up for y, up in zip(predicted["y"], predicted["error_y"]["array"], strict=True)]
    low = [y - d for y, d in zip(predicted["y"], predicted["error_y"]["arrayminus"], strict=True)]
    assert high == pytest.approx([model.speedup_interval.high for model in first])
    assert low == pytest.approx([model.speedup_interval.low for model in first])
    assert {"diamond", "diamond-open"} == set(predicted["marker"]["symbol"])


def test_a_budget_beyond_the_curve_lengthens_it(study, tmp_path, read_page):
    path = tmp_path / "report.html"
    path.write_text(render_page(study.record(), (0.153,), "-"), encoding="utf-8")

    curve = read_page(path).trace("budgets", "measured")["x"]

    assert curve[-1] == 15.3
    assert curve[:21] == percents([i / 200 for i in range(21)])


def test_the_surfaces_hold_measurements_where_measured_and_predictions_elsewhere(study, page):
    record = study.record()
    measured, grid = record.measured, candidate_grid(record)
    model = PerformanceModel.from_measured(measured, telling_failures(record), grid)
    models = {m.candidate: m for m in measured_models(record, record.baseline)}

    rows = surface_info(record, record.baseline).cells
    shown = {key: page.figures[key]["data"][0]["text"] for key in ("accuracy", "accuracy-doubt")}

    cells = {cell.candidate: cell for row in rows for cell in row}
    assert set(cells) == set(grid)
    for candidate, prediction in zip(grid, model.predict(grid), strict=True):
        cell = cells[candidate]
        is_measured = candidate in measured
        assert cell.is_measured == is_measured
        assert cell.accuracy == prediction.accuracy
        assert cell.speedup == prediction.speedup
        assert cell.loss_interval == (
            models[candidate].interval if is_measured else loss_interval(prediction)
        )
        assert cell.speedup_interval == speedup_interval(prediction)
        if is_measured:
            assert cell.accuracy == measured[candidate].accuracy
    assert shown["accuracy"] == [[f"{100 * cell.accuracy:.1f}" for cell in row] for row in rows]
    assert shown["accuracy-doubt"] == [[f"{cell.loss_reach:.1f}" for cell in row] for row in rows]


@pytest.mark.parametrize("figure", ["accuracy", "accuracy-doubt", "speedup", "speedup-doubt"])
def test_the_surfaces_mark_what_is_measured_and_what_failed(page, figure):
    assert len(page.trace(figure, "measured")["x"]) == 14
    assert len(page.trace(figure, "failed")["x"]) == 2


def test_calibration_leaves_out_one_model_at_a_time(study, page):
    record = study.record()
    measured = record.measured
    left_out = [c for c in measured if not c.is_baseline]

    points = calibration_info(record, record.baseline).left_out

    assert [point.candidate for point in points] == left_out
    for point in points:
        rest = {c: m for c, m in measured.items() if c != point.candidate}
        grid = candidate_grid(record)
        model = PerformanceModel.from_measured(rest, telling_failures(record), grid)
        (expected,) = model.predict([point.candidate])
        losses, speedups = loss_interval(expected), speedup_interval(expected)
        assert point.predicted_loss == pytest.approx(expected.accuracy_loss)
        assert point.loss_interval.low == pytest.approx(losses.low)
        assert point.loss_interval.high == pytest.approx(losses.high)
        assert point.speedup_interval.low == pytest.approx(speedups.low)
        assert point.speedup_interval.high == pytest.approx(speedups.high)
    num_held = sum(
        p.loss_interval.low <= record.baseline.accuracy - measured[p.candidate].accuracy
        and record.baseline.accuracy - measured[p.candidate].accuracy <= p.loss_interval.high
        for p in points
    )
    error = 100 * sum(abs(p.predicted_loss - p.loss) for p in points) / len(points)
    assert page.captions["calibration-accuracy"] == (
        f"{num_held} of {len(points)} intervals hold the measured loss; the mean error is "
        f"{error:.2f} points."
    )


def test_calibration_draws_every_left_out_model(study, page):
    record = study.record()
    expected = sorted(m.speedup for c, m in record.measured.items() if not c.is_baseline)

    traces = page.figures["calibration-speedup"]["data"]

    drawn = [x for trace in traces if trace["name"].startswith("interval") for x in trace["x"]]
    assert sorted(drawn) == pytest.approx(expected, abs=1e-4)


def test_the_trial_table_is_that_of_the_database(study, page):
    rows = study.rows(PLAIN)

    head, *shown = page.tables["trials"]

    assert head[:5] == ["trial", "N", "s", "s achieved", "accuracy, %"]
    assert len(shown) == len(rows) == 16
    for cells, row in zip(shown, rows, strict=True):
        entry = dict(zip(head, cells, strict=True))
        assert entry["trial"] == str(row["number"])
        assert (entry["N"], entry["s"]) == (str(row["num_instances"]), f"{row['sparsity']:.2f}")
        assert entry["why chosen"] == row["reason"]
        if row["state"] == "complete":
            assert entry["s achieved"] == f"{row['sparsity_achieved']:.3f}"
            assert entry["accuracy, %"] == f"{100 * row['accuracy']:.2f}"
            assert float(entry["loss, points"]) == pytest.approx(
                row["accuracy_loss_points"], abs=0.006
            )
            assert entry["speed-up"] == f"{row['speedup']:.2f}x"
            assert entry["minutes"] == f"{row['duration_s'] / 60:.1f}"
            assert entry["outcome"] == "complete"
        else:
            assert entry["accuracy, %"] == entry["speed-up"] == entry["minutes"] == "-"
            assert entry["outcome"] == (
                f"failed, {row['failure_cause']}: Pruning reached 0.91 of the requested 0.95. "
                "(last held-out accuracy 61.0 %)"
            )


def test_the_trainings_show_the_stored_history(study, page):
    number = max(t.number for t in study.record().trials if t.measurement)
    rows = study.rows(
        "SELECT p.name AS phase, h.name, h.step, h.value, p.position FROM prumux_phase_history h "
        "JOIN prumux_phases p ON p.study_id = h.study_id AND p.number = h.number "
        f"AND p.position = h.phase_position WHERE h.number = {number} AND h.name = 'loss' "
        "ORDER BY p.position, h.step"
    )

    shown = [t for t in page.figures["courses"]["data"] if t["visible"]]

    assert {trace["meta"] for trace in shown} == {number}
    losses = [value for trace in shown if trace["yaxis"] == "y" for value in trace["y"]]
    assert losses == pytest.approx([row["value"] for row in rows], abs=1e-4)
    steps = [step for trace in shown if trace["yaxis"] == "y" for step in trace["x"]]
    assert steps == sorted(steps)
    phases = [trace["name"] for trace in shown if trace["yaxis"] == "y"]
    assert phases == [name.replace("_", " ") for name in dict.fromkeys(r["phase"] for r in rows)]
    assert {t["yaxis"] for t in shown} == {"y", "y2", "y3"}


def test_every_measured_trial_can_be_chosen(study, page):
    numbers = [t.number for t in study.record().trials if t.measurement]

    options = [tag["value"] for name, tag in page.tags if name == "option"]

    assert options == [str(number) for number in numbers]


def test_long_histories_are_thinned_and_keep_their_ends(stored):
    record = stored(3, num_points=90).record()
    last = record.trials[-1].measurement.phases[-1].history

    curves = [c for c in course_info(record).curves if c.trial == 2]

    losses = [point.value for point in last if point.name == "loss"]
    curve = [c for c in curves if c.panel == 0][-1]
    assert len(curve.values) == MAX_POINTS < len(losses)
    assert curve.values[0] == pytest.approx(losses[0], abs=1e-4)
    assert curve.values[-1] == pytest.approx(losses[-1], abs=1e-4)


def test_of_many_trials_the_front_can_be_chosen_and_the_page_says_so(stored):
    study = stored(60, widths=tuple(range(1, 11)), failing=frozenset())
    front = {row["number"] for row in study.rows("SELECT number FROM prumux_front")}
    record = study.record()

    chosen = {trial.number for trial in course_info(record).trials}

    assert len(chosen) == MAX_TRIALS
    assert {0, *front} <= chosen
    assert f"{MAX_TRIALS} of 60 measured trials can be chosen" in render_page(record, (), "-")


def test_provenance_names_data_seed_hardware_and_versions(study, page):
    text = page.texts["provenance-facts"] + page.texts["provenance-conditions"]

    record = study.record()
    for word in (
        "qnli-embedded",
        record.data_fingerprint,
        record.config_hash,
        "2.13.0",
        "a processor",
        "synthetic",
        "float32",
    ):
        assert word in text


def test_a_condition_that_changed_names_its_trials(study):
    record = study.record()
    measured = [trial for trial in record.trials if trial.measurement][:6]
    versions = ["2.13", "2.13", "2.13", "2.14", "2.13", "2.14"]
    trials = tuple(
        replace(t, number=n, measurement=replace(t.measurement, environment={"torch": version}))
        for n, (t, version) in enumerate(zip(measured, versions, strict=True))
    )

    shown = dict(provenance.conditions(replace(record, trials=trials)))

    assert shown["torch"] == "2.13 (trials 0-2, 4); 2.14 (trials 3, 5)"
    assert shown["number type"] == "float32"


@pytest.mark.parametrize("preset", ["embedded", "minilm", "bert-base", "paper-grid"])
def test_the_study_file_makes_the_same_study(preset, tmp_path):
    config = load_study(preset)
    record = record_of(config)
    path = tmp_path / provenance.STUDY_FILE

    path.write_text(provenance.study_file(record), encoding="utf-8")

    assert load_study(str(path)) == config


def test_the_study_file_of_an_own_task_makes_the_same_study(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        'name = "a \\"b\\""\n[task]\nname = "mood"\ntext_columns = ["täxt"]\n'
        'labels = ["sad", "glad"]\n[trainer.data]\nsource = "my data"\n',
        encoding="utf-8",
    )
    config = load_study(str(own))
    path = tmp_path / provenance.STUDY_FILE

    path.write_text(provenance.study_file(record_of(config)), encoding="utf-8")

    assert load_study(str(path)) == config


def test_the_commands_name_the_study_and_its_database(study, page):
    commands = page.texts["commands"].splitlines()

    assert commands == [
        f"autoprumux search --preset study.toml --storage {study.url}",
        f"autoprumux query --storage {study.url} --study qnli-embedded --budget 0:10:0.5",
        f"autoprumux export --storage {study.url} --study qnli-embedded --budget 5 --out model",
        f"autoprumux report --storage {study.url} --study qnli-embedded --out report.html",
    ]
    assert page.texts["study-file"] == provenance.study_file(study.record())


def test_nothing_is_exported_if_no_model_meets_a_budget(study):
    record = study.record()
    models = {c: m for c, m in record.measured.items() if c.num_instances == 5 or c.is_baseline}
    trials = [t for t in record.trials if t.measurement in models.values()]

    page = render_page(replace(record, trials=tuple(trials)), (0.0,), "-")

    assert "none meets it" in page
    assert "autoprumux query" in page
    assert "autoprumux export" not in page


def test_a_password_reaches_no_page(study, tmp_path, monkeypatch):
    from autoprumux.api.stored import report_task

    masked = "postgresql://me:***@host/db"
    opened = replace(open_database(study.url), url=masked)
    monkeypatch.setattr("autoprumux.storage.database.open_database", lambda *_, **__: opened)

    report_task(storage="postgresql://me:geheim@host/db", out=tmp_path / "report.html")

    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "geheim" not in text
    assert "postgresql://me:***@host/db" in text


@pytest.mark.parametrize(
    ("fingerprint", "is_announced"), [("builtin:qnli:0123", True), ("files:qnli:0123", False)]
)
def test_built_in_data_is_announced(stored, fingerprint, is_announced):
    text = render_page(stored(2, fingerprint=fingerprint).record(), (0.02,), "-")

    assert (BUILTIN_NOTE in text) == is_announced


def test_a_study_without_baseline_shows_its_models_and_says_what_is_missing(
    stored, tmp_path, read_page
):
    study = stored(5, has_baseline=False)
    record = study.record()
    path = tmp_path / "report.html"
    path.write_text(render_page(record, record.budgets, "-"), encoding="utf-8")

    page = read_page(path)

    assert "has no measured dense baseline" in page.texts["no-baseline"]
    assert set(page.figures) == {"front", "courses"}
    assert "answers" not in page.tables
    assert len(page.tables["trials"]) == 6
    assert {row[5] for row in page.tables["trials"][1:]} == {"-"}
    shown = [p.candidate for p in front_info(record, record.budgets).points]
    assert sorted(shown) == sorted(record.measured)


def test_a_study_with_a_failed_baseline_only_says_that_nothing_is_measured(stored):
    record = stored(1, failing=frozenset({Candidate(1, 0.0)})).record()

    text = render_page(record, record.budgets, "-")

    assert "0 of 24 candidates measured, 1 failed." in text
    assert "Nothing is measured yet." in text
    assert "failed, sparsity_not_reached" in text


def test_a_study_without_trials_has_a_page(stored):
    record = stored(0).record()

    assert "No trial has begun yet." in render_page(record, record.budgets, "-")


def test_a_running_trial_is_in_the_table(study):
    record = study.record()
    trials = (*record.trials[:-1], replace(record.trials[-1], state="running", measurement=None))

    text = render_page(replace(record, trials=trials), record.budgets, "-")

    assert "1 running." in text
    assert "<td>running</td>" in text


@pytest.mark.parametrize(("num_trials", "num_left_out"), [(1, 0), (5, 4)])
def test_a_small_study_has_a_whole_page(stored, tmp_path, read_page, num_trials, num_left_out):
    record = stored(num_trials, failing=frozenset()).record()
    path = tmp_path / "report.html"
    path.write_text(render_page(record, record.budgets, "-"), encoding="utf-8")

    page = read_page(path)

    assert {"front", "budgets", "accuracy", "speedup", "courses"} <= set(page.figures)
    assert ("calibration-accuracy" in page.figures) == (num_left_out > 0)
    assert len(calibration_info(record, record.baseline).left_out) == num_left_out
    assert len(page.tables["trials"]) == num_trials + 1


def record_of(config) -> StudyRecord:
    return StudyRecord(
        name=config.name,
        task=config.trainer.task_name,
        config=study_to_dict(config),
        config_hash="",
        data_fingerprint="",
        seed=config.search.seed,
        budgets=config.search.budgets,
    )
