"""Multiplexers: the embeddings of N sequences become one (DataMUX, Murahari et al. 2022)."""

import torch
from torch import Tensor, nn


def gaussian_keys(num_instances: int, hidden_size: int, norm: float) -> Tensor:
    """Draw `(N, D)` Gaussian keys scaled to length `norm`; 0 means the square root of `D`.

    Uses torch's global generator, which the caller seeds.
    """
    keys = torch.randn(num_instances, hidden_size)
    length = norm if norm > 0 else hidden_size**0.5
    return keys * (length / keys.norm(dim=1, keepdim=True))


class HadamardMultiplexer(nn.Module):
    """Hadamard multiplexer: m = mean over i of key_i * x_i; keys start as Gaussian ones.

    Args:
        num_instances: N.
        hidden_size: D.
        key_norm: Length of each new key, see `gaussian_keys`.
        is_learned: True trains the keys with everything else.
    """

    def __init__(
        self, num_instances: int, hidden_size: int, key_norm: float, *, is_learned: bool = False
    ) -> None:
        super().__init__()
        keys = gaussian_keys(num_instances, hidden_size, key_norm)
        self.keys = nn.Parameter(keys, requires_grad=is_learned)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Mix `(B, N, T, D)` embeddings into `(B, T, D)`."""
        return torch.einsum("bntd,nd->btd", embeddings, self.keys / len(self.keys))
