"""Which studies of a database tell something of a new one: other tasks, same model, same training.

What they tell is a prior (`surrogates.related`): it counts until the study itself has measured.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from autoprumux.records import Measurement, StudyRecord
from autoprumux.surrogates.related import Others, OtherStudy

MIN_MEASURED = 4
"""Measured models, the dense baseline included, from which a study tells anything of others."""

FindOthers = Callable[[StudyRecord], Others | None]
"""Yields what other studies tell of one; `None` if there is none that does."""


class RelatedStudies:
    """Reads the other studies once, when the baseline of this one is measured.

    Args:
        load_studies: Yields all studies of the database with their trials.
    """

    def __init__(self, load_studies: Callable[[], Sequence[StudyRecord]]) -> None:
        self._load_studies = load_studies
        self._others: Others | None = None
        self._is_read = False

    def __call__(self, record: StudyRecord) -> Others | None:
        """Yield what they tell of `record`, the same at each call."""
        if not self._is_read and record.baseline is not None:
            self._others = others_of(record, self._load_studies())
            self._is_read = True
        return self._others


def no_others(record: StudyRecord) -> Others | None:
    """Yield nothing: a study is searched by its own measurements alone."""
    return None


def others_of(record: StudyRecord, studies: Sequence[StudyRecord]) -> Others | None:
    """Yield what studies of other tasks tell of `record`, if any does.

    Args:
        record: The study that is searched, with its dense baseline.
        studies: All studies, those that count most first.
    """
    baseline = record.baseline
    assert baseline is not None
    related = [study for study in studies if is_related(study, record)]
    return Others([as_other(study, baseline) for study in related]) if related else None


def is_related(study: StudyRecord, record: StudyRecord) -> bool:
    """Yield whether a study of another task has trained the same model for as many updates."""
    return (
        study.task != record.task
        and study.baseline is not None
        and len(study.by_cell) >= MIN_MEASURED
        and _recipe(study) == _recipe(record)
    )


def as_other(study: StudyRecord, baseline: Measurement) -> OtherStudy:
    """Yield what `study` tells of a study that has measured `baseline`.

    Its speed-ups count only if both timed alike, on the same device.
    """
    own = study.baseline
    assert own is not None
    share = min(max(own.accuracy, 0.0), 1.0)
    others = {c: m for c, m in study.by_cell.items() if not c.is_baseline}
    is_timed_alike = _timing(own) == _timing(baseline)
    return OtherStudy(
        name=study.name,
        losses={c: own.accuracy - m.accuracy for c, m in others.items()},
        noise_std=math.sqrt(share * (1.0 - share) / max(own.num_examples, 1)),
        log_speedups={c: math.log(m.speedup) for c, m in others.items() if is_timed_alike},
    )


def _recipe(study: StudyRecord) -> object:
    """Yield the model, and the updates of each phase, with their stretch after pruning."""
    trainer = study.config.get("trainer")
    if not isinstance(trainer, Mapping):
        return None
    model = {"widening": "keys", **(trainer.get("model") or {})}  # before there was a choice
    phases = {k: v for k, v in trainer.items() if isinstance(v, Mapping) and "num_updates" in v}
    if model["widening"] == "keys":
        phases.pop("narrow", None)
    return model, {k: (v["num_updates"], v.get("stretch", 0.0)) for k, v in phases.items()}


def _timing(measurement: Measurement) -> tuple[object, ...]:
    speed = measurement.throughput
    return speed.device, speed.dtype, speed.batch_size, speed.length, speed.num_threads
