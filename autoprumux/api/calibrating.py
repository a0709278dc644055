"""Calibrations: a few untrained models timed, which predict the speed of all others.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autoprumux.config import StudyConfig
from autoprumux.errors import InputError
from autoprumux.records import Calibration, DeviceProfile

if TYPE_CHECKING:
    from autoprumux.evaluators.timed import ModelTimer
    from autoprumux.storage.database import Database

CALIBRATION_LIMIT_S = 105.0
"""Seconds of a calibration from the call on; with the start of the process it is under two
minutes."""


def calibrate_speeds(
    timer: "ModelTimer",
    profile: DeviceProfile,
    widths: Sequence[int],
    started: float,
    report: "Callable[[str], None]",
    between: "Callable[[], object] | None" = None,
) -> Calibration:
    """Time untrained models and fit the law to them.

    Args:
        timer: Of the recipe and the setting.
        profile: The same setting under its name.
        widths: Mux widths N that will be asked about.
        started: When the calibration began, of `time.monotonic`.
        report: Told, in a line, what is being timed.
        between: Called before every timed pass; what it raises ends the calibration.

    Raises:
        InputError: If a model cannot be built, or too few rounds fit into the time.
    """
    from autoprumux.surrogates.calibration_shapes import calibration_shapes
    from autoprumux.surrogates.structure_latency import StructureLatency

    encoder = timer.encoder(widths)
    shapes = calibration_shapes(encoder, widths, profile.length)
    left_s = CALIBRATION_LIMIT_S - (time.monotonic() - started)
    report(f"timing {len(shapes)} untrained models for at most {left_s:.0f} s")
    timings, num_rounds = timer.time_shapes(shapes, left_s, between)
    law = StructureLatency.fitted(encoder, profile.length, timings)
    return Calibration(
        profile=profile.name,
        encoder=encoder,
        coefficients=law.coefficients,
        log_std=law.log_std,
        baseline_throughput=profile.batch_size / timings[0].seconds,
        num_repeats=num_rounds,
        duration_s=0.0,
        timings=tuple(timings),
    )


def calibrate_first(
    config: StudyConfig,
    database: "Database",
    report: "Callable[[str], None]",
    stop: "threading.Event | None" = None,
) -> None:
    """Calibrate for a study that has no trials yet, unless that has been done.

    A calibration for its model and setting serves every study of the database. Where none can be
    had the search does without, and `report` is told why.

    Args:
        config: The study.
        database: Gets the calibration.
        report: Told what happens, line by line.
        stop: Set from elsewhere to end it before the next timed pass; nothing is stored then.

    Raises:
        KeyboardInterrupt: If it was to stop.
        StorageError: If the database cannot be used.
    """
    from autoprumux.evaluators.timed import model_timer
    from autoprumux.storage.profiles import ProfileRepository

    def stay() -> None:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt

    profiles = ProfileRepository(database)
    if config.search.sampler != "performance_model" or profiles.has_trials(config.name):
        return
    started, widths = time.monotonic(), config.search.widths
    try:
        with model_timer(config.trainer, options={}) as timer:
            profile, known = profiles.under_free_name(timer.profile())
            if timer.encoder(widths) in [calibration.encoder for calibration in known]:
                return
            found = calibrate_speeds(timer, profile, widths, started, report, stay)
    except InputError as error:
        report(f"speeds are not calibrated: {error}")
        return
    profiles.save_calibration(profile, replace(found, duration_s=time.monotonic() - started))
    report(f"calibrated as profile {profile.name}: expected misfit {100 * found.log_std:.0f} %")
