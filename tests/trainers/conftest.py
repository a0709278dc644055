"""Tiny models, batches, gates and data that the tests of the trainers share."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from model_strategies import random_groups, random_masks, random_model
from tokenizers import Tokenizer

from trainers.config import (
    AccuracyConfig,
    DataConfig,
    ModelConfig,
    ThroughputConfig,
    TrainerConfig,
)
from trainers.data.builtin import unlabelled_texts
from trainers.data.encoding import Encoded
from trainers.models.batch import Batch
from trainers.models.checkpoints import save_model
from trainers.models.masks import Gates, Masks
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.phase_config import (
    FinetuneConfig,
    FinetunePrunedConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
)
from trainers.pipeline import train_and_measure
from trainers.pretraining import train_tokenizer
from trainers.results import TrainerResult

NUM_VALIDATION = 83  # leaves a remainder at every width above 1
TINY = MuxedBertShape(
    vocab_size=100,
    hidden_size=32,
    dense_hidden_size=32,
    head_size=8,
    head_counts=(4, 4, 4),
    feedforward_sizes=(64, 64, 64),
    dense_num_heads=4,
    dense_feedforward_size=64,
    max_positions=16,
    dropout=0.0,
)

VARIANTS = {
    "gaussian_hadamard": {},
    "learned_hadamard": {"multiplexer": "learned_hadamard"},
    "contextual": {"multiplexer": "contextual"},
    "published_norm": {"demux_norm": "published", "num_demux_layers": 3},
    "index_prefix": {"demultiplexer": "index_prefix"},
    "index_prefix_single_pass": {
        "multiplexer": "learned_hadamard",
        "demultiplexer": "index_prefix",
        "embed_mode": "single_pass",
    },
    "index_prefix_contextual": {"multiplexer": "contextual", "demultiplexer": "index_prefix"},
}
"""Ways to multiplex and demultiplex: changes to the default shape; a new one joins here."""


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def variant(request) -> dict[str, str]:
    """Changes that make one way to multiplex of the default shape."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices are faster on one thread, and sums keep their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_shape() -> MuxedBertShape:
    """D = 32, H = 4, F = 64, L = 3, V = 100, T <= 16, N = 1."""
    return TINY


@pytest.fixture(scope="session")
def make_model() -> Callable[..., MuxedBert]:
    """Build a tiny model, every weight of it random, in evaluation mode."""

    def build(
        num_instances: int = 1, *, seed: int = 0, dtype: torch.dtype = torch.float64, **changes
    ) -> MuxedBert:
        shape = replace(TINY, num_instances=num_instances, **changes)
        return random_model(shape, seed=seed, dtype=dtype)

    return build


@pytest.fixture(scope="session")
def make_groups() -> Callable[..., Batch]:
    """Build `(B, N, T)` random tokens with padding on the right of most sequences."""
    return random_groups


@pytest.fixture(scope="session")
def make_masks() -> Callable[..., Masks]:
    """Draw gate values for the tiny shape: about `closed` of them are zero, the others `soft`."""

    return partial(random_masks, TINY)


@pytest.fixture(scope="session")
def make_gates() -> Callable[..., Gates]:
    """Draw gate parameters with the standard deviation `spread`."""

    def build(seed: int, spread: float = 3.0, *, shape: MuxedBertShape = TINY, **options) -> Gates:
        gates = Gates(shape, **options)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in gates.parameters():
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
        gates.clamp_()
        return gates

    return build


@pytest.fixture(scope="session")
def make_encoded() -> Callable[..., Encoded]:
    """Build labelled sequences; the class is the parity of the token after `[CLS]`."""

    def build(num_examples: int = 48, *, seed: int = 0, length: int = 8) -> Encoded:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(3, length + 1, num_examples)
        is_real = np.arange(length) < lengths[:, None]
        ids = rng.integers(5, 100, (num_examples, length)) * is_real
        ids[:, 0] = 2  # [CLS]
        ids[np.arange(num_examples), lengths - 1] = 3  # [SEP]
        types = (np.arange(length) >= lengths[:, None] // 2) & is_real
        return Encoded(ids, lengths, types.astype(np.int64), ids[:, 1] % 2)

    return build


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """WordPiece of the built-in texts."""
    return train_tokenizer(unlabelled_texts(2000, 0))


@pytest.fixture(scope="session")
def source(tokenizer, tmp_path_factory) -> Path:
    """A plain model of two layers with the tokenizer of the built-in texts."""
    shape = MuxedBertShape(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        dense_hidden_size=32,
        head_size=8,
        head_counts=(4, 4),
        feedforward_sizes=(64, 64),
        dense_num_heads=4,
        dense_feedforward_size=64,
        max_positions=32,
        embed_mode="single_pass",
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("source")
    save_model(MuxedBert(shape), directory, tokenizer)
    return directory


@pytest.fixture(scope="session")
def roberta_directory(tmp_path_factory) -> Path:
    """A random RoBERTa of transformers with a tokenizer of bytes; `<pad>` is 1."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "th", "the", "<mask>"]
    tokenizer = RobertaTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[("t", "h"), ("th", "e")]
    )
    shape = RobertaConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=1,
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("roberta")
    RobertaModel(shape).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def config(source) -> TrainerConfig:
    """Few updates of a tiny model; nothing is learned, everything is exercised."""
    size = {"batch_size": 8, "learning_rate": 1e-3}
    return TrainerConfig(
        task="sst2",
        device="cpu",
        data=DataConfig(num_train=256, num_validation=NUM_VALIDATION, num_held_out=32),
        model=ModelConfig(source=str(source)),
        prime=PrimeConfig(num_updates=3, **size),
        pretrain=PretrainConfig(num_updates=3, detect_weight=0.5, **size),
        finetune=FinetuneConfig(num_updates=4, num_evaluations=2, distill_weight=0.5, **size),
        prune=PruneConfig(num_updates=30, gate_learning_rate=0.5, tolerance=0.3, **size),
        finetune_pruned=FinetunePrunedConfig(num_updates=4, num_evaluations=2, **size),
        accuracy=AccuracyConfig(num_compositions=2),
        throughput=ThroughputConfig(batch_size=4, num_repeats=4, num_warmup=1),
        checkpoint_interval_s=1e-6,
    )


@pytest.fixture(scope="session")
def train() -> Callable[..., TrainerResult]:
    """Train and measure one candidate, reporting to nobody unless told otherwise."""

    def run(config, cache_dir, num_instances, sparsity, *, seed=0, report=lambda *event: None):
        return train_and_measure(
            config,
            num_instances=num_instances,
            sparsity=sparsity,
            seed=seed,
            cache_dir=cache_dir,
            report=report,
        )

    return run


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory) -> Path:
    """Phase cache that the tests of a module share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def events() -> list[tuple[str, float, int]]:
    """What the training of (2, 0.6) reported."""
    return []


@pytest.fixture(scope="module")
def pruned(train, config, cache_dir, events):
    """Result of (2, 0.6), the first candidate in its cache."""
    return train(config, cache_dir, 2, 0.6, report=lambda *event: events.append(event))


@pytest.fixture(scope="module")
def baseline(train, config, cache_dir, pruned):
    """Result of (1, 0), trained after (2, 0.6)."""
    return train(config, cache_dir, 1, 0.0)
