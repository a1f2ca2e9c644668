"""Many calls of one function as a few tasks, each of as many calls as fill a chunk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tithe.errors import InvalidValueError
from tithe.lattice.estimates import Estimates
from tithe.lattice.jobs import kind_of
from tithe.lattice.outcome import Outcome
from tithe.lattice.task import Task

__all__ = ["Batches"]

_MOST = 512


class Batches:
    """An iterator of tasks that make the calls; ``learn`` from their outcomes how many calls the next ones should have.

    Args:
        fn: the function.
        arguments: of each call.
        size: calls a task; ``None`` for as many as take about ``budget`` seconds.
        budget: seconds.

    >>> batches = Batches(pow, zip(range(5), itertools.repeat(2)), size=2, budget=0.02)
    >>> [task.fn(*task.args) for task in batches]
    [[0, 1], [4, 9], [16]]
    """

    def __init__(
        self, fn: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], *, size: int | None, budget: float
    ) -> None:
        if size is not None and size < 1:
            raise InvalidValueError(f"chunk is {size}; use at least 1, or None")
        self._fn, self._arguments, self._size, self._budget = fn, iter(arguments), size, budget
        self._estimates = Estimates()

    def __iter__(self) -> Iterator[Task]:
        while batch := list(itertools.islice(self._arguments, self._size or self._suitable())):
            yield Task(_each, self._fn, batch, name=f"map {getattr(self._fn, '__qualname__', 'function')}")

    def learn(self, outcome: Outcome) -> None:
        """Note how long the calls of a task took."""
        self._estimates.learn(kind_of(self._fn), outcome.seconds / len(outcome.task.args[1]))

    def _suitable(self) -> int:
        mean = self._estimates.mean(kind_of(self._fn))
        return max(1, min(_MOST, int(self._budget / max(mean, 1e-9))))


def _each(fn: Callable[..., Any], batch: list[tuple[Any, ...]]) -> list[Any]:
    values = []
    for number, arguments in enumerate(batch):
        try:
            values.append(fn(*arguments))
        except Exception as error:
            error.add_note(f"in call {number + 1} of {len(batch)} of its task")
            raise
    return values
