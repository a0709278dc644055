"""Demultiplexers: one mixed hidden state becomes N (MUX-PLM, Murahari et al. 2023)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def add_constants(projected: Tensor, constants: Tensor, slots: Tensor | None) -> Tensor:
    """Add to each state what the key of an instance contributes to the first layer.

    Args:
        projected: `(..., dense_size)` contributions of the states.
        constants: `(N, dense_size)` contributions of the keys.
        slots: `(...,)` which instance to take for each state; without it, all N.

    Returns:
        `(..., dense_size)` with `slots`, else `(..., N, dense_size)`.
    """
    if slots is None:
        return projected.unsqueeze(-2) + constants
    return projected + constants[slots]


def refine(hidden: Tensor, layers: nn.ModuleList, norms: nn.ModuleList) -> Tensor:
    """Yield the output `(..., dense_size)` of a demultiplexer from that of its first product.

    Args:
        hidden: `(..., dense_size)`.
        layers: Residual layers.
        norms: Layer norms, one more than `layers`.
    """
    hidden = norms[0](F.gelu(hidden))
    for layer, norm in zip(layers, list(norms)[1:], strict=True):
        hidden = norm(hidden + F.gelu(layer(hidden)))
    return hidden


class RsaDemultiplexer(nn.Module):
    """RSA-inspired demultiplexer with one learned key per instance.

    The first layer acts on the concatenation of key and state; its weight is kept in two halves,
    so that the state half is computed once per mixed token and the key half is a constant per
    instance: W [k; h] + b = W_state h + (W_key k + b). The same path, layer norms included, serves
    retrieval, masked-language modelling and the task.

    Args:
        num_instances: N.
        hidden_size: D of the mixed states; less than `dense_size` after compaction.
        dense_size: Width of the demultiplexed states.
        num_layers: Shared layers, at least 1.
        layer_norm_eps: Added to variances.
    """

    state_inputs = ("state.weight",)
    """Weights whose columns are the dimensions of the mixed states."""

    def __init__(
        self,
        num_instances: int,
        hidden_size: int,
        dense_size: int,
        num_layers: int,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(num_instances, dense_size))
        self.state = nn.Linear(hidden_size, dense_size, bias=False)
        self.key = nn.Linear(dense_size, dense_size)
        self.layers = nn.ModuleList(
            nn.Linear(dense_size, dense_size) for _ in range(num_layers - 1)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(dense_size, eps=layer_norm_eps) for _ in range(num_layers)
        )

    def forward(self, states: Tensor, slots: Tensor | None = None) -> Tensor:
        """Demultiplex states.

        Args:
            states: `(..., D)` mixed hidden states.
            slots: `(...,)` which instance to yield for each state; without it, all N.

        Returns:
            `(..., dense_size)` with `slots`, else `(..., N, dense_size)`.
        """
        constants = self.key(self.keys)  # (N, dense_size)
        hidden = add_constants(self.state(states), constants, slots)
        return refine(hidden, self.layers, self.norms)

    def tokens(
        self, states: Tensor, chosen: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> Tensor:
        """Demultiplex tokens.

        Args:
            states: `(B, T, D)` last states.
            chosen: Groups, instances and positions to yield, `(K,)` each; without it, all.

        Returns:
            `(K, dense_size)` with `chosen`, else `(B, T, N, dense_size)`.
        """
        if chosen is None:
            return self(states)
        groups, slots, places = chosen
        return self(states[groups, places], slots)

    def sequences(self, states: Tensor) -> Tensor:
        """Yield `(B, N, dense_size)` states of whole sequences from those of `[CLS]`.

        Args:
            states: `(B, T, D)` last states; the first position is read.
        """
        return self(states[:, 0])
