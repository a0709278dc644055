"""Which stored calibrations tell the speeds of a study."""

from dataclasses import replace

from autoprumux.records import StudyRecord
from autoprumux.storage.reading import Rows, read_calibrations, read_profiles


def with_calibrations(rows: Rows, study: StudyRecord) -> StudyRecord:
    """Yield a study with the calibrations that are stored for the setting of its speeds."""
    own = study.timing
    if own is None:
        return study
    names = [p.name for p in read_profiles(rows) if own.difference(p.timing) is None]
    found = tuple(found for name in names for found in read_calibrations(rows, name))
    return replace(study, calibrations=found) if found else study
