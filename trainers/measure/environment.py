"""Versions and hardware that a measurement was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("autoprumux", "torch", "transformers", "tokenizers", "numpy", "optuna")
"""Packages whose versions may change a result."""


def describe_environment(device: torch.device) -> dict[str, str]:
    """Yield words for the database: versions, processor, threads, device."""
    words = {f"{name}_version": _version(name) for name in PACKAGES}
    words["python_version"] = platform.python_version()
    words["platform"] = platform.platform()
    words["processor"] = _processor()
    words["num_threads"] = str(torch.get_num_threads())
    words["device"] = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return words


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
