"""The model card of an export: `README.md` with the front matter that the Hub reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from autoprumux.errors import UsageError
from autoprumux.exporting.choice import Choice
from autoprumux.hyperparameters import stored_values
from autoprumux.records import Measurement, value_text
from autoprumux.report.answers import is_builtin
from autoprumux.report.markdown import code, one_line, plain
from autoprumux.report.tables import BUILTIN_NOTE
from trainers.config import BUILTIN, TrainerConfig
from trainers.results import ExportResult

CARD_FILE = "README.md"
"""Name inside a model directory."""
UNKNOWN_LICENSE = "unknown"
"""Word of the Hub; stands where nobody said under which licence the weights are."""
BUILTIN_LICENSE = "apache-2.0"
"""That of this package, of which the built-in model and data are a part."""

_GLUE = "glue"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, kw_only=True)
class Card:
    """All that a card tells."""

    choice: Choice
    trainer: TrainerConfig
    """Recipe of the training."""
    result: ExportResult
    """What was checked."""
    licence: str
    """The Hub's word, such as `apache-2.0`."""

    @property
    def measurement(self) -> Measurement:
        """Of the exported trial."""
        return self.choice.model.measurement

    @property
    def num_instances(self) -> int:
        """N."""
        return self.choice.model.candidate.num_instances


def default_licence(trainer: TrainerConfig) -> str:
    """Yield the licence that is known without asking: that of the built-in model and data."""
    model, data = trainer.model, trainer.data
    is_ours = {model.source, model.wide_source or BUILTIN, data.source} == {BUILTIN}
    return BUILTIN_LICENSE if is_ours else UNKNOWN_LICENSE


