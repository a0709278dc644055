"""Text lines and JSON rows: percent and points in text, fractions in JSON."""

from autoprumux.records import Candidate, Choice, Measurement, TrialRecord

BUILTIN_NOTE = "built-in data: made-up examples, not GLUE"
"""Stands beside every result on built-in data."""

DISTURBED = "*"
"""Stands behind a speed-up that other work on the machine disturbed."""

DISTURBED_NOTE = f"{DISTURBED} measured while other work disturbed the machine"


def format_duration(seconds: float) -> str:
    """Yield a duration as `45s`, `3m12s` or `1h02m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def format_choice(choice: Choice) -> str:
    """Yield why a candidate was chosen, in a few words."""
    parts = []
    if choice.chance is not None:
        parts.append(f"chance {choice.chance:.2f}")
    if choice.expected_gain is not None:
        parts.append(f"gain {choice.expected_gain:.1f}x")
    if choice.predicted_minutes is not None:
        parts.append(f"{choice.predicted_minutes:.1f} min")
    return ", ".join(parts) if choice.chance is not None else choice.reason


def format_trial(trial: TrialRecord, baseline: Measurement | None) -> str:
    """Yield the one line of a trial.

    Args:
        trial: Finished or failed.
        baseline: The dense baseline, if it is measured.
    """
    start = format_start(trial.number, trial.candidate)
    reason = f"  | {format_choice(trial.choice)}" if trial.choice else ""
    if trial.failure is not None:
        message = " ".join(trial.failure.message.split())
        return f"{start}  failed ({trial.failure.cause}): {message}{reason}"
    if trial.measurement is None:
        return f"{start}  running{reason}"
    return f"{start}  {_format_measurement(trial.measurement, baseline)}{reason}"


def format_start(number: int, candidate: Candidate) -> str:
    """Yield the beginning of every line about a trial."""
    return f"trial {number:>2}  {format_candidate(candidate)}"


def format_candidate(candidate: Candidate) -> str:
    """Yield a candidate in columns of fixed width, and what hyperparameters differ, if any."""
    setting = f" {candidate.setting}" if candidate.hyperparameters else ""
    return f"N={candidate.num_instances:<2} s={candidate.sparsity:.2f}{setting}"


def _format_measurement(measurement: Measurement, baseline: Measurement | None) -> str:
    points = 100 * (measurement.accuracy - baseline.accuracy) if baseline else 0.0
    return (
        f"accuracy {100 * measurement.accuracy:4.1f} {f'({format_points(points)} points)':>14}"
        f"  {measurement.throughput.throughput:5.0f} seq/s "
        f"{f'({measurement.speedup:.1f}x{disturbed_mark(measurement)})':>7}"
        f"  {format_duration(measurement.duration_s):>6}"
    )


def disturbed_mark(measurement: Measurement) -> str:
    """Yield the mark behind a speed-up that was measured on a busy machine, or nothing."""
    return DISTURBED if measurement.throughput.is_clean is False else ""


def format_points(points: float) -> str:
    """Yield a difference in points with its sign; no difference has none."""
    shown = round(points, 1)
    return f"{shown:+.1f}" if shown else "0.0"
