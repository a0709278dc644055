from dataclasses import replace

import pytest

from autoprumux.answers import answer_budgets
from autoprumux.errors import NoBaselineError, NoModelError, UsageError
from autoprumux.exporting.choice import choose_by_budget, choose_by_number


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.1])
def test_a_budget_is_answered_as_a_query_answers_it(study, budget):
    choice = choose_by_budget(study, [budget])

    (answer,) = answer_budgets(study, [budget])
    assert answer.best is not None
    assert choice.model == answer.best
    assert study.trials[choice.number].measurement is answer.best.measurement
    assert choice.budget == budget


@pytest.mark.parametrize(
    ("budgets", "shown"),
    [((0.01, 0.025), "1, 2.5"), (tuple(i / 100 for i in range(11)), r"0, 1, \.\.\., 10")],
)
def test_several_budgets_are_refused_since_one_model_answers_one(study, budgets, shown):
    with pytest.raises(
        UsageError, match=f"got {shown} points; .* `--budget {100 * budgets[-1]:g}"
    ):
        choose_by_budget(study, budgets)


def test_a_budget_that_no_model_meets_names_one_that_is_met(study):
    with pytest.raises(NoModelError, match=r"loses at most 0 points; .*`--trial 0`") as caught:
        choose_by_budget(study, [0.0])

    suggested = float(str(caught.value).partition("Try `--budget ")[2].split("`")[0])
    assert choose_by_budget(study, [suggested / 100]).model.speedup > 1


def test_a_study_with_nothing_faster_than_the_baseline_offers_the_baseline(study):
    alone = replace(study, trials=study.trials[:1])

    with pytest.raises(NoModelError, match="exists; export the baseline itself with `--trial 0`"):
        choose_by_budget(alone, [0.5])

    assert choose_by_number(alone, 0).model.candidate.is_baseline


@pytest.mark.parametrize("choose", [choose_by_budget, choose_by_number])
def test_a_study_without_its_baseline_is_refused(study, choose):
    begun = replace(study, trials=study.trials[1:])

    with pytest.raises(NoBaselineError, match=r"no measured dense baseline .* Run `autoprumux"):
        choose(begun, 4 if choose is choose_by_number else [0.02])


def test_a_trial_is_chosen_whatever_it_loses(study):
    choice = choose_by_number(study, 6)

    assert (choice.number, choice.budget) == (6, None)
    assert choice.model.measurement is study.trials[6].measurement


def test_a_trial_without_a_model_is_refused_with_its_reason(study):
    running = replace(study.trials[8], state="running", measurement=None)
    study = replace(study, trials=(*study.trials[:8], running, study.trials[9]))
    measured = r"Trials with a measured model: 0, 1, 2, 3, 4, 5, 6, 7\."

    for number, reason in (
        (9, r"Trial 9 \(N=10 s=0\.95\) failed \(sparsity_not_reached: Pruning reached 0\.91 .*\)"),
        (8, r"Trial 8 \(N=5 s=0\.60\) is not finished"),
        (77, "has no trial 77"),
    ):
        with pytest.raises(NoModelError, match=f"{reason}.* {measured}"):
            choose_by_number(study, number)
