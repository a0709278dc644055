"""Phases 1 and 2 from scratch on the generator's text: how the built-in model is made."""

import functools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from trainers.config import decisive, to_dict
from trainers.data.builtin import unlabelled_texts
from trainers.data.encoding import Encoded, encode, special_ids
from trainers.models.checkpoints import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    load_model,
    read_tensors,
    save_model,
    save_tensors,
    save_text,
)
from trainers.models.encoder import EncoderLayer
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import MuxedBert, initialise
from trainers.models.shape import MuxedBertShape
from trainers.models.sources import load_tokenizer
from trainers.models.widening import widen
from trainers.phase_config import PhaseConfig, PretrainConfig, PrimeConfig
from trainers.phases.loop import LoopOptions, Program, Report, run_phase
from trainers.phases.precision import Precision
from trainers.phases.pretrain import PretrainProgram
from trainers.phases.prime import PrimeProgram
from trainers.special_tokens import BERT_TOKENS

logger = logging.getLogger(__name__)

VOCAB_SIZE = 1000
"""Upper bound of the WordPiece vocabulary; the generator's words and the alphabet need less."""
RECIPE_FILE = "recipe.json"
"""Written beside the weights: schedule and seed that made them."""


@dataclass(frozen=True, kw_only=True)
class BuiltinRecipe:
    """Size and schedule of the built-in model."""

    num_texts: int = 100_000
    """Unlabelled texts, those of the four tasks mixed."""
    max_length: int = 32
    """Tokens in a sequence."""
    num_layers: int = 4
    hidden_size: int = 128
    num_heads: int = 4
    feedforward_size: int = 512
    pretrain: PretrainConfig = field(
        default_factory=lambda: PretrainConfig(
            num_updates=7000,
            batch_size=32,
            learning_rate=1e-3,
            bucket_by_length=False,
            detect_weight=1.0,
        )
    )
    """Masked-language modelling of the N = 1 model."""
    prime: PrimeConfig = field(
        default_factory=lambda: PrimeConfig(
            num_updates=3000,
            batch_size=32,
            learning_rate=2e-3,
            bucket_by_length=False,
            slots_per_token=0,
            bag_weight=3.0,
        )
    )
    """Retrieval of each wider model, started from the N = 1 weights."""
    widen: PretrainConfig = field(
        default_factory=lambda: PretrainConfig(
            num_updates=3000,
            batch_size=32,
            max_sequences=200,
            learning_rate=1e-3,
            bucket_by_length=False,
            detect_weight=1.0,
            distill_weight=4.0,
            bag_weight=3.0,
        )
    )
    """Masked-language modelling and state distillation of each wider model."""
    sharpen: PretrainConfig = field(
        default_factory=lambda: PretrainConfig(
            num_updates=4000,
            batch_size=32,
            max_sequences=200,
            learning_rate=1e-3,
            bucket_by_length=False,
            warmup=0.05,
            mask_probability=0.1,
            detect_weight=6.0,
            distill_weight=0.0,
            bag_weight=3.0,
        )
    )
    """More of it with the weight on replaced words: a wide model that has been distilled reads
    its instances but does not compare their segments yet."""
    compared_widths: tuple[int, ...] = (2,)
    """Widths that `widen` and `sharpen` run for. At N = 5 and 10 they were left at guessing which
    words were replaced after 7,000 updates, and fine-tuning was no better for them."""
    precision: str = "float32"
    seed: int = 0

    def schedules(self, num_instances: int) -> dict[str, PhaseConfig]:
        """Yield the phases of a width in their order, by name."""
        if num_instances == 1:
            return {"pretrain": self.pretrain}
        if num_instances not in self.compared_widths:
            return {"prime": self.prime}
        return {"prime": self.prime, "widen": self.widen, "sharpen": self.sharpen}

    def describe(self, num_instances: int) -> dict[str, Any]:
        """Yield what a width was made with, ready for JSON."""
        used = {name: decisive(phase) for name, phase in self.schedules(num_instances).items()}
        unused = {"pretrain", "prime", "widen", "sharpen", "compared_widths"} - used.keys()
        return {k: v for k, v in (to_dict(self) | used).items() if k not in unused}


