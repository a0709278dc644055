"""Small random models, batches and gates, and Hypothesis strategies of their shapes and dtypes."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from trainers.models.batch import Batch
from trainers.models.masks import Masks, open_masks
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape

MAX_LENGTH = 12
"""Positions of the drawn shapes."""
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}
"""How far two ways to compute the same may differ, relative to the spread of the result.

Spread is that of all values, so that a number near zero among large ones is no exception; bfloat16
has 8 bits, of which a few layers of sums use up five.
"""


def random_model(
    shape: MuxedBertShape, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> MuxedBert:
    """Build a model in evaluation mode of which every weight is random, biases and norms too."""
    torch.manual_seed(seed)
    model = MuxedBert(shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("keys"):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.2 if "norm" in name else 0.1))
    return model.to(dtype).eval()


def random_groups(
    num_instances: int = 1,
    *,
    num_groups: int = 3,
    length: int = 9,
    seed: int = 0,
    vocab_size: int = 100,
) -> Batch:
    """Draw `(B, N, T)` tokens with padding on the right of most sequences."""
    generator = torch.Generator().manual_seed(seed)
    size = (num_groups, num_instances, length)
    ids = torch.randint(5, vocab_size, size, generator=generator)
    lengths = torch.randint(min(2, length), length + 1, size[:2], generator=generator)
    attention_mask = torch.arange(length) < lengths[..., None]
    types = (torch.arange(length) >= lengths[..., None] // 2) & attention_mask
    return Batch(ids * attention_mask, attention_mask, types.long())


def random_masks(
    shape: MuxedBertShape,
    *,
    seed: int = 0,
    closed: float = 0.4,
    soft: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Masks:
    """Draw gate values: some `closed` of them are zero, the others one or, if `soft`, over 0.2."""
    generator = torch.Generator().manual_seed(seed)

    def draw(gate: Tensor) -> Tensor:
        values = torch.rand(gate.shape, generator=generator, dtype=torch.float64)
        is_open = torch.rand(gate.shape, generator=generator) >= closed
        return (is_open * (0.2 + 0.8 * values if soft else torch.ones_like(values))).to(dtype)

    masks = Masks(**{name: draw(gate) for name, gate in vars(open_masks(shape)).items()})
    masks.hidden[0] = 1.0  # a model needs one dimension
    return masks


def difference(found: Tensor, expected: Tensor) -> float:
    """Yield the largest difference relative to the spread of what is expected, at least 0.001."""
    found, expected = found.detach().double(), expected.detach().double()
    spread = expected.std() if expected.numel() > 1 else expected.abs().max()
    return float((found - expected).abs().max() / spread.clamp(min=1e-3))


def dtypes(*, has_half: bool = False) -> st.SearchStrategy[torch.dtype]:
    """Draw float64 or float32, and bfloat16 if asked for."""
    return st.sampled_from([d for d in TOLERANCES if has_half or d != torch.bfloat16])


def seeds() -> st.SearchStrategy[int]:
    """Draw seeds of weights and tokens."""
    return st.integers(0, 10_000)


def sizes(*, min_groups: int = 1) -> st.SearchStrategy[dict[str, int]]:
    """Draw the number of groups and tokens of a batch, as arguments of `random_groups`."""
    return st.fixed_dictionaries(
        {"num_groups": st.integers(min_groups, 4), "length": st.integers(2, MAX_LENGTH - 4)}
    )


@st.composite
def shapes(
    draw: st.DrawFn, *, widths: tuple[int, ...] = (1, 2, 3, 5), **fixed: Any
) -> MuxedBertShape:
    """Draw the shape of a dense model without dropout.

    Args:
        draw: Given by Hypothesis.
        widths: N to draw from.
        fixed: Fields of the shape that are not drawn.
    """
    num_heads, head_size = draw(st.integers(1, 4)), draw(st.sampled_from([2, 4, 8]))
    num_layers, units = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    size = draw(st.sampled_from([8, 12, 21, 32]))
    values: dict[str, Any] = {
        "vocab_size": draw(st.sampled_from([30, 100])),
        "hidden_size": size,
        "dense_hidden_size": size,
        "head_size": head_size,
        "head_counts": (num_heads,) * num_layers,
        "feedforward_sizes": (units,) * num_layers,
        "dense_num_heads": num_heads,
        "dense_feedforward_size": units,
        "max_positions": MAX_LENGTH,
        "num_instances": draw(st.sampled_from(widths)),
        "num_classes": draw(st.integers(2, 4)),
        "embed_mode": draw(st.sampled_from(["two_pass", "single_pass"])),
        "mask_mode": draw(st.sampled_from(["union", "none"])),
        "num_demux_layers": draw(st.integers(1, 3)),
        "dropout": 0.0,
    }
    return MuxedBertShape(**{**values, **fixed})


def groups_of(shape: MuxedBertShape, size: dict[str, int], seed: int) -> Batch:
    """Draw a batch of `size` that a model of `shape` reads."""
    return random_groups(shape.num_instances, seed=seed, vocab_size=shape.vocab_size, **size)
