"""A stored study as it would be on other hardware: measured there, or predicted for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autoprumux.errors import NoBaselineError, UsageError
from autoprumux.records import (
    Calibration,
    Candidate,
    DeviceProfile,
    EncoderShape,
    Measurement,
    StudyRecord,
    Throughput,
)
from autoprumux.surrogates.base import Prediction
from autoprumux.surrogates.calibrated import CalibratedSpeeds, calibrated_speeds
from autoprumux.surrogates.speedups import SpeedupModel
from autoprumux.surrogates.structure_latency import StructureLatency, dense_shape
from autoprumux.timing import require_one_setting

_QUARTILE = 0.6744897501960817
"""Quartiles of a normal distribution in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class StudyOnHardware:
    """A study whose speeds are those of a device profile."""

    study: StudyRecord
    profile: DeviceProfile
    predicted: frozenset[Candidate]
    """Trained candidates whose speed is predicted; the others were measured there."""
    is_calibrated: bool
    """True if these predictions rest on a calibration, False if on the other measured speeds."""


def choose_profile(
    study: StudyRecord,
    profiles: Sequence[DeviceProfile],
    *,
    name: str | None = None,
    batch_size: int | None = None,
    length: int | None = None,
) -> DeviceProfile | None:
    """Yield the stored profile that a question means; None for the study's own speeds.

    Args:
        study: With its trials.
        profiles: All that are stored.
        name: Profile asked for; None takes the one of this batch and length.
        batch_size: Groups in a batch; None takes any.
        length: Tokens in a sequence; None takes any.

    Raises:
        NoBaselineError: If the study has no measured dense baseline.
        UsageError: If no stored setting fits, or several do; names those that there are.
    """
    own = require_baseline(study).throughput
    if name is None:
        if _fits(own, batch_size, length):
            return None
        found = [profile for profile in profiles if _fits(profile, batch_size, length)]
    else:
        named = [profile for profile in profiles if profile.name == name]
        if not named:
            raise UsageError(f"`--device-profile` {name!r} is unknown; {_listed(profiles)}")
        found = [profile for profile in named if _fits(profile, batch_size, length)]
    if len(found) > 1:
        names = ", ".join(f"`{profile.name}`" for profile in found)
        raise UsageError(f"Several profiles fit: {names}. Choose one with `--device-profile`.")
    if not found:
        wanted = (("--batch-size", batch_size), ("--length", length))
        asked = " and ".join(f"`{option}` {value}" for option, value in wanted if value)
        raise UsageError(
            f"No stored speeds have {asked}; the study's own have batch {own.batch_size} and "
            f"length {own.length}, and {_listed(profiles)}"
        )
    return found[0]


