"""Which folders of models a database may name.

A database may come from a stranger, and what it names as a checkpoint is read and copied.
"""

from pathlib import Path

_SQLITE = "sqlite:///"


def known_folders(storage: str, cache_dir: Path | None) -> tuple[Path, ...]:
    """Yield the folders in which checkpoints are looked for.

    Args:
        storage: Database URL; of an SQLite file, its own folder counts.
        cache_dir: Directory of checkpoints; the user's cache directory counts always.
    """
    from autoprumux.api.search import default_cache_dir

    folders = [cache_dir, default_cache_dir()]
    if storage.startswith(_SQLITE):
        folders.append(Path(storage.removeprefix(_SQLITE)).parent)
    return tuple(folder.resolve() for folder in folders if folder is not None)


def is_within(path: str, folders: tuple[Path, ...]) -> bool:
    """Yield whether a folder of a model is below one of `folders`, links followed."""
    try:
        place = Path(path).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links
        return False
    return bool(path) and any(folder in place.parents for folder in folders)
