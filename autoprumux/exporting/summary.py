"""What an export wrote and checked, as text and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoprumux.exporting.choice import Choice
from autoprumux.records import StudyRecord
from autoprumux.report.answers import is_builtin
from autoprumux.report.tables import BUILTIN_NOTE
from trainers.results import ExportResult


def format_export(
    choice: Choice, result: ExportResult, directory: Path, files: Mapping[str, int]
) -> str:
    """Yield what stands on the terminal after an export.

    Args:
        choice: The exported trial.
        result: What was checked.
        directory: Where it is.
        files: Bytes by name.
    """
    model, measurement, study = choice.model, choice.model.measurement, choice.study
    lines = [
        f"{model.candidate} (trial {choice.number} of study {study.name}) is in {directory}.",
        f"  accuracy {100 * measurement.accuracy:.1f}, loss {_points(model.accuracy_loss)} "
        f"points, {measurement.throughput.throughput:.0f} seq/s, {model.speedup:.2f}x the dense "
        "baseline",
    ]
    if is_builtin(choice.study):
        lines.append(f"  {BUILTIN_NOTE}")
    lines += [f"  {name:<22} {_size(num_bytes):>9}" for name, num_bytes in sorted(files.items())]
    return "\n".join([*lines, *_checks(result)])


def export_to_dict(
    choice: Choice, result: ExportResult, directory: Path, files: Mapping[str, int]
) -> dict[str, Any]:
    """Yield the same for JSON; accuracies and losses are fractions, see `format_export`."""
    model, measurement, study = choice.model, choice.model.measurement, choice.study
    return {
        "directory": str(directory),
        "files": dict(sorted(files.items())),
        **_study(study),
        "trial": choice.number,
        "budget": choice.budget,
        "num_instances": model.candidate.num_instances,
        "sparsity": model.candidate.sparsity,
        "hyperparameters": dict(model.candidate.hyperparameters),
        "sparsity_achieved": measurement.sparsity,
        "accuracy": measurement.accuracy,
        "accuracy_loss": model.accuracy_loss,
        "accuracy_loss_interval": [model.interval.low, model.interval.high],
        "throughput": measurement.throughput.throughput,
        "speedup": model.speedup,
        "checked": {
            "num_sequences": result.num_sequences,
            "is_validation": result.is_validation,
            "why_made_up": result.why_made_up,
        },
        "onnx": None if result.onnx is None else asdict(result.onnx),
    }


def _study(study: StudyRecord) -> dict[str, Any]:
    return {"study": study.name, "task": study.task, "is_builtin_data": is_builtin(study)}


def _checks(result: ExportResult) -> Iterator[str]:
    kind = "validation examples" if result.is_validation else "made-up texts"
    yield (
        f"Checked: loaded again by transformers, the logits of {result.num_sequences} {kind} are "
        "the checkpoint's, bit for bit."
    )
    if not result.is_validation:
        yield f"The validation examples are not at hand: {result.why_made_up}"
    if result.onnx is not None:
        graph = result.onnx
        yield (
            f"Checked: onnxruntime yields the same labels, logits within "
            f"{graph.largest_difference:.1g} (opset {graph.opset})."
        )
        threads = "thread" if graph.num_threads == 1 else "threads"
        yield (
            f"Timed in turn on {graph.num_threads} CPU {threads}: torch "
            f"{graph.torch_throughput:.0f}, onnxruntime {graph.throughput:.0f} seq/s (ratio "
            f"{graph.ratio:.2f}, quartiles {graph.ratio_q1:.2f} to {graph.ratio_q3:.2f})."
        )


def _points(fraction: float) -> str:
    return f"{100 * fraction + 0.0:.1f}".replace("-0.0", "0.0")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e3:.1f} kB" if num_bytes < 1e6 else f"{num_bytes / 1e6:.1f} MB"
