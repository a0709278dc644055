from contextlib import nullcontext

import pytest
import torch

from trainers.phases import precision
from trainers.phases.precision import Precision, has_bfloat16, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_follows_what_the_cpu_can(monkeypatch, flags, dtype):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)

    assert resolve_precision("auto", CPU) == dtype


@pytest.mark.parametrize(("has_it", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_follows_what_the_gpu_can_without_emulation(monkeypatch, has_it, dtype):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_it | including_emulation
    )

    assert resolve_precision("auto", CUDA) == dtype


@pytest.mark.parametrize("flags", [{"avx512_bf16": True}, {}])
def test_a_named_precision_is_what_it_says(monkeypatch, flags):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)

    words = [Precision(CPU, resolve_precision(w, CPU)).word for w in ("float32", "bfloat16")]

    assert words == ["float32", "bfloat16"]


def test_torch_and_linux_agree_on_the_flags_of_this_cpu(monkeypatch):
    asked = has_bfloat16(CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    assert has_bfloat16(CPU) == asked
