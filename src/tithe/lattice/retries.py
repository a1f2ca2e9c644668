"""Tasks that are tried again, each when its time has come."""

from __future__ import annotations

import heapq
import random

from tithe.lattice.jobs import Job

__all__ = ["Retries"]

_MOST_DOUBLINGS = 16


class Retries:
    """Waits twice as long before each further try of a task, less a random part, so that many do not come at once.

    Args:
        backoff: seconds before the second try, at most.
        seed: of the jitter, from half to all of the wait.

    Attributes:
        count: how many tries there were after the first.
    """

    def __init__(self, backoff: float, seed: int) -> None:
        self._backoff, self._random = backoff, random.Random(seed)
        self._later: list[tuple[float, int, Job]] = []
        self.count = 0

    def __len__(self) -> int:
        return len(self._later)

    def add(self, job: Job, now: float) -> None:
        """Try a job again, that was tried ``job.attempts`` times."""
        self.count += 1
        wait = self._backoff * 2 ** min(job.attempts - 1, _MOST_DOUBLINGS) * self._random.uniform(0.5, 1.0)
        heapq.heappush(self._later, (now + wait, job.number, job))

    def due(self, now: float) -> list[Job]:
        """Those whose time has come; they wait no more."""
        found = []
        while self._later and self._later[0][0] <= now:
            found.append(heapq.heappop(self._later)[2])
        return found

    def next_due(self) -> float | None:
        """When the next one comes."""
        return self._later[0][0] if self._later else None

    def clear(self) -> None:
        """Forget all."""
        self._later.clear()
