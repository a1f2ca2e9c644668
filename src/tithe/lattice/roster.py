"""The tasks of an epoch: which are here, which have ended, and who waits for whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Any

from tithe.errors import InvalidValueError
from tithe.lattice.graph import Needs, refuse_cycles
from tithe.lattice.jobs import Job
from tithe.lattice.task import Task, summary

__all__ = ["Roster"]


class Roster:
    """Knows every task that is not settled, by itself and by its key, and what it still needs."""

    def __init__(self) -> None:
        self._epoch = object()  # marks what has been settled here
        self._here: dict[Hashable, Job] = {}  # not settled, by identity of the task and by key
        self._keys: dict[str, bool] = {}  # settled, and whether there is a value
        self._needs = Needs()
        self._ended: deque[tuple[Job, bool]] = deque()  # those who wait have not been told of them yet
        self.count = 0  # of tasks that are here

    def check(self, task: Task) -> None:
        """Raise ``InvalidValueError`` for a task that cannot enter: it is here, or its key was given to another."""
        if id(task) in self._here or (task.key and (task.key in self._here or task.key in self._keys)):
            raise InvalidValueError(f"{summary(task)} is in this epoch twice, or another task has its key")

    def enter(self, job: Job) -> None:
        """A job is here. Raises as ``check`` does."""
        self.check(job.task)
        self._here[id(job.task)] = job
        if job.task.key:
            self._here[job.task.key] = job
        self.count += 1

    def leave(self, job: Job, value: Any, *, ok: bool) -> None:
        """A job is settled; ``news`` tells those who wait for it."""
        task = job.task
        del self._here[id(task)]
        if task.key:
            del self._here[task.key]
            self._keys[task.key] = ok
        task._ended = (self._epoch, ok, value)
        self._needs.forget(id(task))
        self._ended.append((job, ok))
        self.count -= 1

    def lost_need(self, task: Task) -> Task | str | None:
        """Something that a task needs and that has ended without a value."""
        return next((need for need in task.waits_for if self._success(need) is False), None)

    def wait(self, job: Job) -> bool:
        """Whether a job must wait; then ``news`` will have it."""
        missing = [need for need in job.task.waits_for if self._success(need) is None]
        if missing:
            self._needs.add(id(job.task), [need if isinstance(need, str) else id(need) for need in missing])
        return bool(missing)

    def news(self) -> Iterator[tuple[Job, Task | None]]:
        """Jobs that need wait no more: for nothing, or because a task, which is given then, has no value.

        What leaves meanwhile is told, too.
        """
        while self._ended:
            job, ok = self._ended.popleft()
            for name in (id(job.task), job.task.key) if job.task.key else (id(job.task),):
                for who in self._needs.met(name) if ok else self._needs.failed(name):
                    yield self._here[who], None if ok else job.task

    def forget_news(self) -> None:
        """Nobody waits for what has left."""
        self._ended.clear()

    def waiting(self) -> int:
        """How many wait for others."""
        return len(self._needs)

    def jobs(self) -> list[Job]:
        """All that are here, in the order in which they came."""
        return sorted({id(job): job for job in self._here.values()}.values(), key=lambda job: job.number)

    def here(self, job: Job) -> bool:
        """Whether a job is not settled."""
        return self._here.get(id(job.task)) is job

    def refuse(self) -> None:
        """Raise ``InvalidValueError`` that tells what those who wait wait for: each other, or what is not here."""
        refuse_cycles(job.task for job in self.jobs())
        for who, needs in self._needs.open().items():
            for need in needs - self._here.keys():
                task = self._here[who].task
                name = next((summary(n) for n in task.waits_for if isinstance(n, Task) and id(n) == need), repr(need))
                raise InvalidValueError(f"{summary(task)} needs {name}, which is not in this epoch; add it")

    def _success(self, need: Task | str) -> bool | None:
        """Whether something has a value; ``None`` where it is not settled in this epoch."""
        if isinstance(need, str):
            return self._keys.get(need)
        return need._ended[1] if need._ended is not None and need._ended[0] is self._epoch else None
