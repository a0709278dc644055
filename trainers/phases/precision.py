"""Where, with whom and in which precision a phase computes, and how much of a batch at once."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from trainers.processes import ALONE, Processes


@dataclass(frozen=True)
class Precision:
    """Device and autocast of one training."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    num_parts: int = 1
    """Parts that a batch goes through the model in, for want of memory; see `MicroBatches`."""
    processes: Processes = ALONE
    """Those that share every batch."""

    @property
    def word(self) -> str:
        """Name of the dtype, as recipes spell it."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[object]:
        """Yield the context for forward passes; weights and updates stay float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def resolve_precision(word: str, device: torch.device) -> torch.dtype:
    """Yield the dtype that `auto`, `float32` or `bfloat16` means on a device."""
    if word == "auto":
        word = "bfloat16" if has_bfloat16(device) else "float32"
    dtype: torch.dtype = getattr(torch, word)
    return dtype


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware; elsewhere it is slower than float32.

    A CPU does by AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(_cpu_flags().get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _cpu_flags() -> dict[str, bool]:
    """Yield what the CPU can, as torch sees it, or as Linux does where torch does not tell."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    return dict.fromkeys(flags.partition(":")[2].split(), True)
