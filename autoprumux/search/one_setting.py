"""One study, one setting: a search refuses speeds that its others could not be compared with."""

from collections.abc import Mapping

from autoprumux.errors import InputError
from autoprumux.evaluators.base import Clock, Evaluator
from autoprumux.records import StudyRecord
from autoprumux.timing import TimingSetting

_REMEDIES: Mapping[str, str] = {
    "device": "Search on the same device (`--device`)",
    "processor": "Search on a machine with the same processor",
    "num_threads": "Search with the same number of threads (`OMP_NUM_THREADS={value}`)",
}
"""What to do where a field differs; the recipe of a study has the others."""


def require_same_clock(record: StudyRecord, evaluator: Evaluator) -> None:
    """Refuse to train for a speed that could not be compared; see `require_same_setting`."""
    if record.timing is not None and isinstance(evaluator, Clock):
        require_same_setting(record, evaluator.timing())


def require_same_setting(record: StudyRecord, here: TimingSetting) -> None:
    """Refuse speeds of another setting than that of the study.

    Args:
        record: With its trials; before its dense baseline is measured, every setting is right.
        here: The setting of this process.

    Raises:
        InputError: If they differ; names the field, both values and what to do.
    """
    own = record.timing
    field = None if own is None else own.difference(here)
    if own is None or field is None:
        return
    usual = "Search in the same setting"
    same = _REMEDIES.get(field, usual).format(value=getattr(own, field))
    raise InputError(
        f"The dense baseline of study `{record.name}` was measured with {own.told(field)}, here "
        f"it is {here.told(field)}, and speed-ups of two settings cannot be compared. {same}, or "
        f"in another database (`--storage`); `autoprumux bench {record.name}` tells how fast its "
        "models are here.",
        cause="device",
    )
