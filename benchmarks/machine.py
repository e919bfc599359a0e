"""The processor that something was measured on."""

import os
import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_FAST: Final = ("avx2", "avx512f", "avx512_vnni", "amx_bf16")
"""Instructions that make models fast."""


def cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the name of the processor."""
    models = [
        line.partition(":")[2].strip() for line in _lines() if line.startswith(("model name", "Hardware", "CPU part"))
    ]
    return models[0] if models else platform.processor() or platform.machine()


def cores_of_processor() -> str:
    """Return how many cores of which processor there are, and those of its instructions that make models fast."""
    flags = next((line.split() for line in _lines() if line.startswith("flags")), [])
    return " ".join([str(cores()), "cores of", processor(), *(name for name in _FAST if name in flags)])


def _lines() -> list[str]:
    return _CPUINFO.read_text("utf-8", "replace").splitlines() if _CPUINFO.exists() else []
