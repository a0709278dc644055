"""Checkpoints and cache entries that a crash or a disk has damaged."""

from collections.abc import Callable
from pathlib import Path

import fault_process
import pytest
from fault_process import Kill, Scene

EndsAs = Callable[[Scene], None]

IN_PRUNING = Kill(function="trainers.phases.prune:PruneProgram.update", occurrence=7)
AFTER_ONE = Kill(function="optuna:Study.ask", occurrence=2)
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


@pytest.mark.parametrize("damage", [truncate, flip, pytest.param(empty, marks=pytest.mark.slow)])
def test_damaged_progress_of_a_phase_begins_it_anew(
    damage: Callable[[Path], None], tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True, num_trials=2)
    assert fault_process.run(scene, IN_PRUNING) < 0
    (progress,) = (tmp_path / "cache").rglob("progress.safetensors")

    damage(progress)

    ends_as_undisturbed(scene)


OTHERS = [
    pytest.param(damage, name, marks=pytest.mark.slow)
    for name in ("model.safetensors", "config.json", "result.json")
    for damage in (truncate, empty, flip, remove)
    if (damage, name) != (flip, "model.safetensors")
]


@pytest.mark.parametrize(("damage", "name"), [(flip, "model.safetensors"), *OTHERS])
def test_damaged_entry_of_the_cache_is_trained_again(
    damage: Callable[[Path], None], name: str, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True, num_trials=2)
    assert fault_process.run(scene, AFTER_ONE) < 0

    damage(entry_of_the_baseline(scene, name))

    ends_as_undisturbed(scene)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip])
def test_damaged_teacher_is_trained_again(
    damage: Callable[[Path], None], tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, is_real=True)
    assert fault_process.run(scene, AFTER_TWO) < 0

    damage(entry_of_the_baseline(scene, "model.safetensors"))

    ends_as_undisturbed(scene)


def entry_of_the_baseline(scene: Scene, name: str) -> Path:
    (path,) = (scene.folder / "cache").glob(f"finetune-n1-*/{name}")
    return path
