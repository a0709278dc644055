"""A recording made again: its searches run or resumed, then written.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.api.processes import launch
from autoprumux.api.recordings import export_recorded
from autoprumux.api.search import default_cache_dir, run_search
from autoprumux.config import DEFAULT_STORAGE, StudyConfig
from autoprumux.errors import UsageError

if TYPE_CHECKING:
    from autoprumux.evaluators.recording import Recording


def record_again(
    recorded: str,
    directory: Path,
    *,
    data: str | None = None,
    model: str | None = None,
    storage: str = DEFAULT_STORAGE,
    cache_dir: Path | None = None,
    stop: threading.Event | None = None,
) -> tuple[Path, Path]:
    """Run or resume the searches that a recording's header describes, and write what they yield.

    Args:
        recorded: Name of a recording that ships, or the path of another one's files.
        directory: Gets `NAME.json` and `NAME.csv`.
        data: Directory of the data, if the recording was made with a folder's.
        model: Directory or Hugging Face id of the weights, likewise.
        storage: Database URL of the searches.
        cache_dir: Directory of checkpoints; None means the user's cache directory.
        stop: Set from elsewhere to leave at the next checkpoint.

    Returns:
        The paths of the header and of the rows.

    Raises:
        KeyboardInterrupt: If it was to stop.
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.evaluators.recorded_searches import searches_of
    from autoprumux.evaluators.recording_files import load_recording

    if launch().count > 1:
        raise UsageError(
            f"`--again` trains in one process, got {launch().count}; run the commands of the "
            "recording's header with the launcher instead."
        )
    recording = load_recording(recorded)
    configs = searches_of(recording, data=data, model=model)
    cache_dir = cache_dir or default_cache_dir()
    for config in configs[:1]:
        _require_same_examples(recording, config, cache_dir)
    for config in configs:
        run_search(config, storage=storage, cache_dir=cache_dir, stop=stop)
    names = [config.name for config in configs]
    return export_recorded(names, directory, storage=storage, name=recording.name)


def _require_same_examples(recording: "Recording", config: StudyConfig, cache_dir: Path) -> None:
    """Refuse other examples than the recorded ones, before hours of training."""
    from autoprumux.evaluators.trained import TrainedEvaluator

    evaluator = TrainedEvaluator(config.trainer, cache_dir.absolute(), config.search.seed)
    evaluator.check()
    if evaluator.data_fingerprint != recording.data_fingerprint:
        raise UsageError(
            f"The recording `{recording.name}` was made with other examples "
            f"({recording.data_fingerprint}) than those of `{config.trainer.data.source}` "
            f"({evaluator.data_fingerprint}). Give those with `--data`, or the version of "
            "autoprumux that made it."
        )
