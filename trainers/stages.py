"""Phases as stages that need one another, each kept in a cache.

A phase's result is stored under the hash of everything that decides it: its configuration, the
data, the seed, and the result it starts from. Candidates that share a beginning share its results,
and a killed run takes up at its last checkpoint.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.checksums import checksums, damaged
from trainers.config import decisive
from trainers.context import TrainingContext
from trainers.errors import CheckpointError, DiskError
from trainers.locks import file_lock
from trainers.models.checkpoints import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    load_model,
    save_model,
    save_tensors,
    save_text,
)
from trainers.models.muxed_bert import MuxedBert
from trainers.phase_config import PhaseConfig, PrimeConfig
from trainers.phases.loop import LoopOptions, Program, Report, run_phase
from trainers.phases.prune import PruneProgram
from trainers.results import HistoryPoint, PhaseResult

logger = logging.getLogger(__name__)

FORMAT = 1
"""Part of every cache key; raised when a change makes older results unusable."""
RESULT_FILE = "result.json"
"""Written last into a cache entry, marks it as complete."""
LOCK_FILE = ".lock"
"""Held by the process that trains a phase; several workers may share a cache."""
HEAD_FILE = "token_head.safetensors"
"""The token head that priming hands on to pre-training."""
GATED_FILE = "gated.safetensors"
"""The uncompacted model, its gates and what steers them, for the next rung of a ladder."""
LAYER_MAP_FILE = "layer_map.safetensors"
"""The map from layers of the compacted model to those of its teacher, for training after it."""
PROGRESS_FILE = "progress.safetensors"
"""The unfinished phase."""
KEPT_FILES = (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, HEAD_FILE, GATED_FILE, LAYER_MAP_FILE)
"""What later phases read of a complete entry."""
CHECKSUMS = "checksums"
"""Key of `result.json`: what `KEPT_FILES` were when the phase ended."""


@dataclass(frozen=True)
class Finished:
    """What a phase leaves to later ones."""

    model: MuxedBert
    files: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Tensors by the name of the file that is kept beside the model; one of `KEPT_FILES`."""


