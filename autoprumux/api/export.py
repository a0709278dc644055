"""Exports: a measured model of a study as a directory that others can load.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.api.places import is_within, known_folders
from autoprumux.api.search import default_cache_dir
from autoprumux.api.stored import load_stored, stored_recipe
from autoprumux.config import DEFAULT_STORAGE, parse_budgets
from autoprumux.errors import InputError, NoModelError, UsageError

if TYPE_CHECKING:
    from autoprumux.exporting.choice import Choice
    from autoprumux.records import StudyRecord
    from trainers.results import ExportResult

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""What `--onnx` needs beside the plain dependencies."""


@dataclass(frozen=True, kw_only=True)
class ExportOutcome:
    """What was written, and what was checked of it."""

    choice: "Choice"
    result: "ExportResult"
    directory: Path
    files: dict[str, int]
    """Bytes by name."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export writes, and where it looks for the model."""

    with_onnx: bool = False
    """True adds `model.onnx`; needs the extra `onnx`."""
    licence: str | None = None
    """See `write_export`."""
    artifacts: Path | str | None = None
    """See `choose_stored`, as for the next."""
    cache_dir: Path | None = None


def export_task(
    out: Path,
    task: str | None = None,
    budget: str | None = None,
    *,
    trial: int | None = None,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    options: ExportOptions = ExportOptions(),
) -> ExportOutcome:
    """Write a measured model as a Hugging Face directory with its card, checked before it counts.

    Args:
        out: The directory; it must not be there yet.
        task: See `choose_stored`, as for the next four.
        budget: Largest accuracy loss in points.
        trial: Exports this trial instead.
        study: Takes the study of this name.
        storage: Database URL.
        options: What is written, and where the model may be.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    require_options(out, with_onnx=options.with_onnx, licence=options.licence)
    choice = choose_stored(
        task,
        budget,
        trial=trial,
        study=study,
        storage=storage,
        artifacts=options.artifacts,
        cache_dir=options.cache_dir,
    )
    return write_export(choice, out, with_onnx=options.with_onnx, licence=options.licence)


def require_options(out: Path, *, with_onnx: bool, licence: str | None) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        UsageError: If the place is taken, a package is missing or the licence is no word.
    """
    from autoprumux.exporting.directory import require_place

    require_place(out)
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise UsageError(
            f"`--license` must be a word of the Hub such as apache-2.0 or mit, got {licence!r}."
        )
    missing = [name for name in ONNX_PACKAGES if with_onnx and find_spec(name) is None]
    if missing:
        raise UsageError(
            f"`--onnx` needs {' and '.join(missing)}, which is not installed: install autoprumux "
            "with its extra `onnx`."
        )