def train_tokenizer(texts: Sequence[tuple[str, ...]]) -> Tokenizer:
    """Learn a lower-casing WordPiece vocabulary with BERT's special tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=list(BERT_TOKENS.as_tuple()), show_progress=False
    )
    tokenizer.train_from_iterator((part for text in texts for part in text), trainer)
    _, _, cls, sep, _ = special_ids(tokenizer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return tokenizer


def pretrain_builtin(
    directory: Path, widths: Sequence[int], recipe: BuiltinRecipe, report: Report
) -> None:
    """Make the built-in model: `directory/n{N}` for every width, the N = 1 model first.

    Weights are stored as float16, which halves the package and loads as float32.

    A width whose directory is complete is left alone; a killed one is taken up again.

    Raises:
        DiskError: If a file cannot be written.
        DivergedError: If a loss becomes NaN.
    """
    texts = unlabelled_texts(recipe.num_texts, recipe.seed)
    tokenizer = _tokenizer_of(directory / "n1", texts)
    corpus = encode(tokenizer, texts, recipe.max_length)
    maker = _Maker(directory, recipe, tokenizer, corpus, report)
    for num_instances in sorted({1, *widths}):
        if (directory / f"n{num_instances}" / CONFIG_FILE).is_file():
            logger.info("width %d is there already", num_instances)
            continue
        maker.make(num_instances)


def _tokenizer_of(directory: Path, texts: Sequence[tuple[str, ...]]) -> Tokenizer:
    """Learn the tokenizer once: ties fall by chance, so another run would number tokens anew."""
    path = directory / TOKENIZER_FILE
    if not path.is_file():
        save_text(train_tokenizer(texts).to_str(), path)
    return load_tokenizer(str(directory))


@dataclass(frozen=True)
class _Maker:
    directory: Path
    recipe: BuiltinRecipe
    tokenizer: Tokenizer
    corpus: Encoded
    report: Report

    def make(self, num_instances: int) -> None:
        torch.manual_seed(self.recipe.seed)
        shape = self._shape()
        teacher, model = None, MuxedBert(shape)
        _attend_to_equals(model)
        if num_instances > 1:
            teacher = load_model(self.directory / "n1")
            model = widen(teacher, num_instances)
        head = TokenHead(shape.dense_hidden_size, shape.vocab_size, shape.layer_norm_eps)
        head.apply(initialise)
        precision = Precision(torch.device("cpu"), getattr(torch, self.recipe.precision))
        seed = self.recipe.seed + num_instances
        for name, schedule in self.recipe.schedules(num_instances).items():
            if name in (
                "widen",
                "sharpen",
            ):  # the same numbers whether the phase before was loaded
                torch.manual_seed(self.recipe.seed)
            start: Callable[[], Program]
            if isinstance(schedule, PrimeConfig):
                start = functools.partial(PrimeProgram, model, head, self.corpus, schedule)
            else:
                assert isinstance(schedule, PretrainConfig)
                start = functools.partial(
                    PretrainProgram,
                    model,
                    head,
                    teacher,
                    self.corpus,
                    special_ids(self.tokenizer),
                    schedule,
                )
            start = functools.partial(start, seed=seed, precision=precision)
            self._run(num_instances, name, model, head, schedule, start)
        target = self.directory / f"n{num_instances}"
        described = self.recipe.describe(num_instances)
        save_text(json.dumps(described, indent=1) + "\n", target / RECIPE_FILE)
        save_model(model.half(), target, self.tokenizer if num_instances == 1 else None)

    def _shape(self) -> MuxedBertShape:
        recipe = self.recipe
        return MuxedBertShape(
            vocab_size=self.tokenizer.get_vocab_size(),
            hidden_size=recipe.hidden_size,
            dense_hidden_size=recipe.hidden_size,
            head_size=recipe.hidden_size // recipe.num_heads,
            head_counts=(recipe.num_heads,) * recipe.num_layers,
            feedforward_sizes=(recipe.feedforward_size,) * recipe.num_layers,
            dense_num_heads=recipe.num_heads,
            dense_feedforward_size=recipe.feedforward_size,
            max_positions=recipe.max_length,
            embed_mode="single_pass",
            dropout=0.0,
        )

    def _run(
        self,
        num_instances: int,
        name: str,
        model: MuxedBert,
        head: TokenHead,
        config: PhaseConfig,
        start: Callable[[], Program],
    ) -> None:
        folder = self.directory / "phases"
        finished = folder / f"n{num_instances}-{name}.safetensors"
        if finished.is_file():
            tensors = read_tensors(finished)
            for prefix, module in (("model.", model), ("head.", head)):
                module.load_state_dict(
                    {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
                )
            return
        options = LoopOptions(
            num_updates=config.num_updates,
            num_evaluations=1,
            seed=self.recipe.seed,
            progress_path=folder / f"n{num_instances}-{name}.progress.safetensors",
            checkpoint_interval_s=60.0,
        )
        result = run_phase(f"n{num_instances}-{name}", start(), options, self.report)
        logger.info("%s took %.0f s", result.name, result.duration_s)
        state = {f"model.{k}": t for k, t in model.state_dict().items()}
        state |= {f"head.{k}": t for k, t in head.state_dict().items()}
        save_tensors(state, finished, {})
        options.progress_path.unlink(missing_ok=True)


TOKEN_STD = 0.06
"""Standard deviation of new token embeddings, three times that of positions and types."""


@torch.no_grad()
def _attend_to_equals(model: MuxedBert) -> None:
    """Start every head so that a token attends to equal ones (Trockman and Kolter 2023).

    Queries equal keys, and tokens outweigh positions: comparing two segments need not be
    discovered, which takes a small model thousands of updates.
    """
    nn.init.normal_(model.embeddings.tokens.weight, std=TOKEN_STD)
    size = model.shape.hidden_size
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        assert layer.attention is not None
        query, key, _ = layer.attention.query_key_value.weight.chunk(3)
        nn.init.normal_(query, std=size**-0.5)
        key.copy_(query)