@dataclass(frozen=True)
class Stage:
    """One cached phase and the stages it needs."""

    context: TrainingContext
    name: str
    num_instances: int
    seed: int
    key: dict[str, Any]
    """Everything that decides the result, beside what it needs."""
    needs: tuple["Stage", ...]
    config: PhaseConfig
    start: Callable[[], tuple[Program, MuxedBert]]
    """Builds the program and names the model that is saved."""
    finish: Callable[[Program, MuxedBert], Finished] = lambda _, model: Finished(model)
    """Turns the trained model into what is stored."""
    label: str = ""
    """Name in reports of progress, if not that of the phase."""
    keeps_gated: bool = False
    """True stores what the next rung of a ladder starts from."""
    required_files: tuple[str, ...] = ()
    """Files that a later phase reads; an entry made before there were such is trained again."""

    @cached_property
    def digest(self) -> str:
        """Hash of everything that decides the result."""
        values = {
            "format": FORMAT,
            "phase": self.name,
            "num_instances": self.num_instances,
            "seed": self.seed,
            "data": self.context.splits.fingerprint,
            "max_length": self.context.config.data.max_length,
            "precision": self.context.precision.word,
            "config": decisive(self.config),
            "needs": [stage.digest for stage in self.needs],
            **({"keeps_gated": True} if self.keeps_gated else {}),
            **self.key,
        }
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def directory(self) -> Path:
        """Cache entry."""
        return self.context.cache_dir / f"{self.name}-n{self.num_instances}-{self.digest}"

    @property
    def is_complete(self) -> bool:
        """True once the result is stored."""
        return (self.directory / RESULT_FILE).is_file()

    def load(self) -> MuxedBert:
        """Load the stored model."""
        return load_model(self.directory)

    def run_all(self, report: Report) -> Iterator[PhaseResult]:
        """Run what is missing, upstream first, and yield every phase once, in order."""
        seen = set[Path]()
        for stage in self._in_order():
            if stage.directory not in seen:
                seen.add(stage.directory)
                yield stage._run(report)

    def _in_order(self) -> Iterator["Stage"]:
        for stage in self.needs:
            yield from stage._in_order()
        yield self

    def _stored_result(self) -> PhaseResult | None:
        """Yield what is stored; None if it is not complete, or damaged, which is told."""
        result = self._read_result()
        if result is not None:
            for name in (PROGRESS_FILE, LOCK_FILE):  # of one that was killed in its last step
                (self.directory / name).unlink(missing_ok=True)
            _remove_partial_files(self.directory)
        return result

    def _read_result(self) -> PhaseResult | None:
        if not self.is_complete:
            return None
        try:
            values = json.loads((self.directory / RESULT_FILE).read_text(encoding="utf-8"))
            missing = [n for n in self.required_files if not (self.directory / n).is_file()]
            names = [*missing, *damaged(self.directory, values.pop(CHECKSUMS, {}))]
            history = tuple(HistoryPoint(**point) for point in values.pop("history"))
            result = replace(PhaseResult(**values, history=history), is_cached=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            names = [RESULT_FILE]
        if names:
            logger.warning(
                "%s in `%s` is %s; the phase is trained again",
                names[0],
                self.directory,
                "damaged" if (self.directory / names[0]).is_file() else "missing",
            )
            return None
        return result

    def _shared_result(self) -> PhaseResult | None:
        """Yield what the first process of the launch finds stored, see `_stored_result`."""
        processes = self.context.processes
        stored = self._stored_result() if processes.is_first else None
        if not processes.tell(stored is not None):
            return None
        return stored if processes.is_first else self._result_of_first()

    def _result_of_first(self) -> PhaseResult:
        result = self._read_result()
        if result is None:
            raise CheckpointError(
                f"Process {self.context.processes.rank} does not see `{self.directory}`; give all "
                "processes the same `--cache-dir`, on several machines a shared folder."
            )
        return result

    def _run(self, report: Report) -> PhaseResult:
        """Train the phase, unless it is stored; of those that need it at once, one trains.

        The processes of one launch train it together; the first of them writes.
        """
        stored = self._shared_result()
        if stored is not None:
            return stored
        processes = self.context.processes
        torch.manual_seed(self.seed)
        program, model = self.start()  # before anything is written: what it reads may be refused
        with self._lock(report) if processes.is_first else nullcontext():
            stored = self._shared_result()
            if stored is not None:
                return stored
            result = self._train(program, model, report)
            processes.exchange(None)  # the first has written it
            return result if processes.is_first else self._result_of_first()

    @contextmanager
    def _lock(self, report: Report) -> Iterator[None]:
        """Keep other launches from training this phase at the same time."""
        self._make_directory()
        label, lock = self.label or self.name, self.directory / LOCK_FILE
        with file_lock(lock, on_wait=lambda: report(f"{label}/wait", 0, 0)):
            yield
            lock.unlink(missing_ok=True)  # whoever gets a lock after this finds a complete entry

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"`{self.directory}` cannot be made: {error.strerror}.") from error

    def _train(self, program: Program, model: MuxedBert, report: Report) -> PhaseResult:
        options = LoopOptions(
            num_updates=self.config.num_updates,
            num_evaluations=getattr(self.config, "num_evaluations", 1),
            seed=self.seed,
            progress_path=self.directory / PROGRESS_FILE,
            checkpoint_interval_s=self.context.config.checkpoint_interval_s,
            processes=self.context.processes,
            **_scoring(self.config),
        )
        result = run_phase(self.label or self.name, program, options, report)
        if not self.context.processes.is_first:
            return result
        finished = self.finish(program, model)
        save_model(finished.model, self.directory, self.context.tokenizer)
        for name, tensors in finished.files.items():
            save_tensors(tensors, self.directory / name, {})
        head = program.modules.get("token_head")
        if head is not None:
            save_tensors(head.state_dict(), self.directory / HEAD_FILE, {})
        if self.keeps_gated:
            assert isinstance(program, PruneProgram)
            save_tensors(program.state(), self.directory / GATED_FILE, {})
        result = replace(result, name=self.name)
        files = [self.directory / n for n in KEPT_FILES if (self.directory / n).is_file()]
        values = asdict(result) | {CHECKSUMS: checksums(files)}
        save_text(json.dumps(values), self.directory / RESULT_FILE)
        options.progress_path.unlink(missing_ok=True)
        _remove_partial_files(self.directory)
        logger.info("phase %s took %.1f s", self.label or self.name, result.duration_s)
        return result


def _remove_partial_files(directory: Path) -> None:
    """Remove what a killed process had begun to write in a complete entry."""
    for path in directory.glob("*.partial"):
        path.unlink(missing_ok=True)


def _scoring(config: PhaseConfig) -> dict[str, Any]:
    """Yield what a phase calls its score and when that is good enough, if it is not accuracy."""
    if isinstance(config, PrimeConfig):
        return {
            "score_name": "held_out_retrieval",
            "stop_score": config.stop_accuracy,
            "patience": config.patience,
        }
    return {}
