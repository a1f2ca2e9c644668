"""The contract of executors: workers that take chunks of calls and tell what became of each call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tithe.lattice.usage import Usage

__all__ = ["Call", "Chunk", "Executor", "Loss", "Report", "Result", "Running", "run_calls"]

_REPORT_EVERY = 0.05  # seconds: short calls are reported together, long ones when they are done

Call = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]


class Result(NamedTuple):
    """What became of one call: whether it returned, its value or exception, when it began, how long it took."""

    ok: bool
    value: Any
    started: float
    seconds: float


class Running(NamedTuple):
    """What a worker does now: which call of a chunk, since when by the monotonic clock."""

    chunk: int
    call: int
    since: float


@dataclass(slots=True)
class Chunk:
    """Calls that one worker makes, one after the other."""

    number: int
    calls: list[Call] = field(repr=False)


@dataclass(slots=True)
class Report:
    """Results of some calls of a chunk, in order from the ``first``; ``finished`` with the last ones."""

    worker: int
    chunk: int
    first: int
    results: list[Result]
    finished: bool


@dataclass(slots=True)
class Loss:
    """A chunk that will not be finished.

    Attributes:
        worker: that had it.
        chunk: its number.
        running: the call that was being made when the worker died; ``None`` where none was.
        reason: in words.
        oldest: whether the worker was at this chunk, or would have been next.
        unsendable: why the chunk could not be sent to the worker, if that is what happened; the worker lives.
    """

    worker: int
    chunk: int
    running: int | None
    reason: str
    oldest: bool = True
    unsendable: BaseException | None = None


class Executor(Protocol):
    """Workers that a scheduler hands chunks of calls. All but ``wake`` is called from one thread.

    Attributes:
        workers: how many there are, from 0 on.
        kills: whether ``kill`` ends the call that a worker is making.
    """

    workers: int
    kills: bool

    def start(self) -> None:
        """Start the workers; doing it again does nothing."""

    def available(self, worker: int) -> bool:
        """Whether a worker can begin at once with what it is given, or after what it has: it has started, and lives."""

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Give a worker a chunk, behind those that it has; returns at once."""

    def poll(self, timeout: float | None) -> list[Report | Loss]:
        """What has happened since; waits for something, or ``wake``, at most ``timeout`` seconds."""

    def wake(self) -> None:
        """End a ``poll`` that waits; from any thread."""

    def running(self, worker: int) -> Running | None:
        """What a worker does now."""

    def kill(self, worker: int) -> None:
        """End a worker, where ``kills``; the loss of what it had is reported by ``poll``, and another takes over."""

    def usage(self) -> Usage:
        """What was used so far, by this process and all workers."""

    def stop(self) -> None:
        """End all workers: after what they are doing where they cannot be killed, else at once."""


def run_calls(
    calls: list[Call],
    report: Callable[[int, list[Result], bool], None],
    note: Callable[[int, float], None],
    through: tuple[type[BaseException], ...] = (),
) -> None:
    """Make calls, one after the other; what every worker does.

    Args:
        calls: to be made.
        report: is given the index of the first call, results, and whether these are the last.
        note: is given the index and time of each call before it is made.
        through: exceptions that are not the call's, and end them all.
    """
    results: list[Result] = []
    first, last = 0, len(calls) - 1
    now = reported = time.monotonic()
    for index, (fn, args, kwargs) in enumerate(calls):
        note(index, now)
        try:
            value, ok = fn(*args, **kwargs), True
        except through:
            raise
        except BaseException as error:  # some others than Exception are common: SystemExit, asyncio.CancelledError
            value, ok = error, False
        end = time.monotonic()
        results.append(Result(ok, value, now, end - now))
        now = end
        if now - reported > _REPORT_EVERY and index < last:
            report(first, results, False)
            first, results, reported = index + 1, [], now
    report(first, results, True)
