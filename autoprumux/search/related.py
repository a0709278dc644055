"""Which studies of a database tell something of a new one: same model, same training.

They are of other tasks, or of the same one with another seed.

What they tell is a prior (`surrogates.related`): it counts until the study itself has measured.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Protocol

from autoprumux.errors import StorageError
from autoprumux.records import Measurement, StudyRecord
from autoprumux.storage.priors import Served
from autoprumux.surrogates.noise import measurement_variance, sampling_variance
from autoprumux.surrogates.related import MAX_STUDIES, Others, OtherStudy

MIN_MEASURED = 4
"""Measured models, the dense baseline included, from which a study tells anything of others."""

FindOthers = Callable[[StudyRecord], Others | None]
"""Yields what other studies tell of one; `None` if there is none that does."""


class Prior(Protocol):
    """Remembers what served a study first, see `storage.priors.PriorBook`."""

    def load(self) -> Served | None:
        """Yield what serves the study; None while nobody has looked."""

    def keep(self, served: Served) -> Served:
        """Store what serves the study unless that is stored, and yield what is stored."""


class RelatedStudies:
    """Reads the other studies once, when the baseline of this one is measured.

    What they had measured when the first process of the study looked is all that ever serves it,
    so that a resumed search goes on as an uninterrupted one, whatever has become of the others.

    Args:
        load_studies: Yields all studies of the database that can be read, with their trials.
        prior: Remembers which of them served.
    """

    def __init__(self, load_studies: Callable[[], Sequence[StudyRecord]], prior: Prior) -> None:
        self._load_studies, self._prior = load_studies, prior
        self._others: Others | None = None
        self._is_read = False

    def __call__(self, record: StudyRecord) -> Others | None:
        """Yield what they tell of `record`, the same at each call."""
        if not self._is_read and record.baseline is not None:
            self._others = self._read(record)
            self._is_read = True
        return self._others

    def _read(self, record: StudyRecord) -> Others | None:
        served = self._prior.load()
        if served is None:
            serving = _serving(record, self._load_studies())
            served = self._prior.keep({s.name: frozenset(_measured(s)) for s in serving})
        # Another process may have stored more than was read before.
        studies = {study.name: study for study in self._load_studies()} if served else {}
        gone = served.keys() - studies.keys()
        if gone:
            raise StorageError(
                f"Study `{min(gone)}`, which study `{record.name}` learns from, cannot be read "
                "any more. Restore a copy of the database, or search under another name "
                "(`--study`)."
            )
        return _others([_of_trials(studies[n], numbers) for n, numbers in served.items()], record)


def no_others(record: StudyRecord) -> Others | None:
    """Yield nothing: a study is searched by its own measurements alone."""
    return None


def others_of(record: StudyRecord, studies: Sequence[StudyRecord]) -> Others | None:
    """Yield what other studies tell of `record`, if any does.

    Args:
        record: The study that is searched, with its dense baseline.
        studies: All studies, those that count most first.
    """
    return _others(_serving(record, studies), record)


def is_related(study: StudyRecord, record: StudyRecord) -> bool:
    """Yield whether a study has trained the same model for as many updates.

    On another task, or on the same examples of this one with another seed.
    """
    is_another_seed = (
        study.seed != record.seed and study.data_fingerprint == record.data_fingerprint
    )
    return (
        (study.task != record.task or is_another_seed)
        and study.baseline is not None
        and len(study.by_cell) >= MIN_MEASURED
        and _recipe(study) == _recipe(record)
    )


def as_other(
    study: StudyRecord, baseline: Measurement, *, is_same_task: bool = False
) -> OtherStudy:
    """Yield what `study` tells of a study that has measured `baseline`.

    Its speed-ups count only if they were measured in the same setting.

    Args:
        study: With its dense baseline.
        baseline: Of the study that is told of.
        is_same_task: True if only the seed is another.
    """
    own = study.baseline
    assert own is not None
    here = baseline.timing
    others = {c: m for c, m in study.by_cell.items() if not c.is_baseline}
    return OtherStudy(
        name=study.name,
        losses={c: own.accuracy - m.accuracy for c, m in others.items()},
        noise_std=math.sqrt(sampling_variance(own)),
        log_speedups={
            c: math.log(m.speedup) for c, m in others.items() if not here.difference(m.timing)
        },
        variances={c: measurement_variance(m) for c, m in others.items()},
        is_same_task=is_same_task,
    )


def _serving(record: StudyRecord, studies: Sequence[StudyRecord]) -> list[StudyRecord]:
    return [study for study in studies if is_related(study, record)][:MAX_STUDIES]


def _others(studies: Sequence[StudyRecord], record: StudyRecord) -> Others | None:
    baseline = record.baseline
    assert baseline is not None
    others = [as_other(s, baseline, is_same_task=s.task == record.task) for s in studies]
    return Others(others) if others else None


def _measured(study: StudyRecord) -> list[int]:
    return [trial.number for trial in study.trials if trial.measurement is not None]


def _of_trials(study: StudyRecord, numbers: AbstractSet[int]) -> StudyRecord:
    return replace(study, trials=tuple(t for t in study.trials if t.number in numbers))


def _recipe(study: StudyRecord) -> object:
    """Yield the model, and the updates of each phase, with their stretch after pruning."""
    trainer = study.config.get("trainer")
    if not isinstance(trainer, Mapping):
        return None
    before = {"widening": "keys", "wide_source": ""}  # as all studies before there was a choice
    model = {**before, **(trainer.get("model") or {})}
    phases = {k: v for k, v in trainer.items() if isinstance(v, Mapping) and "num_updates" in v}
    if model["widening"] == "keys":
        phases.pop("narrow", None)
    return model, {k: (v["num_updates"], v.get("stretch", 0.0)) for k, v in phases.items()}
