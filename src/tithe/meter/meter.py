"""The meter: a ``with`` block around any code, and what that code spent as a ``Cost``."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.meter.clock import Clock, checked_device
from tithe.meter.energy import Energy, Source
from tithe.meter.flops import FlopCount
from tithe.meter.memory import PeakMemory
from tithe.receipt import Cost

if TYPE_CHECKING:
    import torch

__all__ = ["Meter"]


class Meter:
    """Measures what the block inside ``with Meter() as meter:`` spends; ``meter.cost`` is there once it has ended.

    Read are: wall seconds; CPU seconds of all threads of the process; context switches of the process (where the
    platform counts them); the peak of additional memory in bytes (of the process, or on CUDA of torch's tensors on
    that device); joules, where the machine has a counter that may be read. What cannot be read is ``None``. On CUDA
    the block is timed by events and both its ends wait for the device.

    Operations are counted only with ``flops=True``: counting makes each torch operation about 40 µs slower, so count
    in a block of its own where the seconds matter. Meters may nest; each measures one block, once. A block that
    raises is measured up to there.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where the work is done.
        flops: whether to count the operations of products, convolutions and attention.

    Raises ``InvalidValueError`` for a device that is not there, ``InvalidStateError`` when entered a second time or
    read before the block has ended. What it costs itself: ``Meter.overhead()``. Source: MISSION, the receipt.

    >>> with Meter() as meter:
    ...     total = sum(range(1000))
    >>> meter.cost.seconds > 0
    True
    """

    def __init__(self, device: str | torch.device = "cpu", *, flops: bool = False) -> None:
        name = checked_device(device)
        self._energy = Energy(name)
        # The first one is started first and stopped last: the clock runs closest to the block.
        self._instruments: list[_Instrument] = [PeakMemory(name), self._energy, _Switches(), Clock(name)]
        if flops:
            self._instruments.insert(2, FlopCount())
        self._stack: ExitStack | None = None
        self._readings: dict[str, float | None] = {}
        self._cost: Cost | None = None

    def __enter__(self) -> Meter:
        if self._stack is not None:
            raise InvalidStateError("this Meter has already been entered; make another Meter for another block")
        with ExitStack() as starting:
            for instrument in self._instruments:
                instrument.start()
                starting.callback(self._stop, instrument)
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stack is not None
        try:
            self._stack.close()
        finally:
            self._cost = Cost(**self._readings)  # type: ignore[arg-type]  # the keys are units, never `estimated`

    def _stop(self, instrument: _Instrument) -> None:
        self._readings.update(instrument.stop())

    @property
    def cost(self) -> Cost:
        """What the block spent; ``InvalidStateError`` before it has ended."""
        if self._cost is None:
            raise InvalidStateError("the block of this Meter has not ended; read `cost` after the `with` statement")
        return self._cost

    @property
    def joules_source(self) -> Source | None:
        """Which counter measured ``cost.joules``: ``nvml`` or ``rapl``, both readings; None where there is none."""
        return self._energy.source

    @classmethod
    def overhead(cls, repeats: int = 31, *, device: str | torch.device = "cpu", flops: bool = False) -> float:
        """Seconds that a whole ``with Meter(): pass`` takes here: the median of ``repeats`` empty blocks.

        Only its innermost microseconds lie inside the clock: ``cost.seconds`` of an empty block shows how many.
        Counting slows down each torch operation besides, which no empty block shows. Raises ``InvalidValueError``
        below one repeat. O(repeats).

        >>> Meter.overhead(3) > 0
        True
        """
        if repeats < 1:
            raise InvalidValueError(f"repeats is {repeats}; measure at least one empty block")
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            with cls(device, flops=flops):
                pass
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)


class _Instrument(Protocol):
    def start(self) -> None: ...

    def stop(self) -> dict[str, float | None]: ...


class _Switches:
    """Voluntary and involuntary context switches of all threads of this process; None where nobody counts them."""

    def __init__(self) -> None:
        self._first: int | None = None

    def start(self) -> None:
        self._first = self._read()

    def stop(self) -> dict[str, float | None]:
        last = self._read()
        return {"context_switches": None if self._first is None or last is None else last - self._first}

    def _read(self) -> int | None:
        try:
            import resource
        except ImportError:  # Windows
            return None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_nvcsw + usage.ru_nivcsw
