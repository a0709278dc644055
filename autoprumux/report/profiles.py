"""Device profiles and what was timed under them, as text and as rows for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from autoprumux.hardware import StudyOnHardware
from autoprumux.records import DeviceProfile


def format_hardware(hardware: StudyOnHardware) -> str:
    """Yield whose speeds answers rest on, and how many of them are predicted."""
    num_measured = len(hardware.study.measured) - len(hardware.predicted)
    text = f"speeds: profile {format_profile(hardware.profile)}; {num_measured} models timed there"
    if not hardware.predicted:
        return text
    source = "its calibration" if hardware.is_calibrated else "these"
    return f"{text}, {len(hardware.predicted)} predicted from {source} (~)"


def format_profile(profile: DeviceProfile) -> str:
    """Yield a profile's name and setting."""
    plural = "" if profile.num_threads == 1 else "s"
    threads = f", {profile.num_threads} thread{plural}" if profile.num_threads else ""
    device = profile.processor if profile.device == "cpu" else profile.device
    return (
        f"{profile.name} ({device}, {profile.dtype}, batch {profile.batch_size}, "
        f"{profile.length} tokens{threads})"
    )


def format_profiles(profiles: Sequence[DeviceProfile]) -> str:
    """Yield the stored profiles, one a line."""
    if not profiles:
        return "No device profiles are stored; `autoprumux bench` makes one."
    return "\n".join(map(format_profile, profiles))


def profiles_to_rows(profiles: Sequence[DeviceProfile]) -> list[dict[str, Any]]:
    """Yield one object per profile."""
    return [asdict(profile) for profile in profiles]
