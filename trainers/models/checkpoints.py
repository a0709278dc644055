"""Model directories: our own (config.json, model.safetensors, tokenizer files) and BERT's."""

import hashlib
import json
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from trainers.config import BUILTIN, ModelConfig
from trainers.errors import CheckpointError, DiskError
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.models.widening import first_difference, widen, with_multiplexing
from trainers.special_tokens import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"
"""Names inside a model directory."""
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
"""What transformers wants to know beside `tokenizer.json`; nothing here reads it."""


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


def save_model(model: MuxedBert, directory: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model directory; `config.json` comes last and marks it as complete.

    Raises:
        DiskError: If the disk is full or the folder cannot be written.
    """
    save_tensors(model.state_dict(), directory / WEIGHTS_FILE, {"format": "pt"})
    if tokenizer is not None:
        save_text(tokenizer.to_str(), directory / TOKENIZER_FILE)
        described = _describe_tokenizer(tokenizer, model.shape.max_positions)
        save_text(json.dumps(described, indent=1) + "\n", directory / TOKENIZER_CONFIG_FILE)
    save_text(json.dumps(model.shape.to_dict(), indent=1) + "\n", directory / CONFIG_FILE)


def load_model(directory: Path) -> MuxedBert:
    """Load a directory that `save_model` wrote, in evaluation mode; weights become float32.

    One that `MuxedBertForSequenceClassification.save_pretrained` wrote is as good.

    Raises:
        CheckpointError: If a file is missing, damaged or does not fit.
    """
    model = MuxedBert(_read_shape(directory))
    load_weights(model, read_tensors(directory / WEIGHTS_FILE), directory)
    return model.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"`{path}` cannot be read as safetensors: {error}.") from error


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


def load_tokenizer(source: str) -> Tokenizer:
    """Load the tokenizer of a model directory, an id, or the built-in model.

    Raises:
        CheckpointError: If there is none.
    """
    path = (builtin_directory(1) if source == BUILTIN else Path(source)) / TOKENIZER_FILE
    try:
        if path.is_file():
            if "model" not in _read_json(path):  # the parser's own errors have no class
                raise CheckpointError(f"`{path}` does not describe a tokenizer.")
            return Tokenizer.from_file(str(path))
        from transformers import AutoTokenizer  # loads slowly, and only such sources need it

        backend: Tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
        return backend
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"No tokenizer of the BERT family in `{source}`: {_first_line(error)}."
        ) from error


def builtin_directory(num_instances: int) -> Path:
    """Yield the directory of the shipped model for width `num_instances`; it may not exist."""
    return Path(str(files("trainers") / "models" / "builtin" / f"n{num_instances}"))


def builtin_widths() -> tuple[int, ...]:
    """Yield the widths that the shipped model was pre-trained for, in rising order."""
    found = builtin_directory(1).parent.glob(f"n*/{CONFIG_FILE}")
    return tuple(sorted(int(path.parent.name[1:]) for path in found))


def has_pretrained_width(config: ModelConfig, num_instances: int) -> bool:
    """Tell whether phases 1 and 2 are behind the checkpoint that this width starts from."""
    if num_instances == 1:
        return True
    return config.source == BUILTIN and _builtin_width(config, num_instances) == num_instances


def source_fingerprint(config: ModelConfig, num_instances: int) -> str:
    """Name the exact weights that training at this width starts from.

    Raises:
        CheckpointError: If the source does not exist.
    """
    if config.source == BUILTIN:
        width = _builtin_width(config, num_instances)
        weights = builtin_directory(width) / WEIGHTS_FILE
        return f"builtin:{_file_hash(weights)}"
    directory = Path(config.source)
    if directory.is_dir():
        found = sorted(directory.glob("*.safetensors"))
        if not found:
            raise CheckpointError(
                f"`{directory}` holds no weights (*.safetensors); name a model directory."
            )
        return "files:" + ",".join(_file_hash(path) for path in found)
    return f"hub:{config.source}"


def load_source(config: ModelConfig, num_instances: int) -> MuxedBert:
    """Load the weights that training at width `num_instances` starts from.

    The built-in model has a checkpoint per width. From plain BERT weights the multiplexer, the
    demultiplexer and the head are new, drawn from torch's global generator.

    Raises:
        CheckpointError: If the source is missing, damaged or not of the BERT family.
    """
    if config.source == BUILTIN:
        width = _builtin_width(config, num_instances)
        return widen(
            with_multiplexing(load_model(builtin_directory(width)), config), num_instances
        )
    directory = Path(config.source)
    described = directory / CONFIG_FILE
    if described.is_file() and _read_json(described).get("model_type") == "muxed_bert":
        return widen(with_multiplexing(_load_own(directory, num_instances), config), num_instances)
    return widen(_load_bert(config), num_instances)


def _builtin_width(config: ModelConfig, num_instances: int) -> int:
    """Yield the width of the shipped checkpoint to start from: N if it ships as asked, else 1."""
    if num_instances not in builtin_widths():
        return 1
    shape = _read_shape(builtin_directory(num_instances))
    return num_instances if first_difference(shape, config) is None else 1


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


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise DiskError(f"`{path}` could not be written: {error}.") from error


def _load_own(directory: Path, num_instances: int) -> MuxedBert:
    model = load_model(directory)
    if model.shape.num_instances not in (1, num_instances):
        raise CheckpointError(
            f"The model in `{directory}` multiplexes {model.shape.num_instances} instances and "
            f"cannot start a model for {num_instances}; use a plain (N = 1) checkpoint."
        )
    if model.shape != model.shape.dense(model.shape.num_instances):
        raise CheckpointError(
            f"The model in `{directory}` is pruned already (sparsity {model.shape.sparsity:.2f}); "
            "use a dense checkpoint."
        )
    return model


def _load_bert(config: ModelConfig) -> MuxedBert:
    described, state = _read_bert(config.source)
    num_layers, num_heads = described.num_hidden_layers, described.num_attention_heads
    shape = MuxedBertShape(
        vocab_size=described.vocab_size,
        hidden_size=described.hidden_size,
        dense_hidden_size=described.hidden_size,
        head_size=described.hidden_size // num_heads,
        head_counts=(num_heads,) * num_layers,
        feedforward_sizes=(described.intermediate_size,) * num_layers,
        dense_num_heads=num_heads,
        dense_feedforward_size=described.intermediate_size,
        max_positions=described.max_position_embeddings,
        num_token_types=described.type_vocab_size,
        multiplexer=config.multiplexer,
        embed_mode=config.embed_mode,
        mask_mode=config.mask_mode,
        demultiplexer=config.demultiplexer,
        demux_norm=config.demux_norm,
        num_demux_layers=config.num_demux_layers,
        key_norm=config.key_norm,
        dropout=described.hidden_dropout_prob,
        layer_norm_eps=described.layer_norm_eps,
    )
    model = MuxedBert(shape)
    model.load_state_dict(_rename_bert(state, num_layers), strict=False)
    return model


def _read_bert(source: str) -> tuple["PreTrainedConfig", dict[str, Tensor]]:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel  # loads slowly, and only such sources need it
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # loading takes a moment; the search shows its own bar
    try:
        described = AutoConfig.from_pretrained(source)
        if described.model_type != "bert":
            raise CheckpointError(
                f"`{source}` is a `{described.model_type}` model, not one of the BERT family."
            )
        if described.hidden_act != "gelu":
            raise CheckpointError(
                f"`{source}` has the activation `{described.hidden_act}`; only `gelu` is known."
            )
        model, report = AutoModel.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise CheckpointError(
            f"No model can be loaded from `{source}`: {_first_line(error)}. "
            "Name a model directory or a reachable Hugging Face id."
        ) from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(f"The weights in `{source}` lack {missing[0]} (of {len(missing)}).")
    return described, model.state_dict()


def _rename_bert(state: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    renamed = {
        "embeddings.tokens.weight": state["embeddings.word_embeddings.weight"],
        "embeddings.positions.weight": state["embeddings.position_embeddings.weight"],
        "embeddings.token_types.weight": state["embeddings.token_type_embeddings.weight"],
        "embeddings.norm.weight": state["embeddings.LayerNorm.weight"],
        "embeddings.norm.bias": state["embeddings.LayerNorm.bias"],
    }
    for part in ("weight", "bias"):
        if f"pooler.dense.{part}" in state:
            renamed[f"pooler.{part}"] = state[f"pooler.dense.{part}"]
        for i in range(num_layers):
            old, new = f"encoder.layer.{i}", f"encoder.layers.{i}"
            separate = [
                state[f"{old}.attention.self.{x}.{part}"] for x in ("query", "key", "value")
            ]
            renamed[f"{new}.attention.query_key_value.{part}"] = torch.cat(separate)
            for ours, theirs in (
                ("attention.output", "attention.output.dense"),
                ("attention.norm", "attention.output.LayerNorm"),
                ("feedforward.input", "intermediate.dense"),
                ("feedforward.output", "output.dense"),
                ("feedforward.norm", "output.LayerNorm"),
            ):
                renamed[f"{new}.{ours}.{part}"] = state[f"{old}.{theirs}.{part}"]
    return renamed


def _read_shape(directory: Path) -> MuxedBertShape:
    described = _read_json(directory / CONFIG_FILE)
    if "transformers_version" in described:  # its save_pretrained adds keys of its own
        known = {"model_type", *(field.name for field in fields(MuxedBertShape))}
        described = {key: value for key, value in described.items() if key in known}
    return MuxedBertShape.from_dict(described)


def _read_json(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {_first_line(error)}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"`{path}` must hold a JSON object, got {type(values).__name__}.")
    return values


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}.") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
