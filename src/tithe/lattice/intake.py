"""Where tasks come from: an iterable that is read as there is room, or an inbox that other threads fill."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from tithe.errors import InvalidStateError
from tithe.lattice.outcome import Outcome
from tithe.lattice.task import Task

__all__ = ["Inbox", "Intake", "IterableIntake"]


class Intake(Protocol):
    """A source of tasks.

    Attributes:
        ended: whether no task will come any more.
    """

    ended: bool

    def take(self) -> tuple[int, Task] | None:
        """The next task and its place; ``None`` where there is none now."""

    def break_off(self) -> Iterator[tuple[int, Task]]:
        """End, and give the tasks that are there and will not run."""

    def wanted(self, task: Task) -> bool:
        """Whether a task that was taken is still wanted."""


class IterableIntake:
    """Tasks from an iterable, one at a time."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = iter(enumerate(tasks))
        self._finite = isinstance(tasks, Sequence)
        self.ended = False

    def take(self) -> tuple[int, Task] | None:
        """The next one, as soon as the iterable has it."""
        found = next(self._tasks, None)
        self.ended = found is None
        return found

    def break_off(self) -> Iterator[tuple[int, Task]]:
        """The rest of a list; what a generator has not made yet are no tasks."""
        self.ended = True
        return self._tasks if self._finite else iter(())

    def wanted(self, task: Task) -> bool:
        """Always."""
        return True


class Inbox:
    """Tasks that threads put in, each with a future that is told of its outcome.

    Args:
        wake: is called when something was put in.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._lock, self._wake = threading.Lock(), wake
        self._new: deque[Task] = deque()
        self._futures: dict[int, Future[Any]] = {}
        self._closed = self.ended = False

    def put(self, task: Task) -> Future[Any]:
        """Add a task. Raises ``InvalidStateError`` once it is closed."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise InvalidStateError("this Lattice takes no more tasks; make another one")
            self._futures[id(task)] = future
            self._new.append(task)
        self._wake()
        return future

    def close(self) -> None:
        """Take no more tasks; those that are there are done."""
        with self._lock:
            self._closed = True
        self._wake()

    def take(self) -> tuple[int, Task] | None:
        """The oldest that was put in."""
        with self._lock:
            if self._new:
                return 0, self._new.popleft()
            self.ended = self._closed
            return None

    def break_off(self) -> Iterator[tuple[int, Task]]:
        """What was put in and not taken."""
        with self._lock:
            self._closed = self.ended = True
            rest = [(0, task) for task in self._new]
            self._new.clear()
        return iter(rest)

    def wanted(self, task: Task) -> bool:
        """Whether its future was not cancelled; it cannot be any more afterwards."""
        with self._lock:
            future = self._futures.get(id(task))
        return future is None or future.running() or future.set_running_or_notify_cancel()

    def deliver(self, outcome: Outcome) -> None:
        """Tell the future."""
        with self._lock:
            future = self._futures.pop(id(outcome.task), None)
        if future is None or future.cancelled():
            return
        if not future.running() and not future.set_running_or_notify_cancel():
            return
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)

    def fail(self, error: BaseException) -> None:
        """Tell all futures that nothing will come of them."""
        with self._lock:
            futures, self._futures, self._closed = list(self._futures.values()), {}, True
        for future in futures:
            if not future.done():
                future.set_exception(error)
