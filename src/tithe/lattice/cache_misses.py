"""Cache misses of this process's threads, where the kernel lets them be counted."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

__all__ = ["CacheMisses"]

_NUMBERS = {"x86_64": 298, "aarch64": 241}  # of the system call perf_event_open
_HARDWARE, _MISSES = 0, 3  # PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES
_INHERIT, _NO_KERNEL, _NO_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
_ATTRIBUTES = struct.Struct("<IIQQQQQQQ")  # perf_event_attr, its first version: 64 bytes


class CacheMisses:
    """Counts misses of the last level of cache, by all threads that there are and that these start.

    Source: Linux perf_event_open(2).

    >>> with CacheMisses() as misses:
    ...     total = sum(range(1000))
    >>> misses.count is None or misses.count >= 0
    True
    """

    def __init__(self) -> None:
        self._files: list[int] = []
        self.count: int | None = None

    def __enter__(self) -> CacheMisses:
        try:
            threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
        except OSError:  # not Linux
            threads = []
        for thread in threads:
            file = _opened(thread)
            if file is None:
                self._close()
                return self
            self._files.append(file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._files:
            self.count = sum(int.from_bytes(os.read(file, 8), "little") for file in self._files)
        self._close()

    def _close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []


def _opened(thread: int) -> int | None:
    """A counter of one thread; ``None`` where it is not permitted, or the machine has none."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        return None
    flags = _INHERIT | _NO_KERNEL | _NO_HYPERVISOR
    attributes = _ATTRIBUTES.pack(_HARDWARE, _ATTRIBUTES.size, _MISSES, 0, 0, 0, flags, 0, 0)
    call = ctypes.CDLL(None, use_errno=True).syscall
    file = call(number, ctypes.create_string_buffer(attributes), thread, -1, -1, 0)
    return file if file >= 0 else None
