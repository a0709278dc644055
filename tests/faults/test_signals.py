"""SIGINT, once and twice, while real processes search; the search is then run again."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fault_process
import pytest
from fault_accounts import Undisturbed, leftovers
from fault_process import EXIT_INTERRUPTED, Kill, Scene

EndsAs = Callable[[Scene], None]

ONCE, TWICE = (signal.SIGINT,), (signal.SIGINT, signal.SIGINT)
MOMENTS = {
    "before ask": Kill(function="optuna:Study.ask", occurrence=3),
    "while a trial trains": Kill(
        function="autoprumux.evaluators.synthetic:SyntheticEvaluator.evaluate", occurrence=3
    ),
    "before tell": Kill(function="optuna:Study.tell", occurrence=2),
}
PHASES = {
    "priming": Kill(function="trainers.phases.prime:PrimeProgram.update", occurrence=2),
    "pre-training": Kill(function="trainers.phases.pretrain:PretrainProgram.update", occurrence=2),
    "fine-tuning": Kill(function="trainers.phases.finetune:FinetuneProgram.update", occurrence=2),
    "pruning": Kill(function="trainers.phases.prune:PruneProgram.update", occurrence=7),
    "throughput": Kill(function="trainers.measure.throughput:time_interleaved", occurrence=2),
}


@pytest.mark.parametrize("signals", [ONCE, TWICE], ids=["once", "twice"])
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_interrupted_search_ends_as_an_undisturbed_one(
    moment: Kill, signals: tuple[signal.Signals, ...], tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path)

    code = fault_process.run(scene, replace(moment, signals=signals))

    assert code == EXIT_INTERRUPTED, fault_process.told(scene)
    assert leftovers(tmp_path) == []
    ends_as_undisturbed(scene)


@pytest.mark.slow
@pytest.mark.parametrize("signals", [ONCE, TWICE], ids=["once", "twice"])
def test_search_interrupted_at_every_tenth_write_ends_as_an_undisturbed_one(
    signals: tuple[signal.Signals, ...],
    tmp_path: Path,
    undisturbed: Callable[[Scene], Undisturbed],
    ends_as_undisturbed: EndsAs,
) -> None:
    codes = []
    for at in range(1, len(undisturbed(Scene(folder=tmp_path)).writes) + 1, 10):
        scene = Scene(folder=tmp_path / str(at))
        scene.folder.mkdir()

        codes.append(fault_process.run(scene, Kill(at=at, signals=signals)))

        assert codes[-1] in (EXIT_INTERRUPTED, 0), fault_process.told(scene)
        if signals is ONCE:  # who leaves at once leaves it to the next search
            assert leftovers(scene.folder) == []
        ends_as_undisturbed(scene)
    assert codes.count(EXIT_INTERRUPTED) >= 0.8 * len(codes)  # the rest are in the last writes


@pytest.mark.slow
@pytest.mark.parametrize("signals", [ONCE, TWICE], ids=["once", "twice"])
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_interrupted_training_ends_as_an_undisturbed_one(
    phase: Kill, signals: tuple[signal.Signals, ...], tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True)

    code = fault_process.run(scene, replace(phase, signals=signals))

    assert code == EXIT_INTERRUPTED, fault_process.told(scene)
    ends_as_undisturbed(scene)
