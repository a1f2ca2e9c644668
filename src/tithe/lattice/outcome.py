"""What became of a task, and of all tasks of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tithe.lattice.task import Task, summary

__all__ = ["Outcome", "Status"]

Status = Literal["done", "failed", "quarantined", "pruned", "cancelled"]


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one task; every task gets exactly one.

    Attributes:
        task: the task.
        status: ``done``; ``failed`` by an exception or out of time, after all retries; ``quarantined`` because workers
            died of it; ``pruned`` by the policy for sub-tasks; ``cancelled`` before it began, by the user or because
            what it needs has not succeeded.
        value: that the function returned, ``None`` where there is none.
        error: why there is no value; its notes name the task.
        attempts: how often it was begun.
        late: it ran longer than its timeout, and could not be stopped.
        resumed: it was not run, since the journal had its value.
        waited: seconds from when it could have begun until it did, the last time.
        seconds: that the last try took.
        parent: the task that spawned it.

    >>> Outcome(Task(pow, 2, 10), "done", value=1024, attempts=1).ok
    True
    """

    task: Task
    status: Status
    value: Any = None
    error: BaseException | None = None
    attempts: int = 0
    late: bool = False
    resumed: bool = False
    waited: float = 0.0
    seconds: float = 0.0
    parent: Task | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.status == "done"

    def __str__(self) -> str:
        why = f": {type(self.error).__name__}: {self.error}" if self.error is not None else ""
        return f"{summary(self.task)} {self.status} after {self.attempts} attempts{why}"
