"""The page of a study of more models than a page should show one by one."""

from dataclasses import replace

import pytest

from autoprumux.answers import pareto_front
from autoprumux.config import SearchConfig, StudyConfig, study_to_dict
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Choice, StudyRecord, TrialRecord
from autoprumux.report.page.document import render_page
from autoprumux.report.page.front import MAX_POINTS, front_info
from autoprumux.report.page.surfaces import MAX_CELLS, surface_info
from autoprumux.report.page.trials import MAX_ROWS, shown_trials, trial_rows
from trainers.config import TrainerConfig

WIDTHS = tuple(range(1, 21))
SPARSITIES = tuple(round(0.016 * k, 3) for k in range(60))
NUM_TRIALS = len(WIDTHS) * len(SPARSITIES)


@pytest.fixture(scope="module")
def large():
    """A whole grid of 1,200 candidates, measured by a closed form."""
    evaluator = SyntheticEvaluator(task=SyntheticTask(num_examples=100))
    grid = sorted(
        (Candidate(n, s) for n in WIDTHS for s in SPARSITIES), key=lambda c: not c.is_baseline
    )
    search = SearchConfig(widths=WIDTHS, sparsities=SPARSITIES, budgets=(0.02,))
    config = StudyConfig(name="large", search=search, trainer=TrainerConfig(task="qnli"))
    trials = tuple(
        TrialRecord(
            number=number,
            candidate=candidate,
            state="complete",
            choice=Choice(reason="chance 0.50 to meet 5.0 points, gain 1.65x, about 1.0 min"),
            measurement=evaluator.evaluate(candidate, number, lambda *_: None),
        )
        for number, candidate in enumerate(grid)
    )
    return StudyRecord(
        name="large",
        task="qnli",
        config=study_to_dict(config),
        config_hash="",
        data_fingerprint="",
        seed=0,
        budgets=(0.02,),
        trials=trials,
    )


@pytest.fixture(scope="module")
def large_page(large, tmp_path_factory, read_page):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(large, large.budgets, "-"), encoding="utf-8")
    return read_page(path)


def test_the_page_stays_below_six_megabytes(large_page):
    assert large_page.path.stat().st_size < 5_800_000


def test_the_figure_of_the_front_keeps_the_whole_front(large):
    info = front_info(large, large.budgets)

    shown = {point.candidate for point in info.points}
    front = {candidate for candidate, _ in pareto_front(large.measured)}
    assert front | {Candidate(1, 0.0)} <= shown
    assert MAX_POINTS / 2 <= len(shown) <= MAX_POINTS + len(front) + 1
    assert info.num_models == NUM_TRIALS


def test_the_table_keeps_the_front_and_the_newest_trials(large, large_page):
    numbers = {int(row[0]) for row in large_page.tables["trials"][1:]}

    front = {candidate for candidate, _ in pareto_front(large.measured)}
    assert {t.number for t in large.trials if t.candidate in front} <= numbers
    assert set(range(NUM_TRIALS - MAX_ROWS + len(front), NUM_TRIALS)) <= numbers
    assert len(numbers) == MAX_ROWS
    assert f"Of {NUM_TRIALS} trials {MAX_ROWS} are shown" in large_page.text


def test_the_maps_show_cells_in_equal_steps_and_say_so(large, large_page):
    info = surface_info(large, large.baseline)

    assert info.widths == WIDTHS
    assert info.sparsities == SPARSITIES[::2]
    assert len(info.widths) * len(info.sparsities) <= MAX_CELLS
    assert (
        "Of the grid's 1200 pairs 600, in equal steps, are shown."
        in large_page.captions["accuracy"]
    )


def test_the_caption_of_the_front_tells_what_is_left_out(large_page):
    assert "Of 1200 models" in large_page.captions["front"]


def test_of_a_study_that_fits_everything_is_shown(large):
    trials = tuple(t for t in large.trials if t.candidate.num_instances <= 10)
    small = replace(large, trials=trials[:MAX_POINTS])

    assert len(front_info(small, small.budgets).points) == MAX_POINTS
    assert shown_trials(small) == small.trials
    assert len(trial_rows(small, shown_trials(small))) == MAX_POINTS
    text = render_page(small, small.budgets, "-")
    assert "trials 600 are shown" not in text
    assert "are shown, those on the front" not in text
