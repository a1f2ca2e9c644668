"""Chunks on threads of this process: nothing is copied, and functions that hold the GIL run one at a time."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from tithe.lattice.executors.executor import Chunk, Loss, Report, Result, Running, run_calls
from tithe.lattice.libraries import limit_libraries, limit_torch
from tithe.lattice.usage import Usage, own_usage

__all__ = ["ThreadExecutor"]


class ThreadExecutor:
    """An ``Executor`` of threads, each with a queue of its own: what follows stays on its core.

    Args:
        workers: threads.
        each: threads that torch may use inside each.

    >>> executor = ThreadExecutor(2)
    >>> executor.start()
    >>> executor.submit(1, Chunk(1, [(abs, (-3,), {})]))
    >>> executor.poll(1.0)[0].results[0].value
    3
    >>> executor.stop()
    """

    kills = False

    def __init__(self, workers: int, each: int = 1) -> None:
        self.workers, self._each = workers, each
        self._inboxes: list[queue.SimpleQueue[Chunk | None]] = []
        self._outbox: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: list[tuple[int, int, float] | None] = [None] * workers
        self._limits: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start the threads."""
        if self._threads:
            return
        self._limits = limit_libraries(self._each)
        self._inboxes = [queue.SimpleQueue() for _ in range(self.workers)]
        for worker in range(self.workers):
            thread = threading.Thread(target=self._work, args=(worker,), name=f"lattice-{worker}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def available(self, worker: int) -> bool:
        """Always."""
        return True

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Put the chunk into the thread's queue."""
        self._inboxes[worker].put(chunk)

    def poll(self, timeout: float | None) -> list[Report | Loss]:
        """Take what the threads have reported."""
        found: list[Report | Loss] = []
        try:
            news = self._outbox.get(timeout=timeout)
            while True:
                if news is not None:
                    found.append(news)
                news = self._outbox.get_nowait()
        except queue.Empty:
            return found

    def wake(self) -> None:
        """Report nothing."""
        self._outbox.put(None)

    def running(self, worker: int) -> Running | None:
        """As the thread has noted."""
        noted = self._running[worker]
        return None if noted is None else Running(*noted)

    def kill(self, worker: int) -> None:
        """Not possible: a thread ends when its function does."""

    def usage(self) -> Usage:
        """Of this process."""
        return own_usage()

    def stop(self) -> None:
        """End the threads when they have made the call they are at; what is in their queues is not begun."""
        for inbox in self._inboxes:
            with contextlib.suppress(queue.Empty):  # its thread may be quicker
                while True:
                    inbox.get_nowait()
            inbox.put(None)
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._threads, self._inboxes = [], []
        self._limits()

    def _work(self, worker: int) -> None:
        limit_torch(self._each)
        inbox, outbox, running = self._inboxes[worker], self._outbox, self._running
        while (chunk := inbox.get()) is not None:
            run_calls(chunk.calls, _reporter(worker, chunk.number, outbox.put), _noter(worker, chunk.number, running))
            running[worker] = None
            del chunk  # so that values are not kept until the next one comes


def _reporter(worker: int, chunk: int, put: Callable[[Report], None]) -> Callable[[int, list[Result], bool], None]:
    def report(first: int, results: list[Result], finished: bool) -> None:
        put(Report(worker, chunk, first, results, finished))

    return report


def _noter(worker: int, chunk: int, running: list[tuple[int, int, float] | None]) -> Callable[[int, float], None]:
    def note(index: int, now: float) -> None:
        running[worker] = chunk, index, now  # at every call: no more work than this

    return note
