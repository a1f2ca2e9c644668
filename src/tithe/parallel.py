"""Parts of one kernel on several threads: on threads of our own, or on torch's where torch has just been at work.

libgomp's threads spin for milliseconds after every torch operation, in case another follows. Threads of our own would
share the cores with them for that time and get half of each; the spinning ones start at once. But they wait for each
other by spinning, too, and where another process wants a core, every region costs milliseconds.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

__all__ = ["run_compiled", "run_parts", "run_parts_beside_torch", "threads"]

_Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def run_parts(part: Callable[[int], None], count: int) -> None:
    """Call ``part(i)`` for every i below ``count``, on at most ``torch.get_num_threads()`` threads; raises its errors.

    The threads take the next i whenever they are free. ``part`` should release the GIL for most of its time.

    >>> done = []
    >>> run_parts(done.append, 3)
    >>> sorted(done)
    [0, 1, 2]
    """
    threads = min(torch.get_num_threads(), count)
    work = _Work(part, count)
    others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        if not other.cancel():  # one that has not begun by now has nothing left to do
            other.result()
    work.finish()


def run_parts_beside_torch(part: Callable[[int], None], count: int) -> None:
    """As ``run_parts``, on torch's own OpenMP threads where they can be had: for kernels between torch operations.

    >>> done = []
    >>> run_parts_beside_torch(done.append, 3)
    >>> sorted(done)
    [0, 1, 2]
    """
    threads = min(torch.get_num_threads(), count)
    parallel = _gomp() if threads > 1 else None
    if parallel is None:
        return run_parts(part, count)
    work = _Work(part, count)
    parallel(_Region(work), None, threads, 0)
    work.finish()


def run_compiled(function: int, job: ctypes.Array[Any], threads: int) -> None:
    """Call the compiled ``void function(void *job)`` on that many threads, torch's own where they can be had.

    What they share, and who does what, is the job's. Without Python in between, threads start within microseconds.
    The GIL is released.
    """
    compiled = _Region(function)
    if threads == 1:
        compiled(job)
    elif (parallel := _gomp()) is not None:
        parallel(compiled, job, threads, 0)
    else:
        run_parts(lambda _: compiled(job), threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """``torch.get_num_threads()`` is ``count`` inside the ``with`` block, for torch and for ``run_parts``.

    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Work:
    """Parts that are left, and what went wrong; called by every thread."""

    def __init__(self, part: Callable[[int], None], count: int) -> None:
        self._part, self._count = part, count
        self._tickets = itertools.count()
        self._errors: list[BaseException] = []

    def __call__(self, _: object = None) -> None:
        try:
            while not self._errors and (i := next(self._tickets)) < self._count:
                self._part(i)
        except BaseException as error:
            self._errors.append(error)

    def finish(self) -> None:
        """Raise the first error."""
        if self._errors:
            raise self._errors[0]


@functools.cache
def _gomp() -> Callable[..., None] | None:
    """The entry of the libgomp that torch brings and has loaded, or None with another OpenMP or none."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*"):
        try:
            parallel = ctypes.CDLL(str(path)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [_Region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tithe")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
