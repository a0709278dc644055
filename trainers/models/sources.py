"""What training starts from: the shipped model, a model directory, or a checkpoint of others."""

import hashlib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from trainers.config import BUILTIN, ModelConfig
from trainers.errors import CheckpointError
from trainers.models.checkpoints import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    first_line,
    load_model,
    read_json,
    read_shape,
    read_tensors,
)
from trainers.models.conversion import convert
from trainers.models.muxed_bert import MuxedBert
from trainers.models.widening import first_difference, widen, with_multiplexing

INDEX_FILE = "model.safetensors.index.json"
"""Names the files of weights that are spread over several."""


def load_source(config: ModelConfig, num_instances: int) -> MuxedBert:
    """Load the weights that training at width `num_instances` starts from.

    The built-in model has a checkpoint per width, and `wide_source` names others that have. From
    a model with N = 1 the multiplexer, the demultiplexer and the head are new, drawn from torch's
    global generator.

    Raises:
        CheckpointError: If the source is missing or damaged, cannot be loaded, has another width,
            or is pruned.
    """
    if config.has_wide_source(num_instances):
        model = _load_wide(config, num_instances)
    elif config.source == BUILTIN:
        model = load_model(builtin_directory(_builtin_width(config, num_instances)))
    else:
        model = load_stored(config)
        _check_start(model, config.source, num_instances)
    return widen(with_multiplexing(model, config), num_instances)


def load_stored(config: ModelConfig) -> MuxedBert:
    """Load the model of a directory or a Hugging Face id as it is, pruned or multiplexed or both.

    Those of other projects are converted, see docs/checkpoints.md.

    Raises:
        CheckpointError: If it is missing or damaged, or cannot be loaded.
    """
    directory = Path(config.source)
    described = directory / CONFIG_FILE
    if described.is_file() and read_json(described).get("model_type") == "muxed_bert":
        return load_model(directory)
    return _load_foreign(config)


def load_tokenizer(source: str) -> Tokenizer:
    """Load the tokenizer of a model directory, an id, or the built-in model.

    Raises:
        CheckpointError: If there is none.
    """
    path = (builtin_directory(1) if source == BUILTIN else Path(source)) / TOKENIZER_FILE
    try:
        if path.is_file():
            if "model" not in read_json(path):  # the parser's own errors have no class
                raise CheckpointError(f"`{path}` does not describe a tokenizer.")
            return _parse_tokenizer(path)
        from transformers import AutoTokenizer  # loads slowly, and only such sources need it

        backend: Tokenizer = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False
        ).backend_tokenizer
        return backend
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"No tokenizer of the BERT or RoBERTa family in `{source}`: {first_line(error)}."
        ) from error


def _parse_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()  # a stranger's may pad to any length
        tokenizer.no_truncation()
    except Exception as error:  # the parser's own errors have no class
        raise CheckpointError(
            f"`{path}` does not describe a tokenizer: {first_line(error)}."
        ) from error
    return tokenizer


def builtin_directory(num_instances: int) -> Path:
    """Yield the directory of the shipped model for width `num_instances`; it may not exist."""
    return Path(str(files("trainers") / "models" / "builtin" / f"n{num_instances}"))


def builtin_widths() -> tuple[int, ...]:
    """Yield the widths that the shipped model was pre-trained for, in rising order."""
    found = builtin_directory(1).parent.glob(f"n*/{CONFIG_FILE}")
    return tuple(sorted(int(path.parent.name[1:]) for path in found))


def has_pretrained_width(config: ModelConfig, num_instances: int) -> bool:
    """Tell whether phases 1 and 2 are behind the checkpoint that this width starts from."""
    if num_instances == 1 or config.has_wide_source(num_instances):
        return True
    return config.source == BUILTIN and _builtin_width(config, num_instances) == num_instances


def source_fingerprint(config: ModelConfig, num_instances: int) -> str:
    """Name the exact weights that training at this width starts from.

    Raises:
        CheckpointError: If the source does not exist.
    """
    source = config.source_of(num_instances)
    if source == BUILTIN:
        width = _builtin_width(config, num_instances)
        weights = builtin_directory(width) / WEIGHTS_FILE
        return f"builtin:{_file_hash(weights)}"
    directory = Path(source)
    if directory.is_dir():
        found = sorted(directory.glob("*.safetensors"))
        if not found:
            raise _no_weights(directory)
        return "files:" + ",".join(_file_hash(path) for path in found)
    return f"hub:{source}"


