"""What `autoprumux bench` timed, as text and for JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

from autoprumux.records import Calibration, Candidate, DeviceProfile, StudyRecord, Throughput
from autoprumux.report.profiles import format_profile

BUSY_LOG_STD = 0.25
"""Misfit beyond which timings contradict each other; on a quiet machine it is below 0.1."""


class Bench(Protocol):
    """What was timed; see `autoprumux.api.bench.BenchOutcome`."""

    @property
    def profile(self) -> DeviceProfile:
        """Machine and setting."""

    @property
    def study(self) -> StudyRecord | None:
        """Where it is stored, if anywhere."""

    @property
    def measured(self) -> tuple[tuple[Candidate | None, Throughput], ...]:
        """Models that were timed."""

    @property
    def calibration(self) -> Calibration | None:
        """The law that was fitted, if that was asked for."""


def format_bench(outcome: Bench) -> str:
    """Yield the table of a bench and how to ask for its answers."""
    body = (
        _measured_lines(outcome)
        if outcome.calibration is None
        else _calibration_lines(outcome.calibration)
    )
    lines = [f"profile {format_profile(outcome.profile)}", "", *body, ""]
    if outcome.study is None:
        lines.append("Not stored: the directory is of no trial in this database.")
    else:
        lines.append("Stored. Ask for answers on this hardware:")
        lines.append(
            f"  autoprumux query --study {outcome.study.name} "
            f"--device-profile {outcome.profile.name}"
        )
    return "\n".join(lines)


def bench_to_dict(outcome: Bench) -> dict[str, Any]:
    """Yield a bench for JSON."""
    return {
        "profile": asdict(outcome.profile),
        "study": None if outcome.study is None else outcome.study.name,
        "models": [
            {
                "num_instances": None if candidate is None else candidate.num_instances,
                "sparsity": None if candidate is None else candidate.sparsity,
                **asdict(throughput),
            }
            for candidate, throughput in outcome.measured
        ],
        "calibration": None if outcome.calibration is None else asdict(outcome.calibration),
    }


def _measured_lines(outcome: Bench) -> Iterator[str]:
    yield "     N     s    seq/s  speed-up  quartiles"
    for candidate, speed in outcome.measured:
        point = "     -     -"
        if candidate is not None:
            point = f"{candidate.num_instances:>6}  {candidate.sparsity:.2f}"
        yield (
            f"{point}  {speed.throughput:7.0f}  {speed.speedup:7.2f}x"
            f"  {speed.speedup_q1:.2f}x to {speed.speedup_q3:.2f}x"
        )


def _calibration_lines(calibration: Calibration) -> Iterator[str]:
    yield "     N  hidden  heads         feed-forward units         ms  share"
    for timing in calibration.timings:
        shape = timing.shape
        heads = " ".join(map(str, shape.head_counts))
        units = " ".join(map(str, shape.feedforward_sizes))
        yield (
            f"{shape.num_instances:>6}  {shape.hidden_size:6}  {heads:<12}  {units:<24}"
            f"  {1000 * timing.seconds:5.1f}  {timing.share:5.3f}"
        )
    yield ""
    yield (
        f"{len(calibration.timings)} untrained models timed in {calibration.num_repeats} rounds, "
        f"{calibration.duration_s:.0f} s; dense baseline {calibration.baseline_throughput:.0f} "
        f"seq/s."
    )
    yield f"Expected misfit of a model of known structure: {100 * calibration.log_std:.0f} %."
    if calibration.log_std > BUSY_LOG_STD:
        yield "The machine was too busy for this to be of use; run again when it is quiet."
