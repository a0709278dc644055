"""Tiny models, batches, gates and data that the tests of the trainers share."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from trainers.data.builtin import unlabelled_texts
from trainers.data.encoding import Encoded
from trainers.models.masks import Masks, open_masks
from trainers.models.muxed_bert import Batch, MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.pretraining import train_tokenizer

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
        torch.manual_seed(seed)
        model = MuxedBert(replace(TINY, num_instances=num_instances, **changes))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.endswith("keys"):
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(noise * (0.2 if "norm" in name else 0.1))
        return model.to(dtype).eval()

    return build


@pytest.fixture(scope="session")
def make_groups() -> Callable[..., Batch]:
    """Build `(B, N, T)` random tokens with padding on the right of most sequences."""

    def build(
        num_instances: int = 1, *, num_groups: int = 3, length: int = 9, seed: int = 0
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (num_groups, num_instances, length)
        ids = torch.randint(5, 100, size, generator=generator)
        lengths = torch.randint(2, length + 1, size[:2], generator=generator)
        attention_mask = torch.arange(length) < lengths[..., None]
        types = (torch.arange(length) >= lengths[..., None] // 2) & attention_mask
        return Batch(ids * attention_mask, attention_mask, types.long())

    return build


@pytest.fixture(scope="session")
def make_masks() -> Callable[..., Masks]:
    """Draw gate values for the tiny shape: about `closed` of them are zero, the others `soft`."""

    def build(*, seed: int = 0, closed: float = 0.4, soft: bool = False) -> Masks:
        generator = torch.Generator().manual_seed(seed)

        def draw(gate: Tensor) -> Tensor:
            values = torch.rand(gate.shape, generator=generator, dtype=torch.float64)
            is_open = torch.rand(gate.shape, generator=generator) >= closed
            return is_open * (0.2 + 0.8 * values if soft else torch.ones_like(values))

        masks = Masks(**{name: draw(gate) for name, gate in vars(open_masks(TINY)).items()})
        masks.hidden[0] = 1.0  # a model needs one dimension
        return masks

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
