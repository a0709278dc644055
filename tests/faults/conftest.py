"""Searches that meet no fault, and disks that fill."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import fault_process
import pytest
from fault_accounts import Undisturbed, account, leftovers
from fault_process import Scene


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scene], Undisturbed]:
    """Function: what the search of a scene leaves without a fault."""
    made: dict[tuple[bool, int], Undisturbed] = {}

    def make(scene: Scene) -> Undisturbed:
        key = (scene.is_real, scene.num_trials)
        if key not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            calm = Scene(folder=folder, is_real=scene.is_real, num_trials=scene.num_trials)
            assert fault_process.run(calm) == 0, fault_process.told(calm)
            made[key] = Undisturbed(account(calm), fault_process.writes(calm))
            assert leftovers(folder) == []
        return made[key]

    return make


@pytest.fixture
def ends_as_undisturbed(undisturbed: Callable[[Scene], Undisturbed]) -> Callable[[Scene], None]:
    """Function: run a search to its end, and compare what it left."""

    def check(scene: Scene) -> None:
        assert fault_process.run(scene) == 0, fault_process.told(scene)
        assert account(scene) == undisturbed(scene).account
        assert leftovers(scene.folder) == []

    return check


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Function: a new disk of so many KiB; needs the right to mount."""
    mounted: list[Path] = []

    def mount(size_kib: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no disk can be filled here: {error}")
        if done.returncode:
            pytest.skip(f"no disk can be filled here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
