"""The trainings of a recording with the speeds of this machine.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from autoprumux.api.bench import BenchSetting, recipe_of
from autoprumux.errors import UsageError
from autoprumux.records import Throughput


def retime_recording(
    recorded: str,
    directory: Path,
    *,
    model: str | None = None,
    setting: BenchSetting | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Path, Path]:
    """Time untrained models of a recording's structures here, and write it with these speeds.

    What was trained, how accurate it is and how long it took stays as it is: accuracy depends on
    no machine, and speed on no weight.

    Args:
        recorded: Name of a recording that ships, or the path of another one's files.
        directory: Gets `NAME.json` and `NAME.csv`.
        model: Directory or Hugging Face id of the weights, if the recording was made with a
            folder's; only their shape is read.
        setting: How to time; its name, of a profile, is not read.
        report: Told, in a line, what was timed.

    Returns:
        The paths of the header and of the rows.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from datetime import UTC, datetime

    from autoprumux.evaluators.recorded_searches import model_source
    from autoprumux.evaluators.recording_files import load_recording, save_recording
    from autoprumux.evaluators.timed import model_timer
    from autoprumux.hardware import shape_of

    setting, report = setting or BenchSetting(), report or (lambda _: None)
    recording = load_recording(recorded)
    if not any(trial.measurement for trial in recording.trials):
        raise UsageError(f"The recording `{recording.name}` has no trained model to time.")
    recipe = recipe_of(recording.as_study(recording.seeds[0]), setting)
    source = model_source(recording, model)
    recipe = replace(recipe, model=replace(recipe.model, source=source))
    speeds: list[Throughput | None] = []
    with model_timer(recipe, setting.num_threads) as timer:
        for trial in recording.trials:
            speed = None
            if trial.measurement is not None:
                speed = timer.measure(shape_of(trial.candidate, trial.measurement), "")
                told = f"{speed.speedup:.2f}x ({trial.measurement.speedup:.2f}x before)"
                report(f"{trial.candidate} seed {trial.seed}: {told}")
            speeds.append(speed)
        environment = timer.environment()
    today = datetime.now(UTC).date().isoformat()
    return save_recording(recording.retimed(speeds, environment, recorded=today), directory)
