"""Our own model directories: config.json, model.safetensors and the files of a tokenizer."""

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from trainers.errors import CheckpointError, DiskError
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.models.usage import USAGE_KEYS, Usage
from trainers.special_tokens import special_tokens

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"
"""Names inside a model directory."""
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
"""What transformers wants to know beside `tokenizer.json`; nothing here reads it."""
MAX_JSON_BYTES = 1 << 27
"""Of a JSON file; tokenizers of 250,000 tokens take a seventh of it."""


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in one step: a crash leaves the old file or the new one.

    Raises:
        DiskError: If the disk is full or the folder cannot be written.
    """
    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    _replace(path, lambda partial: save_file(contiguous, partial, dict(metadata)))


def save_text(text: str, path: Path) -> None:
    """Write a text file in one step.

    Raises:
        DiskError: If the disk is full or the folder cannot be written.
    """
    _replace(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def save_model(
    model: MuxedBert,
    directory: Path,
    tokenizer: Tokenizer | None = None,
    usage: Usage | None = None,
) -> None:
    """Write a model directory; `config.json` comes last and marks it as complete.

    Args:
        model: Weights and sizes.
        directory: Made if it is not there.
        tokenizer: Written beside the model, if given.
        usage: Told in `config.json`, if given; transformers then cuts texts to its length.

    Raises:
        DiskError: If the disk is full or the folder cannot be written.
    """
    save_tensors(model.state_dict(), directory / WEIGHTS_FILE, {"format": "pt"})
    if tokenizer is not None:
        save_text(tokenizer.to_str(), directory / TOKENIZER_FILE)
        max_length = model.shape.max_positions if usage is None else usage.max_length
        described = _describe_tokenizer(tokenizer, max_length)
        save_text(json.dumps(described, indent=1) + "\n", directory / TOKENIZER_CONFIG_FILE)
    values = model.shape.to_dict() | ({} if usage is None else usage.to_dict())
    save_text(json.dumps(values, indent=1) + "\n", directory / CONFIG_FILE)


def load_model(directory: Path) -> MuxedBert:
    """Load a directory that `save_model` wrote, in evaluation mode; weights become float32.

    One that `MuxedBertForSequenceClassification.save_pretrained` wrote is as good.

    Raises:
        CheckpointError: If a file is missing, damaged or does not fit.
    """
    shape = read_shape(directory)
    tensors = read_tensors(directory / WEIGHTS_FILE)
    model = make_model(shape, tensors, directory)
    load_weights(model, tensors, directory)
    return model.eval()


def make_model(shape: MuxedBertShape, tensors: Mapping[str, Tensor], origin: Path) -> MuxedBert:
    """Make the model of a shape; not if it needs far more memory than its weights take.

    Raises:
        CheckpointError: If there are fewer weights than the shape has, or it cannot be.
    """
    num_stored = sum(tensor.numel() for tensor in tensors.values())
    if num_stored < shape.num_least_weights:
        raise CheckpointError(
            f"The weights in `{origin}` do not fit: its config.json describes "
            f"{shape.num_least_weights:,} or more, its files hold {num_stored:,}."
        )
    try:
        return MuxedBert(shape)
    except (ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"The config.json in `{origin}` describes no model: {shorten(error)}"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise CheckpointError(f"`{path}` cannot be read: it is a pipe or a device.")
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"`{path}` cannot be read as safetensors: {error}.") from error
    except (KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        # a kind of number or a size that torch does not know
        reason = first_line(error)
        raise CheckpointError(f"`{path}` cannot be read as safetensors: {reason}.") from error


def load_weights(model: MuxedBert, tensors: Mapping[str, Tensor], origin: Path) -> None:
    """Copy weights into a model.

    Raises:
        CheckpointError: If names or shapes differ; lists the first of them.
    """
    try:
        model.load_state_dict({name: t.float() for name, t in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"The weights in `{origin}` do not fit: {shorten(error)}") from error


def shorten(error: Exception) -> str:
    """Yield the message of torch about names and shapes on one line, its end left out."""
    return textwrap.shorten(str(error), 300, placeholder=" ...")


def read_shape(directory: Path) -> MuxedBertShape:
    """Read the shape of a model directory.

    Raises:
        CheckpointError: If its config is missing, damaged or of another kind of model.
    """
    described = read_json(directory / CONFIG_FILE)
    if "transformers_version" in described:  # its save_pretrained adds keys of its own
        known = {"model_type", *(field.name for field in fields(MuxedBertShape))}
        described = {key: value for key, value in described.items() if key in known}
    sizes = {key: value for key, value in described.items() if key not in USAGE_KEYS}
    return MuxedBertShape.from_dict(sizes)


def read_usage(directory: Path) -> Usage | None:
    """Read what a model directory tells of its use; those of a phase of training tell nothing.

    Raises:
        CheckpointError: If its config is missing or damaged, or tells only a part.
    """
    return Usage.from_dict(read_json(directory / CONFIG_FILE))


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        CheckpointError: If the file is missing, damaged or holds something else.
    """
    try:
        values = json.loads(_read_file(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {first_line(error)}.") from error
    except RecursionError:
        raise CheckpointError(f"`{path}` cannot be read: it is nested too deeply.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"`{path}` must hold a JSON object, got {type(values).__name__}.")
    return values


def _read_file(path: Path) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(f"`{path}` cannot be read: it is a pipe or a device.")
    with path.open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise CheckpointError(f"`{path}` has more than {MAX_JSON_BYTES >> 20} MiB.")
    return content.decode()


def first_line(error: Exception) -> str:
    """Yield the first line of a message, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _describe_tokenizer(tokenizer: Tokenizer, max_length: int) -> dict[str, object]:
    names = special_tokens(tokenizer)
    spelt = {
        "pad_token": names.pad,
        "unk_token": names.unknown,
        "cls_token": names.first,
        "sep_token": names.separator,
        "mask_token": names.mask,
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{key: token for key, token in spelt.items() if tokenizer.token_to_id(token) is not None},
    }


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        _flush(partial)  # else a power cut may leave the new name with nothing in it
        partial.replace(path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise DiskError(f"`{path}` could not be written: {error}.") from error
