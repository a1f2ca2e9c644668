"""How long a function is likely to take, learned from its calls."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

from tithe.lattice.jobs import Job

__all__ = ["Estimates"]

_MEMORY = 0.1  # weight of the newest call
_MOST_FUNCTIONS = 1024


class Estimates:
    """A running mean of seconds for each function; one that was not called yet may take for ever.

    >>> estimates = Estimates()
    >>> estimates.learn(abs, 1.0), estimates.learn(abs, 2.0)
    (None, None)
    >>> round(estimates.mean(abs), 2)
    1.1
    """

    def __init__(self) -> None:
        self._means: dict[Hashable, float] = {}

    def learn(self, fn: Callable[..., Any], seconds: float) -> None:
        """Note a call."""
        kind = _kind(fn)
        mean = self._means.get(kind)
        if mean is None and len(self._means) >= _MOST_FUNCTIONS:
            self._means.pop(next(iter(self._means)))
        self._means[kind] = seconds if mean is None else mean + _MEMORY * (seconds - mean)

    def mean(self, fn: Callable[..., Any]) -> float:
        """Seconds; infinite for an unknown function."""
        return self._means.get(_kind(fn), math.inf)

    def of(self, job: Job) -> float:
        """Seconds that a job is likely to take."""
        return self.mean(job.task.fn)


def _kind(fn: Any) -> Hashable:
    """The code of a function, so that lambdas made in a loop are one; the type of what is called otherwise."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    code: Hashable = getattr(fn, "__code__", None) or getattr(getattr(fn, "__func__", None), "__code__", None)
    return code or getattr(fn, "__qualname__", type(fn).__qualname__)
