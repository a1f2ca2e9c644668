"""The clock: wall and CPU seconds of a stretch of work, on the processor or on a CUDA device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tithe.errors import InvalidValueError

if TYPE_CHECKING:
    import torch

__all__ = ["Clock", "checked_device"]


def checked_device(device: str | torch.device) -> str:
    """The device as text, ``cpu`` or ``cuda:0``; ``InvalidValueError`` where this machine cannot measure it.

    O(1); torch is imported only for a CUDA device.

    >>> checked_device("cpu")
    'cpu'
    """
    name = str(device)
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return "cpu"
    if kind != "cuda" or (index and not index.isdecimal()):
        raise InvalidValueError(f"cannot measure on device {name!r}; use 'cpu', 'cuda' or 'cuda:N'")
    import torch

    if not torch.cuda.is_available():
        raise InvalidValueError(f"device {name!r} was asked for, but torch sees no CUDA device here; use device='cpu'")
    torch.cuda.init()  # type: ignore[no-untyped-call]  # the allocator's peak cannot be set back before
    number = int(index) if index else torch.cuda.current_device()
    if number >= torch.cuda.device_count():
        raise InvalidValueError(f"there is no device {name!r}; torch sees {torch.cuda.device_count()} CUDA device(s)")
    return f"cuda:{number}"


class Clock:
    """Takes the wall time and the CPU time (all threads of this process) between ``start`` and ``stop``.

    On CUDA the wall time lies between two events on the stream that is current at ``start``, and both ends wait for
    the device: queued work counts where it runs. Work that was left on another stream counts up to where the current
    stream waits for it.

    >>> clock = Clock("cpu")
    >>> clock.start()
    >>> sorted(clock.stop())
    ['cpu_seconds', 'seconds']
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream: Any = None
        self._events: tuple[Any, Any] | None = None
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Begin; on CUDA after all that was queued before is done."""
        if self._device != "cpu":
            import torch

            torch.cuda.synchronize(self._device)
            self._stream = torch.cuda.current_stream(self._device)
            new_event: Any = torch.cuda.Event
            self._events = (new_event(enable_timing=True), new_event(enable_timing=True))
            self._events[0].record(self._stream)
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self) -> dict[str, float | None]:
        """End and return ``seconds`` and ``cpu_seconds``; on CUDA after all that was queued is done."""
        wall = time.perf_counter() - self._wall
        if self._events is not None:
            import torch

            first, last = self._events
            last.record(self._stream)
            torch.cuda.synchronize(self._device)
            wall = first.elapsed_time(last) / 1e3
        return {"seconds": wall, "cpu_seconds": time.process_time() - self._cpu}