def choose_stored(
    task: str | None = None,
    budget: str | None = None,
    *,
    trial: int | None = None,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    artifacts: Path | str | None = None,
    cache_dir: Path | None = None,
) -> "Choice":
    """Yield the measured trial of a stored study that answers a budget, or that is named.

    Args:
        task: Takes the newest study of this task; None takes the newest of all.
        budget: Largest accuracy loss in points; the choice is what `query` answers it with. None
            means the budget of the study.
        trial: Takes this trial instead.
        study: Takes the study of this name.
        storage: Database URL.
        artifacts: Folder or `s3://BUCKET/PREFIX` from which a model comes that another machine
            trained.
        cache_dir: Directory of checkpoints, if the search had another than the user's cache
            directory and it is not beside the database either.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(budget)
    if trial is not None and budget is not None:
        raise UsageError(
            f"`--trial` {trial} and `--budget` {budget} may name two models; give one of them."
        )
    record = load_stored(storage, name=study, task=task)

    from autoprumux.exporting.choice import choose_by_budget, choose_by_number

    if trial is not None:
        choice = choose_by_number(record, trial)
    else:
        choice = choose_by_budget(record, budgets or record.budgets)
    if artifacts is not None and not _has_model(choice.model.measurement.checkpoint):
        choice = _fetched(choice, storage, artifacts)
    _require_checkpoint(choice, known_folders(storage, cache_dir))
    return choice


def write_export(
    choice: "Choice",
    out: Path,
    *,
    with_onnx: bool = False,
    licence: str | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> ExportOutcome:
    """Write a chosen trial; the directory is there whole or not at all.

    Args:
        choice: From `choose_stored`.
        out: The directory.
        with_onnx: True adds `model.onnx`.
        licence: The Hub's word for the card; None means that of the built-in model and data, or
            `unknown`.
        announce: Told what is being done, a few words at a time.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.exporting.card import Card, default_licence, write_card
    from autoprumux.exporting.directory import whole_directory

    trainer = stored_recipe(choice.study)
    with whole_directory(out) as directory:
        with _ways_out_of_damage(choice):
            from autoprumux.evaluators.trained import export_checkpoint

            checkpoint = Path(choice.model.measurement.checkpoint)
            result = export_checkpoint(
                checkpoint,
                directory,
                trainer,
                fingerprint=choice.study.data_fingerprint,
                with_onnx=with_onnx,
                announce=announce,
            )
        licence = licence or default_licence(trainer)
        card = Card(choice=choice, trainer=trainer, result=result, licence=licence)
        write_card(card, directory)
        files = {path.name: path.stat().st_size for path in directory.iterdir()}
    return ExportOutcome(choice=choice, result=result, directory=out, files=files)


@contextmanager
def _ways_out_of_damage(choice: "Choice") -> Iterator[None]:
    """Say of a damaged checkpoint what else can be exported."""
    try:
        yield
    except InputError as error:
        if error.cause != "checkpoint":
            raise
        raise NoModelError(
            f"The checkpoint of trial {choice.number} ({choice.model.candidate}) is damaged: "
            f"{error} {_way_out(choice.study, choice.number)}"
        ) from error


def _has_model(checkpoint: str) -> bool:
    return (Path(checkpoint) / "config.json").is_file()


def _fetched(choice: "Choice", storage: str, artifacts: Path | str) -> "Choice":
    """Yield the choice with its model fetched from the artifacts, if it is there."""
    from autoprumux.storage.artifacts import Artifacts
    from autoprumux.storage.database import open_database

    with closing(open_database(storage, must_exist=True)) as database:
        optunas = database.optuna_storage()
        store = Artifacts(artifacts, optunas)
        study_id = optunas.get_study_id_from_name(choice.study.name)
        trial_id = optunas.get_trial_id_from_study_id_trial_number(study_id, choice.number)
        model = store.fetch_model(trial_id, default_cache_dir() / "fetched")
    if model is None:
        return choice
    measurement = replace(choice.model.measurement, checkpoint=str(model))
    return replace(choice, model=replace(choice.model, measurement=measurement))


def _require_checkpoint(choice: "Choice", folders: tuple[Path, ...]) -> None:
    """Refuse a trial whose files are elsewhere or gone, and name those whose files are there."""
    checkpoint = Path(choice.model.measurement.checkpoint)
    if not is_within(choice.model.measurement.checkpoint, folders):
        raise NoModelError(
            f"The checkpoint of trial {choice.number} ({choice.model.candidate}) is said to be "
            f"{checkpoint}, which is in no known folder; if you know it, name the folder with "
            "`--cache-dir`."
        )
    if _has_model(choice.model.measurement.checkpoint):
        return
    raise NoModelError(
        f"The checkpoint of trial {choice.number} ({choice.model.candidate}) is gone: there is no "
        f"model in {checkpoint}. {_way_out(choice.study, choice.number)}"
    )


def _way_out(study: "StudyRecord", number: int) -> str:
    others = [
        str(trial.number)
        for trial in study.trials
        if trial.measurement is not None
        and trial.number != number
        and _has_model(trial.measurement.checkpoint)
    ]
    again = "train it again with `autoprumux search` and another `--study` name"
    if not others:
        return f"The checkpoints of all other trials are gone too; {again}."
    return f"Choose one that is there with `--trial` ({', '.join(others)}), or {again}."
