"""The beginning of a search: everything that can be checked, then the study in both schemas."""

import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage

from autoprumux.config import StudyConfig, config_hash, recipe_differences, study_to_dict
from autoprumux.errors import StudyMismatchError, UnknownStudyError
from autoprumux.evaluators.base import Evaluator
from autoprumux.hardware import require_one_device
from autoprumux.records import StudyRecord
from autoprumux.storage.repository import Repository

METRIC_NAMES = ("accuracy", "speedup")


def open_study(config: StudyConfig, repository: Repository, evaluator: Evaluator) -> StudyRecord:
    """Check everything that can be checked, make or update our study, and yield what was stored.

    Raises:
        StudyMismatchError: If the stored study has another recipe or other data.
        MixedDevicesError: If the stored study was measured in several settings.
        InputError: If data, checkpoint or configuration are at fault.
        StorageError: If the database cannot be read or written.
    """
    stored = _find(repository, config.name)
    _require_same_recipe(stored, config)
    if stored is not None:
        require_one_device(stored)
    evaluator.check()
    record = StudyRecord(
        name=config.name,
        task=config.trainer.task_name,
        config=study_to_dict(config),
        config_hash=config_hash(config),
        data_fingerprint=evaluator.data_fingerprint,
        seed=config.search.seed,
        budgets=config.search.budgets,
    )
    _require_same_data(stored, record)
    repository.save_study(record)
    return record


def open_optuna_study(record: StudyRecord, storage: BaseStorage) -> optuna.Study:
    """Make or open Optuna's study of the same name, labelled for optuna-dashboard."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the listener tells what happens
    study = optuna.create_study(
        storage=storage,
        study_name=record.name,
        directions=["maximize"] * len(METRIC_NAMES),
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(METRIC_NAMES))
    study.set_user_attr("task", record.task)
    study.set_user_attr("budgets_points", [round(100 * b, 4) for b in record.budgets])
    is_builtin = record.data_fingerprint.startswith("builtin:")
    study.set_user_attr("data", "built-in generator" if is_builtin else record.data_fingerprint)
    return study


def _find(repository: Repository, name: str) -> StudyRecord | None:
    try:
        return repository.load_study(name)
    except UnknownStudyError:
        return None


def _require_same_recipe(stored: StudyRecord | None, config: StudyConfig) -> None:
    if stored is None or stored.config_hash == config_hash(config):
        return
    changes = "; ".join(recipe_differences(stored.config, config)) or "an unknown part"
    raise StudyMismatchError(
        f"Study `{config.name}` was made with another recipe: {changes}. Give the stored values, "
        "or another database with `--storage`."
    )


def _require_same_data(stored: StudyRecord | None, record: StudyRecord) -> None:
    if stored is None or stored.data_fingerprint == record.data_fingerprint:
        return
    raise StudyMismatchError(
        f"Study `{record.name}` was made with other examples ({stored.data_fingerprint}, now "
        f"{record.data_fingerprint}). Give the same data, or another database with `--storage`."
    )
