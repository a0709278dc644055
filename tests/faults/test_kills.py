"""`kill -9` of real processes at every write; the search is then run again.

pytest tests/faults -m "slow or not slow"     # every write, and the real recipe
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fault_process
import pytest
from fault_accounts import Undisturbed, account, leftovers
from fault_process import Kill, Scene
from small_encoders import SMALL

from trainers.models.checkpoints import save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import load_tokenizer

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

TOLD = Kill(function="optuna:Study.tell", when="after")
IN_TURN = (
    Kill(function="optuna:Study.ask"),
    Kill(function="optuna:Study.ask", when="after"),
    PLACES["fine-tuning"],
    Kill(function="autoprumux.storage.repository:Repository.save_measurement"),
    TOLD,
    PLACES["pruning"],
    Kill(function="trainers.measure.throughput:time_interleaved"),
    TOLD,
    PLACES["priming"],
    Kill(function="trainers.measure.throughput:time_interleaved"),
    TOLD,
)
"""Where one process after the other dies in one search; in no trial more than two, which is what a
trial may cost, and not both while phases are trained: after two deaths batches are smaller."""

AFTER_FIVE_ROWS = Kill(
    function="autoprumux.report.predictions:PredictionSummary.add", occurrence=5
)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.35, 0.5, 0.65, 0.8, 0.97])
def test_search_killed_at_a_write_ends_as_an_undisturbed_one(
    share: float,
    tmp_path: Path,
    undisturbed: Callable[[Scene], Undisturbed],
    ends_as_undisturbed: EndsAs,
) -> None:
    scene = Scene(folder=tmp_path)
    writes = undisturbed(scene).writes

    assert fault_process.run(scene, Kill(at=round(share * len(writes)))) == KILLED

    ends_as_undisturbed(scene)


@pytest.mark.slow
@pytest.mark.parametrize("offset", range(4))
def test_search_killed_at_any_write_ends_as_an_undisturbed_one(
    offset: int,
    tmp_path: Path,
    undisturbed: Callable[[Scene], Undisturbed],
    ends_as_undisturbed: EndsAs,
) -> None:
    for at in range(1 + offset, len(undisturbed(Scene(folder=tmp_path)).writes) + 1, 4):
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
def test_training_killed_at_every_29th_write_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Callable[[Scene], Undisturbed], ends_as_undisturbed: EndsAs
) -> None:
    calm = Scene(folder=tmp_path, is_real=True)
    num_writes = len(undisturbed(calm).writes)
    for at in range(6, num_writes, 29):  # 29: no multiple of the writes of a checkpoint
        scene = replace(calm, folder=tmp_path / str(at))
        scene.folder.mkdir()

        assert fault_process.run(scene, Kill(at=at)) == KILLED

        ends_as_undisturbed(scene)


@pytest.mark.slow
def test_training_killed_again_and_again_ends_as_an_undisturbed_one(
    tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True, num_trials=4)

    codes = [fault_process.run(scene, kill) for kill in IN_TURN]

    assert codes == [KILLED] * len(IN_TURN)
    ends_as_undisturbed(scene)


def test_report_killed_at_any_write_leaves_the_old_page_or_the_new(tmp_path: Path) -> None:
    scene = Scene(folder=tmp_path)
    assert fault_process.run(scene) == 0
    before = account(scene)

    report = Scene(folder=tmp_path, kind="report", out=tmp_path / "report.html")
    is_whole_or_as_before(report, read_page)

    assert account(scene) == before


def test_prediction_killed_at_any_write_leaves_the_old_labels_or_the_new(tmp_path: Path) -> None:
    shape = replace(SMALL, max_positions=16, dropout=0.0)
    save_model(MuxedBert(shape), tmp_path / "model", load_tokenizer("builtin"))
    (tmp_path / "in.tsv").write_text("text\n" + "the film was dull\n" * 7)

    predict = Scene(folder=tmp_path, kind="predict", out=tmp_path / "labels.tsv")
    is_whole_or_as_before(predict, Path.read_bytes, AFTER_FIVE_ROWS)


@pytest.mark.slow
def test_export_killed_at_any_write_leaves_nothing_or_all(tmp_path: Path) -> None:
    scene = Scene(folder=tmp_path, is_real=True, num_trials=2)
    assert fault_process.run(scene) == 0, fault_process.told(scene)
    before = account(scene)

    is_whole_or_as_before(Scene(folder=tmp_path, kind="export", out=tmp_path / "model"), read_all)

    assert account(scene) == before


def is_whole_or_as_before(scene: Scene, read: Callable[[Path], object], *more: Kill) -> None:
    """Kill what makes a file or folder at each of its writes, each time in another place."""
    assert scene.out is not None
    assert fault_process.run(scene) == 0, fault_process.told(scene)
    whole, num_writes = read(scene.out), len(fault_process.writes(scene))
    are_left = []
    for kill in (*(Kill(at=at) for at in range(1, num_writes + 1)), *more):
        out = scene.folder / f"place{kill.at}" / scene.out.name
        out.parent.mkdir()
        if scene.out.is_file():
            out.write_text("old")
        before = read(out)

        assert fault_process.run(replace(scene, out=out), kill) == KILLED
        assert read(out) in (before, whole)
        are_left.append(leftovers(scene.folder) != [])

        assert fault_process.run(replace(scene, out=out)) == 0, fault_process.told(scene)
        assert read(out) == whole
        assert leftovers(scene.folder) == []
    assert any(are_left)  # else nothing was removed


def read_page(path: Path) -> bytes:
    """Read a page but for the minute in which it was made."""
    return re.sub(rb"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} UTC", b"", path.read_bytes())


def read_all(folder: Path) -> dict[str, int] | None:
    if not folder.exists():
        return None
    return {path.name: path.stat().st_size for path in folder.iterdir()}
