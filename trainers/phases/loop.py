"""The one training loop: step, evaluate, checkpoint, resume, report."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.allocator import keep_freed_memory
from trainers.checksums import tensors_checksum
from trainers.errors import CheckpointError, DivergedError
from trainers.measure.memory import peak_memory_mib, reset_peak_memory
from trainers.models.checkpoints import read_tensors, save_tensors, shorten
from trainers.phase_config import PhaseConfig
from trainers.processes import ALONE, Processes
from trainers.results import HistoryPoint, PhaseResult

logger = logging.getLogger(__name__)

Report = Callable[[str, float, int], None]
"""`report(name, value, step)`; names are `PHASE/VALUE`."""

REPORT_EVERY = 20
"""Updates between reported losses: often enough for a curve, rarely enough to cost nothing."""


class Program(Protocol):
    """What a phase trains and how."""

    modules: Mapping[str, nn.Module]
    """Everything with weights that change; `model` is the one that is kept."""
    optimizers: Mapping[str, Optimizer]

    def update(self, step: int) -> dict[str, Tensor]:
        """Do one optimiser update and yield scalars to report; `loss` must be among them."""

    def evaluate(self) -> float | None:
        """Score the model on held-out examples (higher is better); none if there is no score."""


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How often a phase looks up from its work."""

    num_updates: int
    num_evaluations: int
    seed: int
    progress_path: Path
    """Where the unfinished phase is kept; removed by the caller once its result is stored."""
    checkpoint_interval_s: float
    score_name: str = "held_out_accuracy"
    """What the program's score is called in reports."""
    stop_score: float = math.inf
    """Score at which the phase ends before its last update."""
    patience: int = 0
    """Scores without a gain after which it does, see `has_converged`; 0 for never."""
    processes: Processes = ALONE
    """Those that run this phase; the first one scores, reports and writes."""


@dataclass
class _Progress:
    step: int = 0
    duration_s: float = 0.0
    memory_mib: float = 0.0
    best_score: float = -math.inf
    history: list[HistoryPoint] | None = None
    best: dict[str, Tensor] | None = None


def learning_rate(config: PhaseConfig, step: int) -> float:
    """Yield the rate of update `step`: linear rise over the warm-up, then as `config.decay`."""
    num_warmup = int(config.num_updates * config.warmup) or int(config.warmup > 0)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    if config.decay == "none":
        return config.learning_rate
    return config.learning_rate * (config.num_updates - step) / (config.num_updates - num_warmup)


SMALLEST_GAIN = 1e-3
"""A better score by less is no gain: it is a share of some thousands of held-out tokens."""
LEARNED_SCORE = 0.5
"""Retrieval stays near zero for long before it rises; only scores from here on tell of an end."""


def has_converged(scores: Sequence[float], patience: int) -> bool:
    """Tell whether the last `patience` scores are no gain on what was reached before them."""
    if patience == 0 or len(scores) <= patience:
        return False
    before, last = max(scores[:-patience]), max(scores[-patience:])
    return before >= LEARNED_SCORE and last < before + SMALLEST_GAIN


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all parameter groups the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def make_optimizer(modules: list[nn.Module], config: PhaseConfig) -> torch.optim.AdamW:
    """Build AdamW over what requires gradients; matrices decay, vectors do not."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def clip_and_step(optimizer: Optimizer) -> None:
    """Clip the gradient norm at 1, as BERT's fine-tuning does, and update."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def run_phase(name: str, program: Program, options: LoopOptions, report: Report) -> PhaseResult:
    """Run or take up a phase; afterwards `program.modules["model"]` holds the best weights.

    All processes of a launch run it at once: each update is theirs together, and at its end the
    weights of all have the same bits. The best weights are the first one's alone.

    The global generator is seeded anew for every update from (seed, step), and batches follow
    from the step, so a killed and resumed phase ends with the weights of an undisturbed one.
    `report` may raise `KeyboardInterrupt` at `NAME/step` to end the phase at a checkpoint.

    Raises:
        DivergedError: If a loss is NaN or infinite.
        CheckpointError: If the stored progress is of another model, or not the same for all
            processes.
        DiskError: If progress cannot be written.
        OtherProcessError: If another process failed.
    """
    processes = options.processes
    keep_freed_memory()
    reset_peak_memory()
    progress = _restore(program, options.progress_path)
    _require_same_start(processes.exchange(progress.step), options.progress_path)
    history = progress.history if progress.history is not None else []
    report(f"{name}/total", options.num_updates, progress.step)
    for point in history:  # who listens knows as much as if the phase had never stopped
        report(f"{name}/{point.name}", point.value, point.step)
    evaluations = {
        max(1, round(options.num_updates * (k + 1) / options.num_evaluations))
        for k in range(options.num_evaluations)
    }
    started = saved = time.perf_counter()
    base_duration = progress.duration_s
    for step in range(progress.step, options.num_updates):
        torch.manual_seed(options.seed * 1_000_003 + step)
        values = program.update(step)
        progress.step = step + 1
        if not math.isfinite(float(values["loss"])):
            raise DivergedError(
                f"The loss of phase `{name}` became {float(values['loss'])} at update {step}; "
                "lower its `learning_rate`."
            )
        if progress.step % REPORT_EVERY == 0 or progress.step == options.num_updates:
            _note(history, report, name, {k: float(v) for k, v in values.items()}, progress.step)
        is_done = progress.step in evaluations and _evaluate(
            name, program, progress, history, (report, options)
        )
        progress.duration_s = base_duration + time.perf_counter() - started
        if is_done:
            break  # before any checkpoint, so that a resumed phase ends at the same update
        progress.history = history
        try:
            report(f"{name}/step", progress.step, progress.step)
        except KeyboardInterrupt:  # whoever listens asks to stop: lose nothing
            _save(program, progress, options.progress_path)
            raise
        is_due = time.perf_counter() - saved > options.checkpoint_interval_s
        if is_due and processes.is_first:
            _save(program, progress, options.progress_path)
            saved = time.perf_counter()
    if progress.best is not None:
        program.modules["model"].load_state_dict(progress.best)
    return PhaseResult(
        name=name,
        num_updates=progress.step,
        duration_s=progress.duration_s,
        memory_mib=max(processes.exchange(max(progress.memory_mib, peak_memory_mib()))),
        is_cached=False,
        history=tuple(history),
    )


