"""What hyperparameters do: only settings of one cell tell something of each other."""

from collections.abc import Mapping

import pytest

from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.hyperparameters import make_hyperparameter
from autoprumux.records import Candidate, Failure, StudyRecord, TrialRecord
from autoprumux.surrogates.performance import PerformanceModel, telling_failures
from autoprumux.surrogates.settings import SettingModel
from trainers.config import TrainerConfig

TEMPERATURE = "trainer.prune.temperature"
SEARCHED = (make_hyperparameter(TEMPERATURE, {"low": 1.0, "high": 4.0}, TrainerConfig()),)
SMALL, LARGE, NEW = Candidate(2, 0.6), Candidate(5, 0.6), Candidate(5, 0.9)


def at(cell: Candidate, temperature: float) -> Candidate:
    return Candidate(cell.num_instances, cell.sparsity, ((TEMPERATURE, temperature),))


def fit(
    gains: Mapping[Candidate, float], failed: Mapping[Candidate, str] | None = None
) -> SettingModel:
    """Yield the model of trials that were measured so much above the truth of their cell."""
    evaluator = SyntheticEvaluator(setting_loss=lambda candidate: -gains.get(candidate, 0.0))
    trials = [
        TrialRecord(
            number=number,
            candidate=candidate,
            state="complete",
            measurement=evaluator.evaluate(candidate, 0, lambda *_: None),
        )
        for number, candidate in enumerate([Candidate(1, 0.0), *gains])
    ]
    trials += [
        TrialRecord(
            number=len(trials),
            candidate=candidate,
            state="failed",
            failure=Failure(cause=cause, message="x"),  # type: ignore[arg-type]  # any cause
        )
        for candidate, cause in (failed or {}).items()
    ]
    record = StudyRecord(
        name="x",
        task="x",
        config={},
        config_hash="",
        data_fingerprint="",
        seed=0,
        budgets=(),
        trials=tuple(trials),
    )
    cells = PerformanceModel.from_measured(
        record.by_cell, telling_failures(record), [SMALL, LARGE, NEW]
    )
    return SettingModel.from_study(record, cells, SEARCHED, 2000)


def test_an_effect_seen_in_one_cell_is_expected_in_another_measured_one() -> None:
    model = fit({SMALL: 0.0, at(SMALL, 4.0): 0.03, LARGE: 0.0})

    own, warm, cold = model.predict([LARGE, at(LARGE, 4.0), at(LARGE, 1.0)])

    assert warm.accuracy - own.accuracy == pytest.approx(0.025, abs=0.01)
    assert cold.accuracy < warm.accuracy - 0.01
    assert warm.speedup == own.speedup


def test_cells_with_one_trial_each_tell_nothing_of_a_setting() -> None:
    model = fit({SMALL: 0.0, at(LARGE, 4.0): 0.03})

    assert model.shortlist([NEW, at(NEW, 4.0)], [0.02]) == [NEW]


def test_a_new_cell_gets_the_best_tried_setting_and_is_predicted_as_a_cell() -> None:
    model = fit({SMALL: 0.0, at(SMALL, 4.0): 0.03, at(SMALL, 1.0): -0.03})

    (chosen,) = model.shortlist([NEW, at(NEW, 1.0), at(NEW, 3.9), at(NEW, 4.0)], [0.02])

    assert chosen == at(NEW, 4.0)
    (of_setting,), (of_cell,) = model.predict([chosen]), model.cells.predict([NEW])
    assert of_setting.candidate == chosen
    assert of_setting.accuracy == of_cell.accuracy
    assert model.chance_within(chosen, 0.05) == model.cells.chance_within(NEW, 0.05)


def test_chance_of_another_setting_lies_between_that_of_noise_and_certainty() -> None:
    model = fit({SMALL: 0.0, LARGE: 0.0})
    loss = model.predict([LARGE])[0].accuracy_loss

    near, far = (model.chance_within(at(LARGE, t), loss - 0.015) for t in (2.1, 4.0))

    assert 0.0 < near < far < 0.5


def test_differences_decide_how_large_effects_are_taken_to_be() -> None:
    alike = fit({SMALL: 0.0, **{at(SMALL, t): 0.0 for t in (1.0, 1.5, 3.0)}, LARGE: 0.0})
    apart = fit(
        {SMALL: 0.0, at(SMALL, 1.0): 0.04, at(SMALL, 1.5): -0.04, at(SMALL, 3.0): 0.04, LARGE: 0.0}
    )

    stds = [model.predict([at(LARGE, 4.0)])[0].accuracy_loss_std for model in (alike, apart)]

    assert stds[0] < stds[1]


def test_speed_is_no_reason_to_try_another_setting() -> None:
    model = fit({SMALL: 0.0})

    assert model.predict([at(SMALL, 4.0)])[0].log_speedup_std == 0.0


@pytest.mark.parametrize("cause", ["sparsity_not_reached", "out_of_memory", "killed", "error"])
def test_a_failed_cell_is_left_alone(cause: str) -> None:
    model = fit({SMALL: 0.0}, failed={NEW: cause})

    assert model.shortlist([at(NEW, 4.0), at(SMALL, 4.0)], [0.02]) == [at(SMALL, 4.0)]


def test_values_without_a_number_are_doubtful_everywhere_and_their_cell_stays_open() -> None:
    model = fit({SMALL: 0.0, LARGE: 0.0}, failed={at(NEW, 4.0): "nan"})
    plain = fit({SMALL: 0.0, LARGE: 0.0})

    assert model.shortlist([NEW, at(NEW, 3.0)], [0.02]) == [NEW]
    assert model.chance_within(at(LARGE, 4.0), 0.1) == pytest.approx(
        0.1 * plain.chance_within(at(LARGE, 4.0), 0.1)
    )


def test_an_own_cell_that_failed_while_another_setting_is_measured_is_no_telling_failure() -> None:
    gains = {SMALL: 0.0, at(LARGE, 3.0): 0.0}
    model = fit(gains, failed={LARGE: "nan"})

    assert model.cells.predict([NEW]) == fit(gains).cells.predict([NEW])
