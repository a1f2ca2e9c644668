"""The scheduler as users have it: epochs of tasks on workers, with nothing lost and a receipt."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from types import TracebackType
from typing import Any

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.lattice.batches import Batches
from tithe.lattice.driver import Driver, measured
from tithe.lattice.epoch import Epoch, EpochReceipt
from tithe.lattice.estimates import Estimates
from tithe.lattice.executors import Kind, make
from tithe.lattice.graph import refuse_cycles
from tithe.lattice.intake import Inbox, Intake, IterableIntake
from tithe.lattice.journal import Journal
from tithe.lattice.outcome import Outcome
from tithe.lattice.progress import watched
from tithe.lattice.queue import ReadyQueue
from tithe.lattice.scheduler import Scheduler
from tithe.lattice.scores import Scores
from tithe.lattice.streaming import streamed
from tithe.lattice.task import Task
from tithe.lattice.usage import cores
from tithe.receipt import Cost

__all__ = ["Lattice"]

_BATCHES = 4  # that a worker may have, or have waiting for it, in ``map``


class Lattice:
    """Runs tasks: like ones back to back on one worker, coherent ones first, and each until it has an outcome.

    Order alone saves nothing; what saves is as many workers as cores, short calls handed out in chunks, and tasks that
    share data running one after the other (``docs/lattice.md``). Without ``score``, tasks that share data still do.

    Args:
        workers: by default the cores that this process may use, on Ray those of the cluster. Numerical libraries get
            their share of the cores in each, so that pools of threads do not fight.
        executor: ``"threads"`` for functions that release the GIL, ``"processes"`` for others, ``"ray"`` for a cluster
            (extra ``ray``), ``"inline"`` for none.
        journal: a file in which the values of tasks with a key are kept: an epoch that was broken off goes on with it.
        score: of a task's data, 0 to 1, such as its coherence; asked once for each, with a sample of large arrays.
        threshold: scores below it count as none.
        patience: by how many places coherence moves a task forward; ``overtaking`` says what that means for others.
        chunk: calls that are handed out at once; by default as many as take about ``budget`` seconds.
        budget: seconds.
        queue: tasks that are taken from an iterator before they can run; those that need others may exceed it.
        crash_retries: how often a task is tried again of which a worker died.
        backoff: seconds before the first retry.
        prune: is asked about every sub-task and its score (``None`` without ``score``); yes prunes it.
        progress: whether to show a bar.
        seed: of the jitter of retries.

    Attributes:
        receipt: of the last epoch, complete once that has ended.

    Raises ``InvalidValueError`` for what cannot be used. Source: MISSION L1–L4.

    >>> with Lattice(workers=2) as lattice:
    ...     lattice.run_epoch([Task(pow, 2, n) for n in range(4)]).results
    [1, 2, 4, 8]
    """

    def __init__(
        self,
        workers: int | None = None,
        executor: Kind = "threads",
        *,
        journal: str | os.PathLike[str] | None = None,
        score: Callable[[Any], float] | None = None,
        threshold: float = 0.3,
        patience: int = 1024,
        chunk: int | None = None,
        budget: float = 0.02,
        queue: int = 4096,
        crash_retries: int = 1,
        backoff: float = 0.1,
        prune: Callable[[Task, float | None], bool] | None = None,
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("chunk", chunk, 1), ("queue", queue, 1), ("crash_retries", crash_retries, 0)):
            if value is not None and value < least:
                raise InvalidValueError(f"{name} is {value}; use at least {least}")
        if not budget > 0 or not backoff >= 0:
            raise InvalidValueError(f"budget is {budget}, backoff {backoff}; use seconds, more than 0 and at least 0")
        self._cores = cores()
        self._executor = make(executor, workers, self._cores)
        self._kind, self._journal, self._progress = executor, journal, progress
        self._order = patience, threshold
        self._overtaking = ReadyQueue(*self._order).overtaking
        self._estimates, self._scores = Estimates(), Scores(score) if score is not None else None
        self._limit = queue
        self._settings: dict[str, Any] = {
            "chunk": chunk, "budget": budget, "crash_retries": crash_retries, "backoff": backoff, "prune": prune,
            "seed": seed,
        }  # fmt: skip
        self._chunks = itertools.count(1)  # never the same twice: threads may report of an epoch that was broken off
        self._cancelled, self._closed = "", False
        self._busy = threading.Lock()  # held while an epoch runs
        self.receipt = EpochReceipt(f"{self.workers} {executor}")
        self._inbox: Inbox | None = None
        self._server: threading.Thread | None = None

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return self._executor.workers

    @property
    def overtaking(self) -> int:
        """How many tasks that come after a task may be handed out before it, at most, however coherent they are.

        It then begins when its worker has done what it got before: about 50 ms of work, or the call that it is at.
        """
        return self._overtaking

    def __enter__(self) -> Lattice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel(f"the block of the Lattice was left by {kind.__name__ if kind else 'an error'}")
        self.close()

    def close(self) -> None:
        """Wait for what was submitted, end the workers, and take no more tasks; doing it twice does nothing."""
        if self._inbox is not None and self._server is not None:
            self._inbox.close()
            self._server.join()
        self._closed = True
        self._executor.stop()

    def cancel(self, why: str = "it was cancelled") -> None:
        """End the epoch that is running: calls that were begun end, tasks that were not become ``cancelled``.

        From any thread, or from within a task.
        """
        if self._busy.locked():
            self._cancelled = why
            self._executor.wake()

    def run_epoch(self, tasks: Iterable[Task], *, name: str = "epoch", baseline: int = 0) -> Epoch:
        """Run tasks, and the sub-tasks that they spawn, until each has an outcome.

        Args:
            tasks: a list, or an iterator that is read as there is room.
            name: of the epoch in the journal.
            baseline: run so many of a list's tasks once more beforehand, first come first served and one at a time, to
                tell what that would have cost; only for tasks that may run twice.

        Returns:
            Their outcomes and the receipt; exceptions of tasks are in the outcomes and not raised. Raises
            ``InvalidValueError`` for tasks that need each other in a circle, or need what is not there.
            O(tasks · log queue).
        """
        plain = None
        if isinstance(tasks, Sequence):
            refuse_cycles(tasks)
            plain = self._baseline(tasks, baseline) if baseline else None
        elif baseline:
            raise InvalidValueError("a baseline is measured on a part of a list; pass the tasks as a list")
        places, spawned = dict[int, Outcome](), list[Outcome]()
        total = len(tasks) if isinstance(tasks, Sequence) else None
        with watched(total, name, show=self._progress) as advance:
            for place, outcome in self._outcomes(IterableIntake(tasks), name):
                if place >= 0:
                    places[place] = outcome
                else:
                    spawned.append(outcome)
                advance()
        self.receipt.plain = plain
        return Epoch([places[place] for place in sorted(places)], spawned, self.receipt)

    def as_completed(self, tasks: Iterable[Task], *, name: str = "epoch") -> Iterator[Outcome]:
        """Outcomes as they come, those of sub-tasks too; of endless iterators as well. Nothing is kept of them."""
        for _, outcome in self._outcomes(IterableIntake(tasks), name):
            yield outcome

    def stream(self, tasks: Iterable[Task], *, name: str = "epoch") -> AsyncIterator[Outcome]:
        """As ``as_completed``, for ``async for``: the epoch runs in another thread, where an iterator is read, too."""
        return streamed(lambda: self.as_completed(tasks, name=name), self._limit, self.cancel)

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """The values of many calls of one function, in order, as ``concurrent.futures.Executor.map`` gives them.

        It costs less than a task for each call, and has none of their outcomes, retries or journal.

        Args:
            fn: the function.
            iterables: its arguments; the shortest one ends it. They are read as there is room.
            chunk: calls that are handed out at once; by default as many as take about ``budget`` seconds.

        Raises the first exception of a call when it is its turn; those after it are not made, or thrown away.
        O(calls).

        >>> with Lattice(2) as lattice:
        ...     list(lattice.map(pow, [2, 3, 4], [3, 3, 3]))
        [8, 27, 64]
        """
        batches = Batches(fn, zip(*iterables, strict=False), size=chunk, budget=self._settings["budget"])
        waiting, turn = dict[int, Outcome](), 0
        limit = _BATCHES * self.workers
        for place, outcome in self._outcomes(IterableIntake(batches), "map", plain=True, limit=limit):
            batches.learn(outcome)
            waiting[place] = outcome
            while turn in waiting:
                outcome = waiting.pop(turn)
                if outcome.error is not None:
                    raise outcome.error
                yield from outcome.value
                turn += 1

    def submit(self, task: Task) -> Future[Any]:
        """Run a task in the background.

        Returns:
            A future of its value; it can be cancelled until a worker has the task. Raises ``InvalidStateError`` while
            an epoch is running, or once this Lattice is closed. Arrays must not change while anything submitted is
            not done: processes share copies that were made once.
        """
        if self._inbox is None:
            self._claim()
            self._inbox = Inbox(self._executor.wake)
            self._server = threading.Thread(target=self._serve, args=(self._inbox,), name="lattice", daemon=True)
            self._server.start()
        return self._inbox.put(task)

    def _serve(self, inbox: Inbox) -> None:
        try:
            for _, outcome in self._driven(inbox, "submitted"):
                inbox.deliver(outcome)
        except BaseException as error:
            inbox.fail(error)

    def _baseline(self, tasks: Sequence[Task], count: int) -> Cost:
        """What all tasks would cost first come, first served, by some from the middle of the list."""
        free = [task for task in tasks if not task.waits_for]
        if not free:
            raise InvalidValueError("a baseline is measured on tasks that need no others; here all of them do")
        start = max(0, (len(free) - count) // 2)
        chosen = free[start : start + count]
        for _ in self._outcomes(IterableIntake(chosen), "baseline", plain=True):
            pass
        factor = len(tasks) / len(chosen)
        scaled = {
            unit: None if (value := getattr(self.receipt.cost, unit)) is None else value * factor
            for unit in ("seconds", "cpu_seconds", "context_switches")
        }
        return Cost(**scaled, estimated=tuple(unit for unit, value in scaled.items() if value is not None))

    def _claim(self) -> None:
        """Have the workers for one epoch."""
        if self._closed or not self._busy.acquire(blocking=False):
            raise InvalidStateError("an epoch is running, or the Lattice is closed; wait for it, or make another")
        self._cancelled = ""

    def _outcomes(
        self, intake: Intake, name: str, *, plain: bool = False, limit: int | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they come, with the places of their tasks; ``plain`` ones one by one."""
        self._claim()
        yield from self._driven(intake, name, plain=plain, limit=limit)

    def _driven(
        self, intake: Intake, name: str, *, plain: bool = False, limit: int | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        """Drive an epoch that has been claimed, and let go of the workers at its end."""
        self.receipt = EpochReceipt(f"{self.workers} {self._kind}")
        settings = self._settings | {"chunk": 1} if plain else self._settings
        scheduler = Scheduler(
            ReadyQueue(0) if plain else ReadyQueue(*self._order), self._estimates, None if plain else self._scores,
            chunks=self._chunks, **settings,
        )  # fmt: skip
        try:
            with Journal(self._journal, name) if self._journal and not plain else nullcontext() as journal:
                self._executor.start()
                driver = Driver(self._executor, scheduler, intake, journal, limit or self._limit, self.receipt)
                with measured(self.receipt, self._executor):
                    while driver.turn(self._cancelled):
                        news = scheduler.take_settled()
                        if news and journal is not None:
                            journal.write([outcome for _, outcome in news])
                        for place, outcome in news:
                            self.receipt.count(outcome)
                            yield place, outcome
                        if not news:
                            driver.wait()
        finally:
            if scheduler.unsettled:  # broken off: what the workers do now is of no use
                self._executor.stop()
            self._busy.release()
