"""Peak memory: how far beyond its start a process, or a CUDA device's allocator, has grown at most."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

__all__ = ["PeakMemory"]


class _Gauge(Protocol):
    """One high-water mark, shared by all who read it."""

    name: str

    def read(self) -> tuple[int, int] | None:
        """Bytes in use now, and at most since the last reset; None where they cannot be read."""

    def reset(self) -> bool:
        """Set the mark down to what is in use now; False where that is not permitted."""


class _ProcessGauge:
    """The resident set of this process as Linux counts it; ``proc`` is its folder, replaced in tests."""

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self.name = str(proc)
        self._proc = proc

    def read(self) -> tuple[int, int] | None:
        try:
            lines = (self._proc / "status").read_text().splitlines()
            kilobytes = {key: int(rest.split()[0]) for key, _, rest in map(_split, lines) if key in ("VmRSS", "VmHWM")}
            return kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024
        except (OSError, KeyError, ValueError, IndexError):
            return None

    def reset(self) -> bool:
        try:
            (self._proc / "clear_refs").write_text("5")  # 5 sets VmHWM back and touches nothing else
        except OSError:
            return False
        return True


class _CudaGauge:
    """What torch's caching allocator has handed out on one device."""

    def __init__(self, device: str) -> None:
        self.name = device

    def read(self) -> tuple[int, int] | None:
        import torch

        return torch.cuda.memory_allocated(self.name), torch.cuda.max_memory_allocated(self.name)

    def reset(self) -> bool:
        import torch

        torch.cuda.reset_peak_memory_stats(self.name)
        return True


# A high-water mark belongs to the whole process: whoever resets it first hands its height to all that are reading.
_LOCK = threading.Lock()
_OPEN: list[PeakMemory] = []


class PeakMemory:
    """Takes the peak of additional memory, in bytes, between ``start`` and ``stop``; readings may nest or overlap.

    On CUDA: tensors of torch's allocator on that device. On the CPU: growth of the peak resident set of the whole
    process (Linux's VmHWM, set back through ``/proc/self/clear_refs``, which also sets back ``ru_maxrss``). Memory
    that the process held before and used again does not show, and the kernel counts in steps of some hundred
    kilobytes. ``None`` where it cannot be read, or where it could not be set back and was not surpassed.

    >>> memory = PeakMemory("cpu")
    >>> memory.start()
    >>> list(memory.stop())
    ['bytes']
    """

    def __init__(self, device: str, *, gauge: _Gauge | None = None) -> None:
        self._gauge = gauge or (_ProcessGauge() if device == "cpu" else _CudaGauge(device))
        self._base: int | None = None
        self._peak = 0
        self._floor = 0

    def start(self) -> None:
        """Begin: note what is in use, and set the mark back."""
        with _LOCK:
            before = self._gauge.read()
            if before is None:
                return
            for reading in _OPEN:
                reading._absorb(self._gauge.name, before[1])
            was_reset = self._gauge.reset()
            now = self._gauge.read() if was_reset else before
            if now is None:
                return
            self._base, self._peak = now[0], 0
            self._floor = 0 if was_reset else before[1]
            _OPEN.append(self)

    def stop(self) -> dict[str, float | None]:
        """End and return ``bytes``."""
        with _LOCK:
            if self._base is None:
                return {"bytes": None}
            _OPEN.remove(self)
            after = self._gauge.read()
            peak = max(self._peak, after[1]) if after is not None else self._peak
            unknown = after is None or peak <= self._floor
            return {"bytes": None if unknown else max(0, peak - self._base)}

    def _absorb(self, name: str, peak: int) -> None:
        if self._gauge.name == name:
            self._peak = max(self._peak, peak)


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")
