"""What a model directory says about how to use its model: labels, columns, largest length."""

from dataclasses import dataclass, fields
from pathlib import Path

from trainers.errors import CheckpointError
from trainers.models.checkpoints import CONFIG_FILE, read_json
from trainers.models.shape import MuxedBertShape


@dataclass(frozen=True, kw_only=True)
class ModelDirectory:
    """The `config.json` of a directory that `save_model`, transformers or an export wrote."""

    path: Path
    shape: MuxedBertShape
    labels: tuple[str, ...]
    """Names of the classes in the order of their ids."""
    text_columns: tuple[str, ...] = ()
    """The one or two columns that the model was trained on; none if it does not say."""
    max_length: int | None = None
    """Tokens of the longest sequence in training; None if it does not say."""
    task: str | None = None


def read_directory(path: Path) -> ModelDirectory:
    """Read the `config.json` of a model directory.

    Raises:
        CheckpointError: If it is missing, damaged or of another kind of model.
    """
    described = read_json(path / CONFIG_FILE)
    known = {"model_type", *(field.name for field in fields(MuxedBertShape))}
    shape = MuxedBertShape.from_dict({k: v for k, v in described.items() if k in known})
    columns = described.get("text_columns") or ()
    max_length, task = described.get("max_length"), described.get("task")
    is_list = isinstance(columns, list | tuple) and all(isinstance(c, str) for c in columns)
    if not is_list or len(columns) > 2:  # type: ignore[arg-type]
        raise _wrong(path, "text_columns", "a list of one or two names", columns)
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
        raise _wrong(path, "max_length", "a number of tokens", max_length)
    if task is not None and not isinstance(task, str):
        raise _wrong(path, "task", "a name", task)
    return ModelDirectory(
        path=path,
        shape=shape,
        labels=_read_labels(path, described.get("id2label"), shape),
        text_columns=tuple(columns),  # type: ignore[arg-type]
        max_length=max_length,
        task=task,
    )


def _read_labels(path: Path, id2label: object, shape: MuxedBertShape) -> tuple[str, ...]:
    """Yield the names in `id2label`, else those of the shape, else numbered ones."""
    names = shape.labels or tuple(f"LABEL_{index}" for index in range(shape.num_classes))
    if id2label is not None:
        ids = {str(index) for index in range(shape.num_classes)}
        if not isinstance(id2label, dict) or set(id2label) != ids:
            raise _wrong(path, "id2label", f"a name for each of {len(ids)} classes", id2label)
        names = tuple(str(id2label[str(index)]) for index in range(shape.num_classes))
    if len(names) != shape.num_classes:
        raise _wrong(path, "labels", f"{shape.num_classes} names", list(names))
    return names


def _wrong(path: Path, key: str, wanted: str, found: object) -> CheckpointError:
    return CheckpointError(
        f"`{key}` in `{path / CONFIG_FILE}` must be {wanted}, got {f'{found!r:.80}'}."
    )
