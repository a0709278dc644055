"""What a model directory tells of its use, in `config.json` beside the sizes of the model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from trainers.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the texts of a trained model look like; the names of its classes are in its shape."""

    task: str
    """Name of the task it was trained for."""
    text_columns: tuple[str, ...]
    """Columns that hold its texts, one or two, in the order in which they are encoded."""
    max_length: int
    """Tokens in a sequence, specials included; longer ones were cut in training."""

    def to_dict(self) -> dict[str, Any]:
        """Yield plain values, ready for JSON."""
        return {**asdict(self), "text_columns": list(self.text_columns)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Usage | None":
        """Read the usage among the values of a `config.json`, None if it tells none.

        Raises:
            CheckpointError: If it tells only a part, or a value is of the wrong kind.
        """
        told = {name: values[name] for name in USAGE_KEYS if values.get(name) is not None}
        if not told:
            return None
        task, columns, length = (told.get(name) for name in USAGE_KEYS)
        if not isinstance(task, str) or not isinstance(length, int) or not _is_columns(columns):
            raise CheckpointError(
                f"The model's config.json must name {', '.join(USAGE_KEYS)}, got {told}."
            )
        assert isinstance(columns, list | tuple)
        return cls(task=task, text_columns=tuple(columns), max_length=length)


USAGE_KEYS = tuple(field.name for field in fields(Usage))
"""Keys in `config.json`."""


def _is_columns(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) not in (1, 2):
        return False
    return all(isinstance(name, str) for name in value)
