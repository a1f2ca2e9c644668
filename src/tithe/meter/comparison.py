"""Two ways of doing one thing, timed side by side: the ratio, and how sure it is."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.meter.clock import Clock, checked_device

if TYPE_CHECKING:
    import torch

__all__ = ["Comparison", "paired"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``paired`` found: times of both sides, and their ratio with its confidence interval.

    Attributes:
        names: what the two sides, a and b, are called.
        repeats: how many pairs were run.
        seconds: median wall time of a and of b.
        cpu_seconds: median CPU time of a and of b, all threads of the process.
        ratio: median over the pairs of wall(a) / wall(b); below 1 where a is the faster.
        low: lower end of the confidence interval of that median.
        high: upper end of it.
        confidence: the coverage of the interval (low, high), at least what was asked for.
        cpu_ratio: median over the pairs of CPU(a) / CPU(b); None where the CPU clock was too coarse for it.
        ratios: wall(a) / wall(b) of each pair, in the order in which they ran.
        load: the machine's one-minute load average before and after; None where the platform has none.
        device: where it ran.

    >>> c = Comparison(("a", "b"), 6, (0.001, 0.01), (0.001, 0.01), 0.1, 0.09, 0.12, 0.97, 0.1, (0.1,) * 6, None, "cpu")
    >>> print(c)
    a / b: 0.1 of the time (97% interval 0.09 to 0.12, 6 pairs), 1 ms against 10 ms on cpu
    """

    names: tuple[str, str]
    repeats: int
    seconds: tuple[float, float]
    cpu_seconds: tuple[float, float]
    ratio: float
    low: float
    high: float
    confidence: float
    cpu_ratio: float | None
    ratios: tuple[float, ...]
    load: tuple[float, float] | None
    device: str

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON types, with stable keys."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def __str__(self) -> str:
        times = " against ".join(_duration(seconds) for seconds in self.seconds)
        interval = f"{self.confidence:.0%} interval {self.low:.3g} to {self.high:.3g}, {self.repeats} pairs"
        load = "" if self.load is None else f", load {self.load[0]:.1f} to {self.load[1]:.1f}"
        return f"{' / '.join(self.names)}: {self.ratio:.3g} of the time ({interval}), {times} on {self.device}{load}"


def paired(
    a: Callable[[], object],
    b: Callable[[], object],
    repeats: int = 21,
    *,
    warmup: int = 2,
    device: str | torch.device = "cpu",
    seed: int = 0,
    confidence: float = 0.95,
    names: tuple[str, str] = ("a", "b"),
) -> Comparison:
    """Time ``a`` against ``b`` in interleaved pairs, so that whatever disturbs the machine disturbs both.

    Each pair runs both once, one directly after the other; in half of the pairs, drawn by ``seed``, ``a`` goes first.
    The ratio is the median of the pairs' own ratios. Its interval is that between two order statistics of them (the
    sign test turned round): distribution-free, valid at every sample size, wrong only if pairs depend on each other.

    Args:
        a: the one way, called without arguments; what it returns is dropped at once, within the time taken.
        b: the other way, as a rule the baseline.
        repeats: how many pairs; six are the fewest that carry 95 %.
        warmup: how many pairs to run untimed before.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; on CUDA each call is timed by events and waited for.
        seed: draws the order within each pair.
        confidence: the least coverage of the interval, between 0 and 1.
        names: what to call the two in the result.

    Returns:
        A ``Comparison``. Raises ``InvalidValueError`` where ``repeats`` are too few for ``confidence`` or an argument
        is out of range, ``InvalidDTypeError`` where ``a`` or ``b`` cannot be called, ``InvalidStateError`` where a
        call was too short for the clock. O((repeats + warmup) · (a + b)).

    Source: MISSION, the receipt; David & Nagaraja, Order Statistics, section 7.1 (interval of a quantile).

    >>> comparison = paired(lambda: sum(range(2000)), lambda: sum(range(4000)), repeats=6, names=("half", "whole"))
    >>> comparison.low <= comparison.ratio <= comparison.high
    True
    """
    for name, call in (("a", a), ("b", b)):
        if not callable(call):
            raise InvalidDTypeError(f"{name} is a {type(call).__name__}; pass a function without arguments")
    if warmup < 0:
        raise InvalidValueError(f"warmup is {warmup}; it must be at least 0")
    rank, coverage = _interval(repeats, confidence)
    where = checked_device(device)
    load_before = _load()
    for _ in range(warmup):
        _timed(a, where)
        _timed(b, where)
    a_first = np.random.default_rng(seed).permutation(np.arange(repeats) % 2 == 0)
    times: list[tuple[dict[str, float | None], dict[str, float | None]]] = []
    for first in a_first:
        if first:
            of_a = _timed(a, where)
            of_b = _timed(b, where)
        else:
            of_b = _timed(b, where)
            of_a = _timed(a, where)
        times.append((of_a, of_b))
    load_after = _load()
    walls, cpus = (np.array([[side[unit] for side in pair] for pair in times]) for unit in ("seconds", "cpu_seconds"))
    if not walls.all():
        raise InvalidStateError("a call took no time that the clock can see; let a and b do more work per call")
    ratios = (walls[:, 0] / walls[:, 1]).tolist()
    ordered = sorted(ratios)
    return Comparison(
        names=names,
        repeats=repeats,
        seconds=_medians(walls),
        cpu_seconds=_medians(cpus),
        ratio=statistics.median(ratios),
        low=ordered[rank - 1],
        high=ordered[repeats - rank],
        confidence=coverage,
        cpu_ratio=statistics.median((cpus[:, 0] / cpus[:, 1]).tolist()) if cpus.all() else None,
        ratios=tuple(ratios),
        load=None if load_before is None or load_after is None else (load_before, load_after),
        device=where,
    )


def _interval(repeats: int, confidence: float) -> tuple[int, float]:
    """The largest rank r for which the r-th smallest and r-th largest enclose the median often enough, and how often.

    Both miss it exactly when fewer than r of the values lie on one side, and each value does so by a fair coin.
    """
    if not 0 < confidence < 1:
        raise InvalidValueError(f"confidence is {confidence}; it must lie between 0 and 1, for instance 0.95")
    if repeats < 1:
        raise InvalidValueError(f"repeats is {repeats}; run at least one pair")
    rank, coverage, below = 0, 1.0, 0
    for candidate in range(1, (repeats + 1) // 2 + 1):
        below += math.comb(repeats, candidate - 1)
        covered = 1 - 2 * below / 2**repeats
        if covered < confidence:
            break
        rank, coverage = candidate, covered
    if rank == 0:
        fewest = math.ceil(1 - math.log2(1 - confidence))
        raise InvalidValueError(f"{repeats} pairs cannot carry a confidence of {confidence}; use at least {fewest}")
    return rank, coverage


def _timed(call: Callable[[], object], device: str) -> dict[str, float | None]:
    clock = Clock(device)
    clock.start()
    call()
    return clock.stop()


def _medians(times: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    return statistics.median(times[:, 0].tolist()), statistics.median(times[:, 1].tolist())


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # containers and Windows
        return None


def _duration(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * scale:  # what rounds to 1000 takes the next unit
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
