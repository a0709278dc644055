"""Checkpoints and cache entries that a crash or a disk has damaged."""

from collections.abc import Callable
from pathlib import Path

import fault_process
import pytest
from fault_process import Kill, Scene

EndsAs = Callable[[Scene], None]

IN_PRUNING = Kill(function="trainers.phases.prune:PruneProgram.update", occurrence=7)
AFTER_TWO = Kill(function="optuna:Study.ask", occurrence=3)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Change one bit near the end, where the weights are."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 0b100
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, empty])
def test_damaged_progress_of_a_phase_begins_it_anew(
    damage: Callable[[Path], None], tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True)
    assert fault_process.run(scene, IN_PRUNING) < 0
    (progress,) = (tmp_path / "cache").rglob("progress.safetensors")

    damage(progress)

    ends_as_undisturbed(scene)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, empty, flip, remove])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "result.json"])
def test_damaged_entry_of_the_cache_is_trained_again(
    damage: Callable[[Path], None], name: str, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True)
    assert fault_process.run(scene, AFTER_TWO) < 0
    entries = list((tmp_path / "cache").glob(f"finetune-n1-*/{name}"))
    assert len(entries) == 1

    damage(entries[0])

    ends_as_undisturbed(scene)
