"""What the C library does with memory that is freed, so that runs to be compared do not differ by it."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, as malloc.h has them
_ALL, _LARGEST = 2**31 - 1, 32 << 20  # bytes; the second is the most that glibc takes


def keep_freed_memory() -> None:
    """Let this process keep what it frees instead of giving it back and faulting every page in anew.

    Whether glibc gives large blocks back depends on what was allocated before; where it does, page faults slow a
    network with large activations, plain or converted. PyTorch's tuning guide advises allocators that keep them
    (jemalloc, TCMalloc). Does nothing where the C library has no ``mallopt``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _ALL)
        mallopt(_MMAP_THRESHOLD, _LARGEST)
