"""Replays a recorded study: measurements and failures of real trainings, without training."""

from dataclasses import replace

import numpy as np

from autoprumux.errors import InputError, TrialError
from autoprumux.evaluators.base import Report
from autoprumux.evaluators.recording import RecordedTrial, Recording
from autoprumux.records import Candidate, Measurement, PhaseRecord
from autoprumux.timing import require_one_setting

START_PHASES = ("prime", "pretrain", "narrow", "finetune")
"""Phases that all sparsities of a width share."""


class RecordedEvaluator:
    """Yields what was recorded; deterministic for (candidate, seed).

    Where several seeds are recorded, `seed` chooses among them, failed ones included. Phases that
    a width shares cost their recorded time once, as in a real search.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._cached: set[int] = set()
        self._trials: dict[Candidate, list[RecordedTrial]] = {}
        for trial in recording.trials:
            self._trials.setdefault(trial.candidate, []).append(trial)

    @property
    def data_fingerprint(self) -> str:
        """See `Evaluator.data_fingerprint`."""
        return self.recording.data_fingerprint

    def check(self) -> None:
        """See `Evaluator.check`; there must be a dense baseline, and one setting of all speeds.

        Raises:
            InputError: If no dense baseline was measured.
            MixedDevicesError: If speeds were measured in several settings.
        """
        baselines = self._trials.get(Candidate(1, 0.0), [])
        measured = [trial.measurement for trial in baselines if trial.measurement is not None]
        if not measured:
            raise InputError(
                f"The recording `{self.recording.name}` has no measured dense baseline "
                "(N=1 s=0.00), so losses and speed-ups have nothing to compare with.",
                cause="not_recorded",
            )
        require_one_setting(
            f"The recording `{self.recording.name}`",
            measured[0].timing,
            {
                f"{trial.candidate} seed {trial.seed}": trial.measurement.timing
                for trial in self.recording.trials
                if trial.measurement is not None
            },
            "Record the studies of each setting apart (`autoprumux record`).",
        )

    def cached_widths(self) -> frozenset[int]:
        """See `Evaluator.cached_widths`: the widths evaluated so far."""
        return frozenset(self._cached)

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        """See `Evaluator.evaluate`; a candidate that isn't recorded is an `InputError`."""
        trial = self._choose(candidate, seed)
        if trial.failure is not None:
            if trial.failure.last_accuracy is not None:
                report("prune/held_out_accuracy", trial.failure.last_accuracy, 0)
            raise TrialError(trial.failure.message, cause=trial.failure.cause)
        assert trial.measurement is not None
        measurement = self._with_cache(candidate, trial.measurement)
        self._cached.add(candidate.num_instances)
        return measurement

    def _choose(self, candidate: Candidate, seed: int) -> RecordedTrial:
        trials = self._trials.get(candidate)
        if trials is None:
            raise InputError(
                f"The recording `{self.recording.name}` has no trial of {candidate}; it has "
                f"{len(self._trials)} candidates, give only widths and sparsities of those.",
                cause="not_recorded",
            )
        key = [seed, candidate.num_instances, round(1e4 * candidate.sparsity)]
        return trials[int(np.random.default_rng(key).integers(len(trials)))]

    def _with_cache(self, candidate: Candidate, measurement: Measurement) -> Measurement:
        """Yield a measurement whose phases cost nothing where an earlier trial has paid them.

        The model of N = 1 teaches the wide ones: of two phases of a name the first is its.
        """
        phases: list[PhaseRecord] = []
        for position, phase in enumerate(measurement.phases):
            later = {other.name for other in measurement.phases[position + 1 :]}
            width = 1 if phase.name in later else candidate.num_instances
            is_cached = phase.name in START_PHASES and width in self._cached
            phases.append(replace(phase, is_cached=is_cached))
        saved_s = sum(phase.duration_s for phase in phases if phase.is_cached)
        return replace(
            measurement, phases=tuple(phases), duration_s=measurement.duration_s - saved_s
        )
