"""The made-up tasks of the benchmark of searches, against what is published."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from autoprumux.records import Candidate, Failure, Measurement

FOLDER = Path(__file__).parents[2] / "benchmarks"
BASELINE = Candidate(1, 0.0)
NUM_TASKS = 400

PUBLISHED = {
    ("mnli", 0.842): {0.80: (7.5, 4.0, 2.0), 0.74: (29.5, 10.6, 4.9)},
    ("qnli", 0.905): {0.87: (4.1, 3.8, 2.0), 0.82: (26.6, 11.2, 9.6)},
    ("qqp", 0.912): {0.89: (7.6, 10.6, 2.0), 0.86: (29.7, 10.6, 9.8)},
    ("sst2", 0.917): {0.865: (10.1, 10.6, 4.8), 0.83: (27.8, 10.6, 9.7)},
}
"""By task and accuracy of the dense model: speed-ups at two floors of accuracy, of PruMUX (N > 1
and s > 0), CoFi (N = 1) and DataMUX (s = 0); Su et al. 2023."""
KINDS = {
    "prumux": lambda c: c.num_instances > 1 and c.sparsity > 0,
    "cofi": lambda c: c.num_instances == 1,
    "datamux": lambda c: c.sparsity == 0,
}
POINTS = [
    pytest.param(dense - floor, kind, speedup, id=f"{task}-{floor}-{kind}")
    for (task, dense), floors in PUBLISHED.items()
    for floor, speedups in floors.items()
    for kind, speedup in zip(KINDS, speedups, strict=True)
]


@pytest.fixture(scope="module")
def tasks():
    sys.path.insert(0, str(FOLDER))
    module = importlib.import_module("search_tasks")
    sys.path.remove(str(FOLDER))
    yield module
    sys.modules.pop("search_tasks", None)


@pytest.fixture(scope="module")
def drawn(tasks):
    """Made-up tasks of both families that differ in the seed alone, each as one search sees it."""
    found = []
    for index in range(NUM_TASKS):
        rng = np.random.default_rng([1 + index % 2, index // 2])
        task = tasks.additive(tasks.draw_task(rng), rng)
        found.append((task, tasks.measure(task, rng)))
    return found


@pytest.mark.parametrize(("budget", "kind", "speedup"), POINTS)
def test_published_speedups_are_in_the_central_90_percent_of_the_family(
    drawn, budget, kind, speedup
):
    bests = []
    for _, outcomes in drawn:
        measured = {c: m for c, m in outcomes.items() if isinstance(m, Measurement)}
        floor = measured[BASELINE].accuracy - budget - 1e-9
        fast = [m.speedup for c, m in measured.items() if KINDS[kind](c) and m.accuracy >= floor]
        bests.append(max(fast, default=1.0))

    low, high = np.percentile(bests, [5, 95])

    assert low <= speedup <= high


def test_published_losses_of_wide_models_are_in_the_family(drawn):
    published = {2: (0.008, 0.036), 5: (0.024, 0.070), 10: (0.043, 0.106)}
    for width, (least, most) in published.items():
        losses = [t.accuracies[BASELINE] - t.accuracies[Candidate(width, 0.0)] for t, _ in drawn]
        low, high = np.percentile(losses, [5, 95])

        assert low <= least < most <= high


def test_part_of_the_tasks_fail_at_high_width_and_sparsity_only(drawn):
    failing = {
        index: {c: o.cause for c, o in outcomes.items() if isinstance(o, Failure)}
        for index, (_, outcomes) in enumerate(drawn)
    }

    causes = {cause for found in failing.values() for cause in found.values()}
    num_failing = sum(1 for found in failing.values() if found)
    assert causes == {"nan", "sparsity_not_reached"}
    assert 0.3 * NUM_TASKS < num_failing < 0.6 * NUM_TASKS
    for found in failing.values():
        assert all(c.num_instances > 1 and c.sparsity >= 0.6 for c in found)


def test_diverging_cells_fail_with_every_seed_and_short_ones_with_some(tasks, drawn):
    for task, _ in drawn[:60]:
        seen = tasks.draw_yields(task, 300, np.random.default_rng(0)).is_trained.mean(axis=0)
        chances = np.array([task.chances_to_fail[c] for c in tasks.GRID])

        assert np.all(seen[chances == 1.0] == 0.0)
        assert np.all(seen[chances == 0.0] == 1.0)
        assert np.all(np.abs(1.0 - chances - seen) < 0.1)


def test_a_cell_beyond_one_that_diverges_diverges_too(drawn):
    for task, _ in drawn:
        beyond = [c for c, chance in task.chances_to_fail.items() if chance == 1.0]
        for candidate in beyond:
            larger = [
                c
                for c in task.chances_to_fail
                if c.num_instances >= candidate.num_instances and c.sparsity >= candidate.sparsity
            ]
            assert set(larger) <= set(beyond)


def test_noise_is_drawn_anew_and_the_truth_is_its_centre(tasks, drawn):
    task, _ = drawn[0]

    many = tasks.draw_yields(task, 4000, np.random.default_rng(1))

    truth = np.array([task.accuracies[c] for c in tasks.GRID])
    speedups = np.array([task.speedups[c] for c in tasks.GRID])
    assert many.accuracies.mean(axis=0) == pytest.approx(truth, abs=2e-3)
    assert np.median(many.speedups, axis=0) == pytest.approx(speedups, rel=5e-3)
    assert np.all(many.speedups[:, 0] == 1.0)
    assert len({tuple(row) for row in many.accuracies[:20]}) == 20
