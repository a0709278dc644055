"""The RSA-inspired demultiplexer with the layer norms of the published MUX-PLM checkpoints.

Symbols: `k` key of an instance, `h` mixed state, `K` the depth that the checkpoints name.

Sequences and tokens take two different paths through shared layers. In the first, dropout stands
where a layer norm was meant to (its name in the published code tells), and the last layer has a
norm of its own that no pre-training has seen. The weights of layer `K` and the norms that neither
path reads are not kept.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.errors import ShapeError
from trainers.models.demux import add_constants

NUM_TOKEN_LAYERS = 2
"""Layers on the path of tokens, whatever the depth."""


class PublishedRsaDemultiplexer(nn.Module):
    """RSA-inspired demultiplexer as published (MUX-PLM, Murahari et al. 2023).

    Tokens (retrieval and masked-language modelling; the token head adds its own layer and norm):

        a = LN_1(GELU(W_1 [k; h] + b_1));  y = LN_2(GELU(W_2 a + b_2))

    Sequences (classification), with layers 2 to K - 1 in between:

        a = GELU(W_1 [k; h] + b_1);  a <- a + GELU(W_j a + b_j);  y = a + LN_p(GELU(W_p a + b_p))

    each GELU but the last followed by dropout.

    Args:
        num_instances: N.
        hidden_size: D of the mixed states; less than `dense_size` after compaction.
        dense_size: Width of the demultiplexed states.
        num_layers: K, at least 2; published are 2 for pre-training and 3 for fine-tuning.
        layer_norm_eps: Added to variances.
        dropout: Share of dimensions dropped in training, on the path of sequences.

    Raises:
        ShapeError: If `num_layers` is 1.
    """

    state_inputs = ("state.weight",)
    """See `RsaDemultiplexer.state_inputs`."""

    def __init__(
        self,
        num_instances: int,
        hidden_size: int,
        dense_size: int,
        num_layers: int,
        layer_norm_eps: float,
        dropout: float,
    ) -> None:
        super().__init__()
        if num_layers < NUM_TOKEN_LAYERS:
            raise ShapeError(
                f"The published demultiplexer has 2 layers or more, got {num_layers}."
            )
        self.num_shared = num_layers - 2
        self.keys = nn.Parameter(torch.randn(num_instances, dense_size))
        self.state = nn.Linear(hidden_size, dense_size, bias=False)
        self.key = nn.Linear(dense_size, dense_size)
        self.layers = nn.ModuleList(
            nn.Linear(dense_size, dense_size) for _ in range(max(1, self.num_shared))
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(dense_size, eps=layer_norm_eps) for _ in range(NUM_TOKEN_LAYERS)
        )
        self.sequence_layer = nn.Linear(dense_size, dense_size)
        self.sequence_norm = nn.LayerNorm(dense_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, slots: Tensor | None = None) -> Tensor:
        """Demultiplex tokens; see `RsaDemultiplexer.forward`."""
        hidden = self.norms[0](F.gelu(self._first(states, slots)))
        demultiplexed: Tensor = self.norms[1](F.gelu(self.layers[0](hidden)))
        return demultiplexed

    def tokens(
        self, states: Tensor, chosen: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> Tensor:
        """See `RsaDemultiplexer.tokens`."""
        if chosen is None:
            return self(states)
        groups, slots, places = chosen
        return self(states[groups, places], slots)

    def sequences(self, states: Tensor) -> Tensor:
        """See `RsaDemultiplexer.sequences`."""
        hidden = self.dropout(F.gelu(self._first(states[:, 0], None)))  # (B, N, dense_size)
        for layer in list(self.layers)[: self.num_shared]:
            hidden = hidden + self.dropout(F.gelu(layer(hidden)))
        return hidden + self.sequence_norm(F.gelu(self.sequence_layer(hidden)))

    def _first(self, states: Tensor, slots: Tensor | None) -> Tensor:
        return add_constants(self.state(states), self.key(self.keys), slots)