def write_card(card: Card, directory: Path) -> None:
    """Write the card of an exported model.

    Raises:
        UsageError: If the folder cannot be written.
    """
    path = directory / CARD_FILE
    try:
        path.write_text(card_text(card), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{path} cannot be written: {reason}.") from error


def card_text(card: Card) -> str:
    """Yield the card in Markdown."""
    parts = [
        f"---\n{_front_matter(card)}\n---",
        f"# {plain(_title(card))}",
        *_introduction(card),
        "## Measured",
        _table(_figures(card)),
        "## How to load",
        *_loading(card),
        "## Caution",
        *_cautions(card),
        "## Data and licence",
        *_data(card),
        "## Checked before it was written",
        *_checks(card),
        "## Where it comes from",
        _table(_provenance(card)),
    ]
    return "\n\n".join(parts) + "\n"


def accuracy_interval(measurement: Measurement) -> tuple[float, float]:
    """Yield the 95 % interval (Wilson) of the accuracy on new examples of the same kind.

    Several groupings of the examples count as one: they don't make the examples more.
    """
    num = measurement.num_examples
    found = binomtest(round(measurement.accuracy * num), num).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def hardware(measurement: Measurement) -> str:
    """Yield where the throughput was measured."""
    speed, words = measurement.throughput, measurement.environment
    if speed.device != "cpu":
        return plain(speed.device)
    return f"CPU ({plain(words.get('processor', 'unknown'))}, {_threads(speed.num_threads)})"


def _front_matter(card: Card) -> str:
    source, data = card.trainer.model.source_of(card.num_instances), card.trainer.data.source
    is_english = data in (BUILTIN, _GLUE)
    named = {BUILTIN: "autoprumux built-in", _GLUE: "GLUE"}.get(data, "custom")
    result = EvalResult(
        task_type="text-classification",
        task_name="Text Classification",
        dataset_type="nyu-mll/glue" if data == _GLUE else named.replace(" ", "-"),
        dataset_name=one_line(f"{named} {card.choice.study.task}"),
        dataset_split="validation",
        metric_type="accuracy",
        metric_value=round(card.measurement.accuracy, 4),
    )
    values = ModelCardData(
        language="en" if is_english else None,
        license=card.licence,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["autoprumux", "data-multiplexing", "structured-pruning", "prumux"],
        datasets=["nyu-mll/glue"] if data == _GLUE else None,
        base_model=source if _is_hub_id(source) else None,
        model_name=one_line(_title(card)),
        eval_results=[result],
    )
    return str(values.to_yaml())


def _title(card: Card) -> str:
    return f"{card.choice.study.task}: {card.choice.model.candidate}"


def _introduction(card: Card) -> Iterator[str]:
    num_instances, sparsity = card.num_instances, card.choice.model.candidate.sparsity
    if num_instances > 1:
        passes = f"It mixes {num_instances} sequences and runs the encoder once for all of them."
    else:
        passes = "It runs the encoder once for each sequence (no multiplexing)."
    pruned = (
        f"Pruning removed {100 * card.measurement.sparsity:.1f} % of the encoder's weights."
        if sparsity
        else "Nothing of the encoder was pruned."
    )
    yield (
        f"A text classifier for the task {code(card.choice.study.task)}, "
        f"{card.measurement.speedup:.2f} times as fast as the dense baseline. {passes} {pruned}"
    )
    if is_builtin(card.choice.study):
        yield f"**Trained and measured on {BUILTIN_NOTE}.** Do not use it for real texts."


def _figures(card: Card) -> Iterator[tuple[str, str]]:
    measurement, model = card.measurement, card.choice.model
    speed = measurement.throughput
    low, high = accuracy_interval(measurement)
    yield "task", code(card.choice.study.task)
    yield "mux width N", str(card.num_instances)
    yield (
        "sparsity s of the encoder",
        (f"{model.candidate.sparsity:.2f} asked for, {measurement.sparsity:.4f} reached"),
    )
    for key, value in stored_values(card.choice.study.config, model.candidate).items():
        yield key.removeprefix("trainer."), f"{value_text(value)}, searched with N and s"
    yield (
        "accuracy",
        (
            f"{100 * measurement.accuracy:.1f} % (95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f}) on {measurement.num_examples} validation examples"
        ),
    )
    if measurement.num_compositions > 1:
        yield (
            "accuracy between groupings",
            (
                f"standard deviation {100 * measurement.accuracy_std:.2f} points over "
                f"{measurement.num_compositions} random groupings"
            ),
        )
    yield (
        "loss to the dense baseline",
        (
            f"{_points(model.accuracy_loss)} points (95 % interval "
            f"{_points(model.interval.low)} to {_points(model.interval.high)})"
        ),
    )
    if card.choice.budget is not None:
        yield "asked for", f"a loss of at most {100 * card.choice.budget:g} points"
    yield (
        "throughput",
        (
            f"{speed.throughput:.0f} sequences/s (quartiles {speed.throughput_q1:.0f} to "
            f"{speed.throughput_q3:.0f})"
        ),
    )
    yield (
        "speed-up",
        (
            f"{speed.speedup:.2f}x the dense baseline (quartiles {speed.speedup_q1:.2f}x to "
            f"{speed.speedup_q3:.2f}x), measured in turn with it"
        ),
    )
    yield "hardware", hardware(measurement)
    yield (
        "timed with",
        (
            f"{speed.batch_size} groups of {card.num_instances} in a batch, "
            f"{speed.length} tokens, {plain(speed.dtype)}; tokenising not included"
        ),
    )
    yield (
        "parameters",
        (
            f"{measurement.structure.num_parameters:,}, of them "
            f"{measurement.structure.num_encoder_parameters:,} encoder weights"
        ),
    )


def _loading(card: Card) -> Iterator[str]:
    example = ", ".join('["some text", "another", "a third"]' for _ in card.result.text_columns)
    yield "With `autoprumux` installed, in the folder of this file:"
    yield (
        "```python\n"
        "import torch\n"
        "import trainers.models.hugging_face  # registers the model with transformers\n"
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        'model = AutoModelForSequenceClassification.from_pretrained(".")\n'
        f"rows = tokenizer({example}, padding=True, truncation=True, "
        'return_tensors="pt")\n'
        "with torch.inference_mode():\n"
        "    logits = model(**rows).logits\n"
        "print([model.config.id2label[int(index)] for index in logits.argmax(dim=1)])\n"
        "```"
    )
    if card.num_instances > 1:
        yield (
            f"Each {card.num_instances} rows that follow one another share a pass; batches of a "
            f"multiple of {card.num_instances} rows waste nothing. The last group is filled up "
            "with the first rows of the batch."
        )
    if card.result.onnx is not None:
        yield from _loading_onnx(card)


def _loading_onnx(card: Card) -> Iterator[str]:
    text = (
        "`model.onnx` needs neither torch nor this package; its inputs are int64 "
        "`(rows, tokens)`, its output is float32 `(rows, classes)`, classes in the order of "
        "`id2label`."
    )
    if card.num_instances > 1:
        text += (
            f" The number of rows must be a multiple of {card.num_instances}: fill the last group "
            "up with other rows and drop their logits."
        )
    yield text
    yield (
        "```python\n"
        "import onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        'logits = session.run(["logits"], {"input_ids": ids, "attention_mask": mask, '
        '"token_type_ids": types})[0]\n'
        "```"
    )


def _cautions(card: Card) -> Iterator[str]:
    if card.num_instances == 1:
        yield "Every sequence has a pass of its own, so none influences the result of another."
    else:
        yield (
            "**Inputs that are multiplexed together can influence one another** (PruMUX paper, "
            f"appendix A.3). The {card.num_instances} sequences of a group share one pass, so a "
            "prediction can change with the other rows of its group and with the order of the "
            "rows. Do not put inputs into one group where one sender could gain from swaying or "
            "probing the result of another, and group rows at random where that could bias a "
            "result."
        )
    yield (
        "Accuracy holds for texts like those of the validation set, throughput for the hardware "
        "and the sizes named above."
    )


def _data(card: Card) -> Iterator[str]:
    source = card.trainer.data.source
    origin = {
        BUILTIN: "The examples are made up, not GLUE: the built-in generator of autoprumux wrote "
        "them.",
        _GLUE: "The examples are those of GLUE (`nyu-mll/glue` on the Hub).",
    }.get(source, "The examples are files of whoever trained the model.")
    columns = ", ".join(map(code, card.result.text_columns))
    labels = ", ".join(map(code, card.result.labels))
    yield (
        f"{origin} Texts: {columns}; classes: {labels}; at most {card.trainer.data.max_length} "
        f"tokens. Fingerprint: {code(card.choice.study.data_fingerprint)}."
    )
    weights = _origin_of_weights(card.trainer.model.source_of(card.num_instances))
    yield f"Weights before training: {weights}."
    if card.licence == UNKNOWN_LICENSE:
        yield (
            "Licence: unknown. It depends on that of the weights before training and of the "
            "data; set it before you pass the model on."
        )
    else:
        yield f"Licence: {card.licence}."


def _checks(card: Card) -> Iterator[str]:
    result = card.result
    kind = "validation examples" if result.is_validation else "made-up texts"
    lines = [
        f"- Loaded again with transformers, the model yields the logits of the trained checkpoint "
        f"bit for bit on {result.num_sequences} {kind}, and the tokenizer the same tokens."
    ]
    if not result.is_validation:
        lines.append("- The validation examples were not at hand when the model was exported.")
    if result.onnx is not None:
        graph = result.onnx
        words = plain(result.environment.get("processor", "unknown"))
        lines += [
            f"- The ONNX graph (opset {graph.opset}) yields the same labels in onnxruntime, and "
            f"logits within {graph.largest_difference:.1g}.",
            f"- Timed in turn on CPU ({words}, {_threads(graph.num_threads)}; {graph.batch_size} "
            f"groups, {graph.length} tokens): torch {graph.torch_throughput:.0f}, onnxruntime "
            f"{graph.throughput:.0f} sequences/s, a ratio of {graph.ratio:.2f} (quartiles "
            f"{graph.ratio_q1:.2f} to {graph.ratio_q3:.2f}).",
        ]
    yield "\n".join(lines)


def _provenance(card: Card) -> Iterator[tuple[str, str]]:
    study, measurement = card.choice.study, card.measurement
    yield "study", f"{code(study.name)}, trial {card.choice.number}"
    yield "hash of the recipe", code(study.config_hash)
    yield "seeds", f"{study.seed} (study), {measurement.seed} (trial)"
    yield (
        "phases",
        ", ".join(
            f"{plain(phase.name)} ({phase.num_updates} updates)" for phase in measurement.phases
        ),
    )
    for name, value in sorted(measurement.environment.items()):
        if name.endswith("_version"):
            yield plain(name.removesuffix("_version")), plain(value)
    yield (
        "method",
        "PruMUX (Su et al., 2023), DataMUX and MUX-PLM (Murahari et al.), CoFi (Xia et al.)",
    )


def _origin_of_weights(source: str) -> str:
    if source == BUILTIN:
        return "the built-in model of autoprumux"
    return code(source) if _is_hub_id(source) else f"a local checkpoint, {code(Path(source).name)}"


def _is_hub_id(source: str) -> bool:
    return (
        source != BUILTIN and _HUB_ID.fullmatch(source) is not None and not Path(source).exists()
    )


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _points(fraction: float) -> str:
    return f"{100 * fraction + 0.0:.1f}".replace("-0.0", "0.0")


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| {name} | {value.replace('|', '/')} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines])
