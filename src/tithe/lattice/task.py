"""A task: a function, its arguments, and what a scheduler may know about it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["Spawn", "Task", "summary"]

_NONE: Mapping[str, Any] = {}  # never written to


class Task:
    """One call that a ``Lattice`` makes, once or, after failures, again.

    A task among the arguments stands for its value and need not be named in ``needs``. Arguments should not change
    until the epoch has ended. A function may be called twice where a worker dies (at least once, not exactly once):
    give tasks with effects a ``key``, and the ``Lattice`` a journal.

    Args:
        fn: is called as ``fn(*args, **kwargs)``; one that returns a ``Spawn`` adds tasks to the epoch.
        data: what the task works on, or a name for it. Tasks with the same data run back to back, and coherence is
            that of the data. Strings, numbers and tuples are the same if they are equal, all else if it is one object.
        urgency: among tasks of like coherence, larger is sooner.
        deadline: seconds after admission by which it should have begun; among tasks of like urgency, less is sooner.
        needs: tasks, or their keys, that must succeed before.
        retries: how often it is tried again after it raised or ran out of time; a worker's death does not count.
        timeout: seconds that one try may take. Worker processes are killed; threads cannot be, and it is told so.
        key: names the task for ``needs`` and in the journal.
        kwargs: keyword arguments of ``fn``.
        name: for messages; the function's by default.

    Attributes:
        waits_for: what it needs, the tasks among its arguments included.

    Raises ``InvalidDTypeError`` and ``InvalidValueError`` for what cannot be used. Source: MISSION L1, L3.

    >>> Task(pow, 2, 10)
    Task(pow(2, 10))
    """

    __slots__ = (
        "_ended", "args", "data", "deadline", "fn", "key", "kwargs", "name", "needs", "retries", "timeout", "urgency",
        "waits_for",
    )  # fmt: skip

    def __init__(
        self,
        fn: Callable[..., Any],
        *args: Any,
        data: Any = None,
        urgency: float = 0.0,
        deadline: float = math.inf,
        needs: Iterable[Task | str] = (),
        retries: int = 0,
        timeout: float | None = None,
        key: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(fn):
            raise InvalidDTypeError(f"fn is a {type(fn).__name__}; pass a function, then its arguments")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InvalidValueError(f"retries is {retries!r}; use a whole number from 0")
        if timeout is not None and not 0 < timeout < math.inf:
            raise InvalidValueError(f"timeout is {timeout!r}; use a positive number of seconds, or None")
        if math.isnan(urgency) or math.isnan(deadline):
            raise InvalidValueError(f"urgency is {urgency}, deadline {deadline}; use numbers")
        if key is not None and (not isinstance(key, str) or not key):
            raise InvalidValueError(f"key is {key!r}; use a string that is not empty")
        if isinstance(needs, (str, Task)):
            needs = (needs,)
        self.fn, self.args, self.kwargs = fn, args, kwargs or _NONE
        self.data, self.urgency, self.deadline = data, urgency, deadline
        self.needs = tuple(needs)
        if wrong := [need for need in self.needs if not isinstance(need, (Task, str))]:
            raise InvalidDTypeError(f"needs holds a {type(wrong[0]).__name__}; name tasks, or their keys")
        self.retries, self.timeout, self.key, self.name = retries, timeout, key, name
        values = (value for value in (*args, *self.kwargs.values()) if isinstance(value, Task))
        self.waits_for: tuple[Task | str, ...] = (*self.needs, *values)
        self._ended: tuple[object, bool, Any] | None = None  # the epoch, whether there is a value, the value

    def __repr__(self) -> str:
        return f"Task({summary(self)})"


class Spawn:
    """What a task returns that adds tasks to its epoch: its own value, and the sub-tasks.

    >>> Spawn([Task(abs, -1)], value=3)
    Spawn(1 tasks, value=3)
    """

    __slots__ = ("tasks", "value")

    def __init__(self, tasks: Iterable[Task], value: Any = None) -> None:
        self.tasks, self.value = tuple(tasks), value
        if wrong := [task for task in self.tasks if not isinstance(task, Task)]:
            raise InvalidDTypeError(f"a Spawn holds a {type(wrong[0]).__name__}; give it tasks")

    def __repr__(self) -> str:
        return f"Spawn({len(self.tasks)} tasks, value={self.value!r})"


def summary(task: Task) -> str:
    """A task in a few words: its name and its arguments, arrays by shape and dtype, at most some 200 characters.

    >>> summary(Task(len, "x" * 1000, key="a"))
    "len('xxxxxxxxxxxx...xxxxxxxxxxxxx') [a]"
    """
    name = task.name or getattr(task.fn, "__qualname__", type(task.fn).__name__)
    shown = [_shown(value) for value in task.args[:4]] + [f"{k}={_shown(v)}" for k, v in list(task.kwargs.items())[:4]]
    more = ", …" if len(task.args) > 4 or len(task.kwargs) > 4 else ""
    return f"{name}({', '.join(shown)}{more})" + (f" [{task.key}]" if task.key else "")


def _shown(value: Any) -> str:
    if isinstance(value, Task):
        return f"<{value.key or value.name or getattr(value.fn, '__qualname__', 'task')}>"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{type(value).__name__}{tuple(shape)} {dtype}"
    return reprlib.repr(value)