def _builtin_width(config: ModelConfig, num_instances: int) -> int:
    """Yield the width of the shipped checkpoint to start from: N if it ships as asked, else 1."""
    if num_instances not in builtin_widths():
        return 1
    shape = read_shape(builtin_directory(num_instances))
    return num_instances if first_difference(shape, config) is None else 1


def _load_wide(config: ModelConfig, num_instances: int) -> MuxedBert:
    source = config.source_of(num_instances)
    try:
        model = load_stored(replace(config, source=source))
    except CheckpointError as error:
        raise CheckpointError(
            f"`model.wide_source` has no checkpoint for N={num_instances}: {error}"
        ) from error
    if model.shape.num_instances != num_instances:
        raise CheckpointError(
            f"`model.wide_source` names `{source}` for N={num_instances}, but that model "
            f"multiplexes {model.shape.num_instances}; put `{{N}}` where the names of the "
            "checkpoints have the width, and ask for widths that there are."
        )
    _check_dense(model, source)
    return model


def _check_start(model: MuxedBert, source: str, num_instances: int) -> None:
    if model.shape.num_instances not in (1, num_instances):
        raise CheckpointError(
            f"The model in `{source}` multiplexes {model.shape.num_instances} instances and "
            f"cannot start a model for {num_instances}; use a plain (N = 1) checkpoint as "
            "`model.source`, and name this one in `model.wide_source`."
        )
    _check_dense(model, source)


def _check_dense(model: MuxedBert, source: str) -> None:
    if model.shape != model.shape.dense(model.shape.num_instances):
        raise CheckpointError(
            f"The model in `{source}` is pruned already (sparsity {model.shape.sparsity:.2f}); "
            "use a dense checkpoint."
        )


def _load_foreign(config: ModelConfig) -> MuxedBert:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig  # loads slowly, and only such sources need it

    source, wanted = config.source, [CONFIG_FILE, INDEX_FILE, "model*.safetensors"]
    try:
        described = AutoConfig.from_pretrained(source, trust_remote_code=False)
        is_here = Path(source).is_dir()
        directory = Path(source if is_here else snapshot_download(source, allow_patterns=wanted))
    except (
        *(OSError, ValueError, StrictDataclassError),
        *(TypeError, KeyError, AttributeError, RecursionError),
    ) as error:
        raise CheckpointError(
            f"No model can be loaded from `{source}`: {first_line(error)}. "
            "Name a model directory or a reachable Hugging Face id."
        ) from error
    if not is_here and not any(directory.glob("*.safetensors")):
        raise CheckpointError(
            f"`{source}` on the Hub has no weights as safetensors; docs/checkpoints.md shows how "
            "to write pickled ones anew."
        )
    return convert(described, _read_weights(directory), config)


def _read_weights(directory: Path) -> dict[str, Tensor]:
    """Read safetensors, in one file or several; pickled weights are never opened."""
    if (directory / WEIGHTS_FILE).is_file():
        return read_tensors(directory / WEIGHTS_FILE)
    if not (directory / INDEX_FILE).is_file():
        raise _no_weights(directory)
    files_by_name = read_json(directory / INDEX_FILE).get("weight_map")
    if not isinstance(files_by_name, dict):
        raise CheckpointError(f"`{directory / INDEX_FILE}` has no `weight_map`.")
    names = list(files_by_name.values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name:
            raise CheckpointError(
                f"`{directory / INDEX_FILE}` must name files beside it, got {f'{name!r:.80}'}."
            )
    tensors = {}
    for name in sorted(set(names)):
        tensors.update(read_tensors(directory / name))
    return tensors


def _no_weights(directory: Path) -> CheckpointError:
    if (directory / "pytorch_model.bin").is_file():
        return CheckpointError(
            f"`{directory}` holds no weights (*.safetensors) but pickled ones, which can run "
            "code and are not opened; docs/checkpoints.md shows how to write them anew."
        )
    return CheckpointError(
        f"`{directory}` holds no weights (*.safetensors); name a model directory."
    )


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}.") from error