def _require_same_start(steps: list[int], path: Path) -> None:
    if len(set(steps)) > 1:
        raise CheckpointError(
            f"The processes found different progress in `{path}` (updates {steps}); give all of "
            "them the same `--cache-dir`."
        )


def _note(
    history: list[HistoryPoint], report: Report, name: str, values: dict[str, float], step: int
) -> None:
    for key, value in values.items():
        history.append(HistoryPoint(name=key, value=value, step=step))
        report(f"{name}/{key}", value, step)


def _evaluate(
    name: str,
    program: Program,
    progress: _Progress,
    history: list[HistoryPoint],
    told: tuple[Report, LoopOptions],
) -> bool:
    """Score the model and keep the best one; yield whether the phase may end with it."""
    report, options = told
    processes = options.processes
    score = processes.tell(program.evaluate() if processes.is_first else None)
    if score is None:
        return False
    _note(history, report, name, {options.score_name: score}, progress.step)
    if score >= progress.best_score:  # the later of two equals has trained longer
        progress.best_score = score
        if processes.is_first:
            state = program.modules["model"].state_dict()
            progress.best = {key: tensor.detach().clone() for key, tensor in state.items()}
    scores = [point.value for point in history if point.name == options.score_name]
    return score >= options.stop_score or has_converged(scores, options.patience)


def _save(program: Program, progress: _Progress, path: Path) -> None:
    tensors = dict[str, Tensor]()
    for name, module in program.modules.items():
        tensors |= {f"module.{name}.{key}": t for key, t in module.state_dict().items()}
    for name, optimizer in program.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": t for key, t in state.items()}
    tensors |= {f"best.{key}": t for key, t in (progress.best or {}).items()}
    numbers = {
        "step": progress.step,
        "duration_s": progress.duration_s,
        "memory_mib": max(progress.memory_mib, peak_memory_mib()),
        "best_score": progress.best_score if progress.best else None,
        "history": [asdict(point) for point in progress.history or []],
    }
    tensors = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
    text = json.dumps(numbers)
    save_tensors(tensors, path, {"progress": text, "checksum": tensors_checksum(tensors, text)})


def _restore(program: Program, path: Path) -> _Progress:
    if not path.is_file():
        return _Progress()
    try:
        tensors = read_tensors(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        if metadata.get("checksum") != tensors_checksum(tensors, metadata["progress"]):
            raise CheckpointError("it is not what was written.")
        numbers = json.loads(metadata["progress"])
    except (CheckpointError, AttributeError, KeyError, ValueError) as error:
        logger.warning("the unfinished phase in `%s` is damaged and begins anew: %s", path, error)
        return _Progress()
    try:
        for name, module in program.modules.items():
            module.load_state_dict(_below(tensors, f"module.{name}."))
        for name, optimizer in program.optimizers.items():
            _restore_optimizer(optimizer, _below(tensors, f"optimizer.{name}."))
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"The unfinished phase in `{path}` does not fit ({shorten(error)}); delete that file."
        ) from error
    best = _below(tensors, "best.") or None
    return _Progress(
        step=numbers["step"],
        duration_s=numbers["duration_s"],
        memory_mib=numbers["memory_mib"],
        best_score=-math.inf if best is None else numbers["best_score"],
        history=[HistoryPoint(**point) for point in numbers["history"]],
        best=best,
    )


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state = dict[int, dict[str, Tensor]]()
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
