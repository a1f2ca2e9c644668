"""How long a function is likely to take, learned from its calls."""

from __future__ import annotations

import math
from collections.abc import Hashable

from tithe.lattice.jobs import Job

__all__ = ["Estimates"]

_MEMORY = 0.1  # weight of the newest call
_MOST_FUNCTIONS = 1024


class Estimates:
    """A running mean of seconds for each kind of function (``kind_of``); one not called yet may take for ever.

    >>> estimates = Estimates()
    >>> estimates.learn("abs", 1.0), estimates.learn("abs", 2.0)
    (None, None)
    >>> round(estimates.mean("abs"), 2)
    1.1
    """

    def __init__(self) -> None:
        self._means: dict[Hashable, float] = {}

    def learn(self, kind: Hashable, seconds: float) -> None:
        """Note a call of a function of this kind."""
        mean = self._means.get(kind)
        if mean is None and len(self._means) >= _MOST_FUNCTIONS:
            self._means.pop(next(iter(self._means)))
        self._means[kind] = seconds if mean is None else mean + _MEMORY * (seconds - mean)

    def mean(self, kind: Hashable) -> float:
        """Seconds; infinite for an unknown kind."""
        return self._means.get(kind, math.inf)

    def of(self, job: Job) -> float:
        """Seconds that a job is likely to take."""
        return self._means.get(job.kind, math.inf)
