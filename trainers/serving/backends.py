"""What runs a model: torch on its weights, or onnxruntime on its exported graph."""

from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.allocator import keep_freed_memory
from trainers.context import resolve_device
from trainers.errors import CheckpointError, ConfigError, OutOfMemoryError
from trainers.models.batch import Batch
from trainers.models.checkpoints import (
    WEIGHTS_FILE,
    first_line,
    load_weights,
    make_model,
    read_tensors,
)
from trainers.serving.directories import ModelDirectory

ONNX_FILE = "model.onnx"
"""Name inside a model directory."""
BackendName = Literal["torch", "onnx"]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Backend(Protocol):
    """A loaded model."""

    device: str
    """`cpu` or `cuda`."""

    def run(
        self, input_ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Yield the `(B, N, C)` logits of `(B, N, T)` token ids, true masks and token types.

        Raises:
            OutOfMemoryError: If the batch is too large for the device.
        """


def load_backend(model: ModelDirectory, name: str, device: str) -> Backend:
    """Load a model to run it.

    Args:
        model: Where it is.
        name: `torch` or `onnx`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: If the backend or the device is unknown or not available here.
        CheckpointError: If weights or graph are missing, damaged or do not fit.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"`device` must be `auto`, `cpu` or `cuda`, got `{device}`.")
    if name == "torch":
        return TorchBackend(model, device)
    if name == "onnx":
        return OnnxBackend(model, device)
    known = " or ".join(f"`{word}`" for word in get_args(BackendName))
    raise ConfigError(f"`backend` must be {known}, got `{name}`.")


class TorchBackend:
    """Runs the weights of a directory.

    Args:
        model: Directory.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, model: ModelDirectory, device: str) -> None:
        keep_freed_memory()
        self._device = resolve_device(device)
        self.device = self._device.type
        tensors = read_tensors(model.path / WEIGHTS_FILE)
        muxed = make_model(model.shape, tensors, model.path)
        load_weights(muxed, tensors, model.path)
        self.model = muxed.eval().to(self._device)
        self.model.fold(model.max_length)

    def run(
        self, input_ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `Backend.run`."""
        batch = Batch(*map(torch.from_numpy, (input_ids, mask, types))).to(self._device)
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = self.model(batch).float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{len(input_ids)} groups of {input_ids.shape[-1]} tokens do not fit on the "
                "device; take a smaller `batch_size`."
            ) from error
        return logits


class OnnxBackend:
    """Runs `model.onnx` of a directory; see docs/predict.md for its inputs.

    Args:
        model: Directory.
        device: `auto`, `cpu` or `cuda`; with `auto` whatever the installed onnxruntime can.
    """

    def __init__(self, model: ModelDirectory, device: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                "The backend `onnx` needs onnxruntime; install it with "
                "`pip install 'autoprumux[onnx]'`."
            ) from error
        path = model.path / ONNX_FILE
        if not path.is_file():
            raise CheckpointError(
                f"`{model.path}` holds no `{ONNX_FILE}`; export the model with it, or use the "
                "backend `torch`."
            )
        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device == "cuda" and not has_cuda:
            raise ConfigError(
                "`device` is `cuda`, but the installed onnxruntime cannot use it; install "
                "onnxruntime-gpu, or use `cpu`."
            )
        self.device = "cuda" if has_cuda and device != "cpu" else "cpu"
        self.num_classes = model.shape.num_classes
        self.session = _open_session(path, self.device)

    def run(
        self, input_ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `Backend.run`."""
        num_groups, num_instances, length = input_ids.shape
        arrays = (input_ids, mask.astype(np.int64), types)
        rows = {k: a.reshape(-1, length) for k, a in zip(_INPUTS, arrays, strict=True)}
        (logits,) = self.session.run(["logits"], rows)  # (B * N, C)
        shaped: NDArray[np.float32] = logits.astype(np.float32, copy=False)
        return shaped.reshape(num_groups, num_instances, self.num_classes)


def _open_session(path: Path, device: str) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # onnxruntime takes all cores otherwise
    cpu = "CPUExecutionProvider"
    providers = ["CUDAExecutionProvider", cpu] if device == "cuda" else [cpu]
    found_classes = vars(states).values()
    damaged = tuple(
        kind for kind in found_classes if isinstance(kind, type) and issubclass(kind, Exception)
    )
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except damaged as error:
        raise CheckpointError(f"`{path}` cannot be read: {first_line(error)}.") from error
    found = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    if sorted(found) != sorted(_INPUTS) or "logits" not in outputs:
        raise CheckpointError(
            f"`{path}` must have the inputs {', '.join(_INPUTS)} and the output logits, got "
            f"{', '.join(found)} and {', '.join(outputs)}."
        )
    return session
