"""Chunks in the thread that asks for them: for debugging, and for work that must not be disturbed."""

from __future__ import annotations

from collections import deque

from tithe.lattice.executors.executor import Chunk, Loss, Report, Result, Running, run_calls
from tithe.lattice.usage import Usage, own_usage

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """An ``Executor`` without workers: ``poll`` makes the calls.

    >>> executor = InlineExecutor()
    >>> executor.submit(0, Chunk(1, [(abs, (-3,), {})]))
    >>> executor.poll(None)[0].results[0].value
    3
    """

    kills = False

    def __init__(self) -> None:
        self.workers = 1
        self._chunks: deque[Chunk] = deque()
        self._running: Running | None = None

    def start(self) -> None:
        """Nothing to start."""

    def available(self, worker: int) -> bool:
        """Always."""
        return True

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Note the chunk."""
        self._chunks.append(chunk)

    def poll(self, timeout: float | None) -> list[Report | Loss]:
        """Make the calls of the oldest chunk."""
        if not self._chunks:
            return []
        chunk, reports = self._chunks.popleft(), list[Report | Loss]()

        def note(index: int, now: float) -> None:
            self._running = Running(chunk.number, index, now)

        def report(first: int, results: list[Result], finished: bool) -> None:
            reports.append(Report(0, chunk.number, first, results, finished))

        try:
            run_calls(chunk.calls, report, note, (KeyboardInterrupt,))
        finally:
            self._running = None
        return reports

    def wake(self) -> None:
        """Nobody waits."""

    def running(self, worker: int) -> Running | None:
        """Only from inside a call there is one."""
        return self._running

    def kill(self, worker: int) -> None:
        """Not possible."""

    def usage(self) -> Usage:
        """Of this process."""
        return own_usage()

    def stop(self) -> None:
        """Forget what was not begun."""
        self._chunks.clear()
