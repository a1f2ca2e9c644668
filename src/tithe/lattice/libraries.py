"""Threads of numerical libraries inside of workers, so that pools of threads do not fight for the cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["limit_libraries", "limit_torch", "limit_variables", "torch_alone"]

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def limit_libraries(threads: int) -> Callable[[], None]:
    """Let BLAS and torch use so many threads in this process, until the function that is returned is called.

    >>> undo = limit_libraries(1)
    >>> undo()
    """
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    limits = threadpool_limits(threads, user_api="blas")

    def undo() -> None:
        limits.restore_original_limits()
        if torch is not None and before is not None:
            torch.set_num_threads(before)

    return undo


def limit_torch(threads: int) -> None:
    """Let torch use so many threads inside of this one: each thread has a setting of its own."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


@contextmanager
def torch_alone() -> Iterator[None]:
    """Let torch use this thread only: others of its own would spin for a while and take cores from the workers."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit_variables(threads: int) -> None:
    """Let libraries that this process loads later use so many threads."""
    for name in _VARIABLES:
        os.environ[name] = str(threads)
