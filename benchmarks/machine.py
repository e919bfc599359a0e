"""The processor that something was measured on."""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from shared.usable_cores import usable_cores

_CPUINFO: Final = Path("/proc/cpuinfo")
_FAST: Final = ("avx2", "avx512f", "avx512_vnni", "amx_bf16")
"""Instructions that make models fast."""

Setting = TypeVar("Setting")


def processor() -> str:
    """Return the name of the processor."""
    models = [
        line.partition(":")[2].strip() for line in _lines() if line.startswith(("model name", "Hardware", "CPU part"))
    ]
    return models[0] if models else platform.processor() or platform.machine()


def cores_of_processor() -> str:
    """Return how many cores of which processor there are, and those of its instructions that make models fast."""
    flags = next((line.split() for line in _lines() if line.startswith("flags")), [])
    return " ".join([str(usable_cores()), "cores of", processor(), *(name for name in _FAST if name in flags)])


def _lines() -> list[str]:
    return _CPUINFO.read_text("utf-8", "replace").splitlines() if _CPUINFO.exists() else []


def shares_of_best(rates: Mapping[Setting, float], cores_of: Callable[[Setting], int]) -> dict[Setting, float]:
    """Return what each setting's rate is beside the best of those with as many cores."""
    best: dict[int, float] = {}
    for setting, rate in rates.items():
        best[cores_of(setting)] = max(rate, best.get(cores_of(setting), 0.0))
    return {setting: rate / best[cores_of(setting)] for setting, rate in rates.items()}
