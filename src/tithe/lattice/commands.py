"""What ``tithe lattice run`` does: tasks from a function of the user's, and their outcomes as lines of JSON."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.lattice.outcome import Outcome
from tithe.lattice.task import Task, summary

__all__ = ["as_line", "calls", "function", "lines_of", "listed"]


def function(target: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; modules of the current folder are found, too.

    Raises ``InvalidValueError`` where there is none.

    >>> function("math:sqrt")(9.0)
    3.0
    """
    module, _, name = target.partition(":")
    if not module or not name:
        raise InvalidValueError(f"{target!r} names no function; write module:function, for instance work:tasks")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidValueError(f"{target!r} cannot be had: {error}") from error
    if not callable(found):
        raise InvalidValueError(f"{target!r} is a {type(found).__name__}; name a function")
    fn: Callable[..., Any] = found
    return fn


def listed(target: str) -> Iterable[Task]:
    """The tasks that a function without arguments returns or yields. Raises ``InvalidDTypeError`` for other things."""
    tasks = function(target)()
    if not isinstance(tasks, Iterable):
        raise InvalidDTypeError(f"{target} returned a {type(tasks).__name__}; let it return tasks, or give --each")
    return tasks


def calls(target: str, lines: Iterable[str], **options: Any) -> Iterator[Task]:
    """A task for each line of JSON: a list has the arguments, an object those by name, anything else is the only one.

    A task's key is the number of its line and the line, so that a journal does not take one for another.

    Args:
        target: ``module:function``.
        lines: empty ones are skipped.
        options: of ``Task``, such as ``retries`` and ``timeout``.

    Raises ``InvalidValueError``, with the number, for a line that is no JSON.

    >>> [task.args for task in calls("math:pow", ["[2, 3]", "", "4"])]
    [(2, 3), (4,)]
    """
    return _calls(function(target), lines, options)


def _calls(fn: Callable[..., Any], lines: Iterable[str], options: dict[str, Any]) -> Iterator[Task]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InvalidValueError(f"line {number} is no JSON: {error}") from error
        key = f"{number}: {line.strip()}"
        if isinstance(value, dict):
            yield Task(fn, kwargs=value, key=key, **options)
        else:
            yield Task(fn, *(value if isinstance(value, list) else [value]), key=key, **options)


def as_line(outcome: Outcome) -> str:
    """An outcome as JSON; a value that JSON does not know as its ``repr``.

    >>> as_line(Outcome(Task(pow, 2, 3), "done", value=8, attempts=1))
    '{"task": "pow(2, 3)", "status": "done", "value": 8, "attempts": 1, "seconds": 0.0}'
    """
    found: dict[str, Any] = {"task": summary(outcome.task), "status": outcome.status}
    if outcome.ok:
        found["value"] = outcome.value
    if outcome.error is not None:
        found["error"] = f"{type(outcome.error).__name__}: {outcome.error}"
    found |= {"attempts": outcome.attempts, "seconds": round(outcome.seconds, 6)}
    return json.dumps(found, default=repr)


def lines_of(path: Path) -> Iterator[str]:
    """Lines of a file, of the standard input for ``-``."""
    if str(path) == "-":
        yield from sys.stdin
        return
    with path.open(encoding="utf-8") as file:
        yield from file