def study_on(
    study: StudyRecord,
    profile: DeviceProfile,
    stored: Mapping[int, Throughput],
    calibrations: Sequence[Calibration],
) -> StudyOnHardware:
    """Yield the study with the speeds of a profile.

    A trial's speed is the one measured under the profile, else the one that the latest calibration
    for this encoder predicts from its structure, else the one that the law of latency predicts
    from the speeds of the others.

    Args:
        study: With its trials.
        profile: Hardware and setting.
        stored: Measured under the profile, by trial number.
        calibrations: Of the profile, the oldest first.

    Raises:
        NoBaselineError: If the study has no measured dense baseline.
        UsageError: If the profile has neither measured speeds of the study nor a calibration.
    """
    fitting = [c for c in calibrations if _is_of(c, study)]
    measured = {
        trial.candidate: stored[trial.number] for trial in study.trials if trial.number in stored
    }
    missing = {c: m for c, m in study.measured.items() if c not in measured}
    if fitting:
        predictions = _by_structure(fitting[-1], profile.length, missing)
        baseline = fitting[-1].baseline_throughput
    elif measured:
        predictions = _by_law(measured, missing)
        baseline = 0.0
    else:
        raise UsageError(
            f"Profile `{profile.name}` has neither speeds of study `{study.name}` nor a "
            f"calibration for its model. Run `autoprumux bench {study.name} --calibrate --name "
            f"{profile.name}` on that machine."
        )
    if measured:
        baseline = sorted(t.baseline_throughput for t in measured.values())[len(measured) // 2]
    speeds = dict(measured)
    for candidate, prediction in predictions.items():
        speeds[candidate] = _as_throughput(prediction, baseline, profile)
    trials = tuple(
        replace(t, measurement=_timed_there(t.measurement, speeds[t.candidate], profile))
        if t.measurement is not None
        else t
        for t in study.trials
    )
    return StudyOnHardware(
        study=replace(study, trials=trials, calibrations=tuple(fitting)),
        profile=profile,
        predicted=frozenset(predictions),
        is_calibrated=bool(fitting),
    )


def calibrated_speeds_of(study: StudyRecord) -> CalibratedSpeeds | None:
    """Yield what the last calibration for the study's encoder and setting expects, if any."""
    fitting = [c for c in study.calibrations if _is_of(c, study)]
    timing = study.timing
    if not fitting or timing is None:
        return None
    return calibrated_speeds(fitting[-1], timing.length)


def require_baseline(study: StudyRecord) -> Measurement:
    """Yield the measured dense baseline.

    Raises:
        NoBaselineError: If there is none; says what to run.
    """
    if study.baseline is None:
        raise NoBaselineError(
            f"Study `{study.name}` has no measured dense baseline (N=1 s=0.00) yet, so losses and "
            f"speed-ups have nothing to compare with. Run `autoprumux search --task {study.task}`."
        )
    return study.baseline


def require_one_device(study: StudyRecord, remedy: str = "") -> None:
    """Refuse a study whose trials were measured in another setting than its dense baseline.

    Args:
        study: With its trials, the dense baseline among them.
        remedy: What to do, one sentence; empty tells how to have one setting.

    Raises:
        MixedDevicesError: If there are such trials.
    """
    own, others = study.timing, study.other_timings
    if own is not None and others:
        named = {f"trial {number}": other for number, other in others.items()}
        bench = f"`autoprumux bench {study.name}`"
        usual = (
            f"Time all its models on one machine ({bench}) and ask with `--device-profile`, or "
            "search again under another name (`--study`)."
        )
        require_one_setting(f"Study `{study.name}`", own, named, remedy or usual)


def shape_of(candidate: Candidate, measurement: Measurement) -> EncoderShape:
    """Yield the shape of a trained model."""
    structure = measurement.structure
    return EncoderShape(
        candidate.num_instances,
        structure.hidden_size,
        structure.head_counts,
        structure.feedforward_sizes,
    )


def _fits(setting: DeviceProfile | Throughput, batch_size: int | None, length: int | None) -> bool:
    return batch_size in (None, setting.batch_size) and length in (None, setting.length)


def _listed(profiles: Sequence[DeviceProfile]) -> str:
    if not profiles:
        return (
            "no device profiles are stored. Run `autoprumux bench` on the machine you ask about."
        )
    names = ", ".join(
        f"`{profile.name}` (batch {profile.batch_size}, length {profile.length})"
        for profile in profiles
    )
    return f"stored are {names}. Run `autoprumux bench` to add one."


def _is_of(calibration: Calibration, study: StudyRecord) -> bool:
    """Yield whether a calibration is for the encoder of the study."""
    baseline, encoder = study.baseline, calibration.encoder
    trainer = study.config.get("trainer")
    model = trainer.get("model") if isinstance(trainer, Mapping) else None
    words = model if isinstance(model, Mapping) else {}
    return (
        baseline is not None
        and shape_of(Candidate(1, 0.0), baseline) == dense_shape(encoder, 1)
        and all(
            words.get(name, getattr(encoder, name)) == getattr(encoder, name)
            for name in ("multiplexer", "demultiplexer")
        )
    )


def _timed_there(
    measurement: Measurement, throughput: Throughput, profile: DeviceProfile
) -> Measurement:
    """Yield a measurement with the speed and the processor of a profile."""
    environment = {**measurement.environment, "processor": profile.processor}
    return replace(measurement, throughput=throughput, environment=environment)


def _by_structure(
    calibration: Calibration, length: int, missing: Mapping[Candidate, Measurement]
) -> dict[Candidate, Prediction]:
    law = StructureLatency.stored(calibration, length)
    shapes = [shape_of(candidate, measurement) for candidate, measurement in missing.items()]
    return dict(zip(missing, law.predict(shapes), strict=True)) if shapes else {}


def _by_law(
    measured: Mapping[Candidate, Throughput], missing: Mapping[Candidate, Measurement]
) -> dict[Candidate, Prediction]:
    model = SpeedupModel({c: math.log(timed.speedup) for c, timed in measured.items()})
    means, stds = model.predict(list(missing))
    return {
        candidate: Prediction(float(mean), float(std))
        for candidate, mean, std in zip(missing, means, stds, strict=True)
    }


def _as_throughput(
    prediction: Prediction, baseline_throughput: float, profile: DeviceProfile
) -> Throughput:
    speedup, factor = math.exp(prediction.mean), math.exp(_QUARTILE * prediction.std)
    return Throughput(
        throughput=baseline_throughput * speedup,
        throughput_q1=baseline_throughput * speedup / factor,
        throughput_q3=baseline_throughput * speedup * factor,
        baseline_throughput=baseline_throughput,
        speedup=speedup,
        speedup_q1=speedup / factor,
        speedup_q3=speedup * factor,
        num_repeats=0,
        batch_size=profile.batch_size,
        length=profile.length,
        dtype=profile.dtype,
        device=profile.device,
        num_threads=profile.num_threads,
    )
