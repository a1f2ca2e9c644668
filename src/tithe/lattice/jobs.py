"""A task while a scheduler has it."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

from tithe.lattice.task import Task

__all__ = ["Job", "group_of", "kind_of"]


class Job:
    """What the scheduler notes about a task between its admission and its outcome.

    Attributes:
        task: the task.
        number: how many were admitted before.
        place: in the order given; −1 for a sub-task.
        parent: the task that spawned it.
        group: what its data is, for those that share it; ``None`` for a task without data.
        kind: of its function, for estimates of how long it takes.
        level: 0 to ``levels``, by the coherence of its data.
        ready: when it could have begun, by the monotonic clock.
        attempts: how often it was begun.
        crashes: how many workers died of it.
        turn: that of its newest entry in the queue; 0 while it is in none.
        alone: whether it must not share a chunk, since one that it was in could not be sent.
        late: whether its last try ran out of time.
    """

    __slots__ = (
        "alone", "attempts", "crashes", "group", "kind", "late", "level", "number", "parent", "place", "ready", "task",
        "turn",
    )  # fmt: skip

    def __init__(self, task: Task, number: int, place: int, parent: Task | None, ready: float) -> None:
        self.task, self.number, self.place, self.parent = task, number, place, parent
        self.group = None if task.data is None else group_of(task.data)
        self.kind = kind_of(task.fn)
        self.level, self.ready, self.attempts, self.crashes, self.turn = 0, ready, 0, 0, 0
        self.alone, self.late = False, False


def group_of(data: Any) -> Hashable:
    """What tells data apart: equal strings, numbers and tuples of these are the same, all else is by identity.

    >>> one, other = [1], [1]
    >>> group_of("block 3") == group_of("block 3"), group_of(one) == group_of(other)
    (True, False)
    """
    if isinstance(data, (str, bytes, int, float, frozenset)):
        return data
    if isinstance(data, tuple):
        return tuple(group_of(part) for part in data)
    return ("id", id(data))  # whoever holds the job holds the data, so no other object gets this id


def kind_of(fn: Any) -> Hashable:
    """What calls of a function are counted under: its code, so that lambdas made in a loop are one, or its name.

    >>> kind_of(lambda: 1) == kind_of(lambda: 1), kind_of(functools.partial(abs, 1)) == kind_of(abs)
    (False, True)
    """
    code: Hashable = getattr(fn, "__code__", None)
    if code is not None:
        return code
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None) or getattr(getattr(fn, "__func__", None), "__code__", None)
    return code or getattr(fn, "__qualname__", type(fn).__qualname__)
