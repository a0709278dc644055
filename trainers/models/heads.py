"""Heads on demultiplexed states: classes of a sequence, tokens of the vocabulary."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SequenceHead(nn.Module):
    """Class logits of one sequence: dropout, then a linear layer.

    Args:
        hidden_size: Width of the states.
        num_classes: C.
        dropout: Share of dimensions dropped in training.
    """

    def __init__(self, hidden_size: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, states: Tensor) -> Tensor:
        """Yield `(..., C)` logits of `(..., D)` states."""
        logits: Tensor = self.output(self.dropout(states))
        return logits


class DetectionHead(nn.Module):
    """Logits of "this token was replaced" and "this sequence holds a replaced token" (ELECTRA).

    Args:
        hidden_size: Width of the states.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.token = nn.Linear(hidden_size, 1)
        self.sequence = nn.Linear(hidden_size, 1)


class TokenHead(nn.Module):
    """Token logits for retrieval and masked-language modelling, tied to the token table.

    Args:
        hidden_size: Width of the states and of the token table.
        vocab_size: V.
        layer_norm_eps: Added to variances.
    """

    def __init__(self, hidden_size: int, vocab_size: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.transform = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, states: Tensor, table: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Yield logits of `(..., D)` states.

        Args:
            states: States to decode.
            table: `(V, D)` token embeddings.
            tokens: `(V',)` ids to score; without it, the whole vocabulary.

        Returns:
            `(..., V')` or `(..., V)`.
        """
        bias: Tensor = self.bias
        if tokens is not None:
            table, bias = table[tokens], bias[tokens]
        return F.linear(self.norm(F.gelu(self.transform(states))), table, bias)
