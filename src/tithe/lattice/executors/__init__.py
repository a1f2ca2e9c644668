"""Executors by name: the same contract on this thread, on threads, in processes, and on a Ray cluster."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from tithe.errors import InvalidValueError
from tithe.lattice.executors.executor import Call, Chunk, Executor, Loss, Report, Result, Running

__all__ = ["Call", "Chunk", "Executor", "Kind", "Loss", "Report", "Result", "Running", "make"]

Kind = Literal["inline", "threads", "processes", "ray"]
_WHERE = {
    "inline": ("inline", "InlineExecutor"),
    "threads": ("threads", "ThreadExecutor"),
    "processes": ("processes", "ProcessExecutor"),
    "ray": ("on_ray", "RayExecutor"),
}


def make(kind: Kind, workers: int | None, cores: int) -> Executor:
    """An executor; it is started by its first user.

    Args:
        kind: ``"inline"``, ``"threads"``, ``"processes"`` or ``"ray"``.
        workers: how many; by default the cores of this process, on Ray those of the cluster.
        cores: that the workers of this machine share; numerical libraries get their part of it in each.

    Raises ``InvalidValueError`` for an unknown kind or no workers, ``MissingExtraError`` where Ray is not installed.
    """
    if kind not in _WHERE:
        raise InvalidValueError(f"executor is {kind!r}; use one of {', '.join(map(repr, _WHERE))}")
    if workers is not None and workers < 1:
        raise InvalidValueError(f"workers is {workers}; use at least 1")
    module, name = _WHERE[kind]
    made: Any = getattr(importlib.import_module(f"tithe.lattice.executors.{module}"), name)
    if kind == "inline":
        executor = made()
    elif kind == "ray":
        executor = made(workers)
    else:
        count = workers or cores
        executor = made(count, max(1, cores // count))
    found: Executor = executor
    return found
