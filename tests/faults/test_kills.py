"""`kill -9` of real processes at every write; the search is then run again.

pytest tests/faults -m "slow or not slow"     # every write, and the real recipe
"""

from collections.abc import Callable
from pathlib import Path

import fault_process
import pytest
from fault_accounts import Undisturbed, account, leftovers
from fault_process import Kill, Scene

KILLED = -9
EndsAs = Callable[[Scene], None]


PLACES = {
    "before ask": Kill(function="optuna:Study.ask", occurrence=3),
    "after ask": Kill(function="optuna:Study.ask", when="after", occurrence=3),
    "priming": Kill(function="trainers.phases.prime:PrimeProgram.update", occurrence=2),
    "pre-training": Kill(function="trainers.phases.pretrain:PretrainProgram.update", occurrence=2),
    "fine-tuning": Kill(function="trainers.phases.finetune:FinetuneProgram.update", occurrence=2),
    "pruning": Kill(function="trainers.phases.prune:PruneProgram.update", occurrence=7),
    "checkpoint of a phase written, not renamed": Kill(
        function="trainers.models.checkpoints:_flush", occurrence=9
    ),
    "phase stored, its progress not removed": Kill(
        function="trainers.stages:save_text", when="after", occurrence=2
    ),
    "accuracy": Kill(function="trainers.pipeline:measure_accuracy", occurrence=2),
    "throughput": Kill(function="trainers.measure.throughput:time_interleaved", occurrence=2),
    "throughput measured": Kill(
        function="trainers.pipeline:measure_throughput", when="after", occurrence=3
    ),
    "checkpoint written, not in the database": Kill(
        function="autoprumux.storage.repository:Repository.save_measurement", occurrence=3
    ),
    "before tell": Kill(function="optuna:Study.tell", occurrence=3),
    "after tell": Kill(function="optuna:Study.tell", when="after", occurrence=3),
}
"""Where a process with the real recipe dies."""


@pytest.mark.parametrize("share", [0.03, 0.2, 0.35, 0.5, 0.65, 0.8, 0.97])
def test_search_killed_at_a_write_ends_as_an_undisturbed_one(
    share: float,
    tmp_path: Path,
    undisturbed: Callable[[bool], Undisturbed],
    ends_as_undisturbed: EndsAs,
) -> None:
    scene = Scene(folder=tmp_path)
    writes = undisturbed(False).writes

    assert fault_process.run(scene, Kill(at=round(share * len(writes)))) == KILLED

    ends_as_undisturbed(scene)


@pytest.mark.slow
@pytest.mark.parametrize("offset", range(4))
def test_search_killed_at_any_write_ends_as_an_undisturbed_one(
    offset: int,
    tmp_path: Path,
    undisturbed: Callable[[bool], Undisturbed],
    ends_as_undisturbed: EndsAs,
) -> None:
    for at in range(1 + offset, len(undisturbed(False).writes) + 1, 4):
        scene = Scene(folder=tmp_path / str(at))
        scene.folder.mkdir()

        assert fault_process.run(scene, Kill(at=at)) == KILLED

        ends_as_undisturbed(scene)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_training_killed_anywhere_ends_as_an_undisturbed_one(
    place: Kill, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True)

    assert fault_process.run(scene, place) == KILLED, fault_process.told(scene)

    ends_as_undisturbed(scene)


@pytest.mark.slow
def test_training_killed_at_every_twelfth_write_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Callable[[bool], Undisturbed], ends_as_undisturbed: EndsAs
) -> None:
    for at in range(6, len(undisturbed(True).writes), 12):
        scene = Scene(folder=tmp_path / str(at), is_real=True)
        scene.folder.mkdir()

        assert fault_process.run(scene, Kill(at=at)) == KILLED

        ends_as_undisturbed(scene)


@pytest.mark.slow
def test_training_killed_again_and_again_ends_as_an_undisturbed_one(
    tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True)

    codes = [fault_process.run(scene, place) for place in PLACES.values()]

    assert codes.count(KILLED) >= 6
    assert set(codes) <= {KILLED, 0}
    ends_as_undisturbed(scene)


def test_report_killed_at_any_write_leaves_the_old_page_or_the_new(
    tmp_path: Path,
) -> None:
    scene = Scene(folder=tmp_path)
    assert fault_process.run(scene) == 0
    before = account(scene)
    out = tmp_path / "report.html"
    report = Scene(folder=tmp_path, kind="report", out=out)
    assert fault_process.run(report) == 0, fault_process.told(report)
    page, num_writes = out.read_bytes(), len(fault_process.writes(report))

    for at in range(1, num_writes + 1):
        assert fault_process.run(report, Kill(at=at)) == KILLED
        assert _without_time(out.read_bytes()) == _without_time(page)

    assert fault_process.run(report) == 0
    assert leftovers(tmp_path) == []
    assert account(scene) == before


@pytest.mark.slow
def test_export_killed_at_any_write_leaves_nothing_or_all(tmp_path: Path) -> None:
    scene = Scene(folder=tmp_path, is_real=True)
    assert fault_process.run(scene) == 0, fault_process.told(scene)
    before = account(scene)
    whole = tmp_path / "whole"
    assert fault_process.run(Scene(folder=tmp_path, kind="export", out=whole)) == 0
    files, num_writes = names(whole), len(fault_process.writes(scene))

    for at in range(1, num_writes + 1):
        out = tmp_path / f"out{at}"
        assert (
            fault_process.run(Scene(folder=tmp_path, kind="export", out=out), Kill(at=at))
            == KILLED
        )
        assert not out.exists() or names(out) == files

    assert fault_process.run(Scene(folder=tmp_path, kind="export", out=tmp_path / "last")) == 0
    assert leftovers(tmp_path) == []
    assert account(scene) == before


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _without_time(page: bytes) -> bytes:
    """Leave out the minute in which a page was made."""
    import re

    return re.sub(rb"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} UTC", b"", page)
