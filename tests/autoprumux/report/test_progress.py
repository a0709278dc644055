import io

import pytest
from rich.console import Console

from autoprumux.records import Candidate, Choice
from autoprumux.report.progress import ConsoleListener

CHOICE = Choice(reason="", chance=0.82, expected_gain=1.4, predicted_minutes=1.1)


def make_console(is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=120, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_each_phase_with_work_and_each_trial_is_one_plain_line(demo_study):
    console = make_console(is_terminal=False)

    with ConsoleListener(console) as listener:
        listener.announce("one [bracketed] sentence")
        listener.trial_started(4, Candidate(2, 0.6), CHOICE, False)
        listener.progress("prime/total", 600.0, 600)
        listener.progress("finetune/total", 400.0, 0)
        listener.progress("finetune/loss", 0.5, 10)
        listener.progress("finetune/step", 10.0, 10)
        listener.progress("finetune/held_out_accuracy", 0.84, 10)
        listener.progress("finetune_pruned/total", 200.0, 50)
        listener.trial_finished(demo_study.trials[4], demo_study.baseline)

    lines = written(console).splitlines()
    assert lines[0] == "one [bracketed] sentence"
    assert lines[1] == "trial  4  N=2  s=0.60  finetune: 400 steps"
    assert lines[2] == "trial  4  N=2  s=0.60  finetune pruned: 150 of 200 steps"
    assert lines[3].startswith("trial  4  N=2  s=0.60  accuracy ")
    assert len(lines) == 4
    assert "\x1b" not in written(console)


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_resumed_trial_is_announced_as_such(is_resumed):
    console = make_console(is_terminal=False)

    ConsoleListener(console).trial_started(4, Candidate(2, 0.6), CHOICE, is_resumed)

    assert ("trial  4  N=2  s=0.60  taken up again" in written(console)) == is_resumed


def test_on_a_terminal_a_bar_shows_phase_steps_and_the_reason():
    console = make_console(is_terminal=True)

    with ConsoleListener(console) as listener:
        listener.trial_started(4, Candidate(2, 0.6), CHOICE, False)
        listener.progress("prune/total", 400.0, 0)
        listener.progress("prune/step", 120.0, 120)
        listener._bar.refresh()

    text = written(console)
    assert "trial  4  N=2  s=0.60  prune" in text
    assert "120/400" in text
    assert "chance 0.82, gain 1.4x, 1.1 min" in text


def test_on_a_terminal_the_last_held_out_accuracy_stands_beside_the_bar():
    console = make_console(is_terminal=True)

    with ConsoleListener(console) as listener:
        listener.trial_started(4, Candidate(2, 0.6), CHOICE, False)
        listener.progress("prune/total", 400.0, 0)
        listener.progress("prune/held_out_accuracy", 0.8431, 100)
        listener._bar.refresh()

    assert "held out accuracy 84.3" in written(console)


def test_a_long_line_is_not_broken_to_the_width_of_the_terminal():
    console = make_console(is_terminal=False)

    ConsoleListener(console).announce("word " * 60)

    assert written(console).count("\n") == 1
