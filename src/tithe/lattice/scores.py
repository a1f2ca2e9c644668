"""Scores of data, each computed once, from a sample, and only as long as that costs little beside the work."""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from tithe.errors import InvalidValueError
from tithe.lattice.jobs import Job
from tithe.lattice.libraries import torch_alone

__all__ = ["Scores", "sample"]

_MOST = 1 << 16  # entries of an array that are looked at
_ALLOWANCE = 0.002  # seconds, before any work is done
_MOST_KNOWN = 4096


class Scores:
    """Asks a function for the score of each piece of data, when there is time.

    Args:
        score: of data, or of a sample of an array; 0 to 1.
        share: of the seconds that tasks have taken, which scoring may take.

    Attributes:
        worked: seconds that tasks have taken, to be added to.
        seconds: that scoring took, of which the first score is always allowed.
        count: of scores.

    Source: MISSION L1.
    """

    def __init__(self, score: Callable[[Any], float], share: float = 0.02) -> None:
        self._score, self._share = score, share
        self._known: dict[Hashable, float] = {}
        self._alive: dict[Hashable, weakref.ref[Any]] = {}
        self._users: dict[Hashable, int] = {}
        self._due: deque[tuple[Hashable, Job]] = deque()
        self.seconds, self.count, self.worked = 0.0, 0, 0.0

    def __len__(self) -> int:
        return len(self._due)

    def known(self, job: Job) -> float | None:
        """The score of a job's data, if it was asked for."""
        return self._known.get(job.group)

    def join(self, job: Job) -> None:
        """A job has come; its data will be scored."""
        group = job.group
        self._users[group] = self._users.get(group, 0) + 1
        if group not in self._known and self._users[group] == 1:
            self._due.append((group, job))

    def leave(self, job: Job) -> None:
        """A job is settled; the score of data that nobody uses is forgotten, if it cannot be told from other data."""
        group = job.group
        self._users[group] -= 1
        if not self._users[group]:
            del self._users[group]
            if _by_identity(group) and group not in self._alive:
                self._known.pop(group, None)

    def now(self, job: Job) -> float:
        """The score of a job's data, at whatever cost. Raises ``InvalidValueError`` for one outside of 0 to 1."""
        if job.group in self._known:
            return self._known[job.group]
        start = time.perf_counter()
        with torch_alone():
            found = float(self._score(sample(job.task.data)))
        self.seconds += time.perf_counter() - start
        self.count += 1
        if not 0 <= found <= 1:
            raise InvalidValueError(f"the score of the data of {job.task} is {found}; a score is from 0 to 1")
        self._known[job.group] = found
        self._watch(job)
        self._forget_oldest()
        return found

    def advance(self) -> list[tuple[Hashable, float]]:
        """Score what is due, as long as that stays below the share of ``worked``; groups and their scores."""
        found = []
        while self._due:
            mean = self.seconds / self.count if self.count else 0.0
            if self.seconds + mean > self._share * self.worked + (_ALLOWANCE if self.count else math.inf):
                break
            group, job = self._due.popleft()
            if group in self._users and group not in self._known:
                found.append((group, self.now(job)))
        return found

    def _watch(self, job: Job) -> None:
        group = job.group
        if _by_identity(group):
            try:
                self._alive[group] = weakref.ref(job.task.data, lambda _: self._gone(group))
            except TypeError:  # a list, say: it is forgotten with the last task that uses it
                return

    def _forget_oldest(self) -> None:
        if len(self._known) > _MOST_KNOWN:
            unused = next((group for group in self._known if group not in self._users), None)
            if unused is not None:
                self._gone(unused)

    def _gone(self, group: Hashable) -> None:
        self._alive.pop(group, None)
        self._known.pop(group, None)


def _by_identity(group: Hashable) -> bool:
    return isinstance(group, tuple) and group[:1] == ("id",)


def sample(data: Any, most: int = _MOST) -> Any:
    """A part of a large array that keeps neighbours together; other data as it is.

    Entries are left out along the first axes, of the last two a window in the middle is taken. O(1): a view.

    >>> import numpy as np
    >>> sample(np.zeros((1000, 64, 64))).shape, sample(np.zeros(100)).shape
    ((16, 64, 64), (100,))
    """
    shape = getattr(data, "shape", None)
    if not isinstance(shape, tuple) or math.prod(shape) <= most:
        return data
    axis, inner = 0, math.prod(shape[1:])
    while len(shape) - axis > 2 and inner > most:  # one entry of this axis is too many already
        data = data[(slice(None),) * axis + (slice(shape[axis] // 2, shape[axis] // 2 + 1),)]
        axis += 1
        inner = math.prod(shape[axis + 1 :])
    if len(shape) - axis > 2:
        step = -(-shape[axis] * inner // most)
        return data[(slice(None),) * axis + (slice(None, None, step),)]
    edge = most if len(shape) - axis == 1 else math.isqrt(most)
    window = []
    for length in shape[axis:]:
        start = max(0, (length - edge) // 2)
        window.append(slice(start, start + edge))
    return data[(slice(None),) * axis + tuple(window)]
