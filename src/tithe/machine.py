"""What this machine is: named in every report, and the key under which calibrations are kept."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["cpu_flags", "describe"]


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction-set flags of the processor as the kernel names them; empty where they cannot be read.

    >>> isinstance(cpu_flags(), frozenset)
    True
    """
    return frozenset(_cpuinfo("flags", "Features").split())


@functools.cache
def _cpuinfo(*keys: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def describe(*, gpu: bool = True) -> dict[str, Any]:
    """The machine as plain JSON types: processor, cores, threads, int8 and bf16 units, software, and GPU if any.

    ``gpu=False`` leaves the GPU alone: asking for its name starts CUDA, which takes seconds and memory.

    >>> sorted(describe())[:3]
    ['bf16_units', 'cores', 'gpu']
    """
    import torch

    flags = cpu_flags()
    name = torch.cuda.get_device_name() if gpu and torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _cpuinfo("model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "int8_units": sorted(flags & {"amx_int8", "avx512_vnni", "avx_vnni"}),
        "bf16_units": sorted(flags & {"amx_bf16", "avx512_bf16"}),
        "gpu": name,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
