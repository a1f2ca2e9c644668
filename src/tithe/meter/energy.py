"""Energy from the machine's own counters: NVML for a CUDA device, RAPL for the processor; a reading or nothing."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["Energy", "Source"]

Source = Literal["nvml", "rapl"]
_POWERCAP = Path("/sys/class/powercap")
_SAMPLE_SECONDS = 20.0  # RAPL counters of 65 kJ exist: at 20 s one turns over at most once below 3 kW


class Energy:
    """Takes the joules between ``start`` and ``stop``; ``None`` where the machine has no counter that may be read.

    NVML counts the whole board of that one device, RAPL all processor packages and their memory: everything that runs
    on the machine is in it, not this process alone. A counter that did not move (NVML's moves about every 0.1 s)
    gives ``None`` and not 0. Source: NVML ``nvmlDeviceGetTotalEnergyConsumption``; Linux powercap, intel-rapl.

    >>> energy = Energy("cpu")
    >>> energy.start()
    >>> list(energy.stop())
    ['joules']
    """

    def __init__(self, device: str, *, powercap: Path = _POWERCAP) -> None:
        self._counter: _Counter | None = open_rapl(powercap) if device == "cpu" else open_nvml(device)
        self.source: Source | None = None

    def start(self) -> None:
        """Begin."""
        if self._counter is not None:
            self._counter.start()

    def stop(self) -> dict[str, float | None]:
        """End and return ``joules``; ``source`` names the counter from then on, if there was a reading."""
        joules = None if self._counter is None else self._counter.stop()
        if self._counter is not None and joules is not None:
            self.source = self._counter.source
        return {"joules": joules}


class _Counter(Protocol):
    source: Source

    def start(self) -> None: ...

    def stop(self) -> float | None: ...


class _Nvml:
    """The total-energy counter of one GPU, in millijoules since the driver was loaded."""

    source: Source = "nvml"

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._first: int | None = None

    def start(self) -> None:
        self._first = self._read()

    def stop(self) -> float | None:
        last = self._read()
        if self._first is None or last is None or last <= self._first:
            return None
        return (last - self._first) / 1e3

    def _read(self) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None


def open_nvml(device: str) -> _Nvml | None:
    """The energy counter of CUDA device ``device``; None without nvidia-ml-py, driver or permission."""
    try:
        import pynvml
    except ImportError:
        return None
    handle = _nvml_handle(device)
    return None if handle is None else _Nvml(pynvml, handle)


@functools.cache
def _nvml_handle(device: str) -> Any:
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        # By UUID, since torch's numbering follows CUDA_VISIBLE_DEVICES and NVML's does not.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError):
        return None
    return handle


@dataclass(frozen=True)
class _Domain:
    """One RAPL counter: its file, and the value at which it begins anew, both in microjoules."""

    path: Path
    wraps_at: int

    def read(self) -> int:
        return int(self.path.read_text())


class _Rapl:
    """All packages and memories together; a thread reads them now and then, so that no second turnover is missed."""

    source: Source = "rapl"

    def __init__(self, domains: list[_Domain], sample_seconds: float = _SAMPLE_SECONDS) -> None:
        self._domains = domains
        self._sample_seconds = sample_seconds
        self._last: list[int] = []
        self._microjoules = 0
        self._failed = False
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._microjoules, self._failed = 0, False
        self._last = [0] * len(self._domains)
        self._sample()
        self._microjoules = 0
        self._done.clear()
        self._thread = threading.Thread(target=self._keep_sampling, name="tithe-rapl", daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()
        return None if self._failed or not self._microjoules else self._microjoules / 1e6

    def _keep_sampling(self) -> None:
        while not self._done.wait(self._sample_seconds):
            self._sample()

    def _sample(self) -> None:
        try:
            now = [domain.read() for domain in self._domains]
        except (OSError, ValueError):
            self._failed = True
            return
        for domain, last, new in zip(self._domains, self._last, now, strict=True):
            self._microjoules += new - last if new >= last else new - last + domain.wraps_at
        self._last = now


def open_rapl(powercap: Path = _POWERCAP) -> _Rapl | None:
    """The processor's energy counters below ``powercap``; None where there are none or one may not be read."""
    domains = []
    try:
        for folder in sorted(powercap.glob("intel-rapl:*")):
            name = (folder / "name").read_text().strip()
            # core and uncore are parts of their package, psys holds everything: to add them would count twice.
            if name.startswith("package") or name == "dram":
                domain = _Domain(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
                domain.read()
                domains.append(domain)
    except (OSError, ValueError):
        return None
    return _Rapl(domains) if domains else None
