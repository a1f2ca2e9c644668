"""The loop between tasks that come, a scheduler that orders them, and workers that run them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from tithe.lattice.cache_misses import CacheMisses
from tithe.lattice.epoch import EpochReceipt
from tithe.lattice.executors import Executor, Loss
from tithe.lattice.intake import Intake
from tithe.lattice.journal import Journal
from tithe.lattice.scheduler import Scheduler
from tithe.lattice.task import Task, summary
from tithe.receipt import Cost

__all__ = ["Driver", "measured"]

_DEPTH = 2  # chunks that a worker may have, so that it need not wait for the next
_SOON = 0.05  # seconds that those it has may take, at most
_MOST, _AT_ONCE = 16, 0.0005  # chunks, where they are so short that it would wait all the same, and their seconds
_TICK = 0.02  # seconds between looks at the clock while tasks with a timeout run
_INTAKE = 256  # tasks that are taken in between two looks at the workers


class Driver:
    """Moves an epoch on, one turn at a time.

    Args:
        executor: that has been started.
        scheduler: of the epoch.
        intake: where tasks come from.
        journal: of values that are known; ``None`` for none.
        limit: tasks that may be unsettled at a time.
        receipt: is told of lost workers, scoring and work.
    """

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        intake: Intake,
        journal: Journal | None,
        limit: int,
        receipt: EpochReceipt,
    ) -> None:
        self._executor, self._scheduler, self._intake = executor, scheduler, intake
        self._journal, self._limit, self._receipt = journal, limit, receipt

    def turn(self, cancelled: str) -> bool:
        """Take tasks in, hand chunks out and score some data; whether the epoch goes on.

        Args:
            cancelled: why the epoch is to end early; empty where it is not.

        Raises ``InvalidValueError`` where the tasks that are left wait for each other, or for what does not come.
        """
        scheduler, receipt = self._scheduler, self._receipt
        self._take_in(cancelled)
        self._hand_out()
        scheduler.advance_scores()
        receipt.scoring = scheduler.scoring
        receipt.worked, receipt.retried = scheduler.worked, scheduler.retries.count
        if self._intake.ended and scheduler.stuck():
            scheduler.refuse()
        return bool(scheduler.unsettled or scheduler.settled) or not self._intake.ended

    def wait(self) -> None:
        """Wait for news of the workers, and tell the scheduler."""
        for event in self._executor.poll(self._patience()):
            if isinstance(event, Loss):
                self._receipt.lost_workers += event.unsendable is None and event.oldest
                self._scheduler.lose(event, time.monotonic())
            else:
                self._scheduler.report(event, time.monotonic())
        self._look_at_clock()

    def _take_in(self, cancelled: str) -> None:
        intake, scheduler, now = self._intake, self._scheduler, time.monotonic()
        if cancelled:
            for place, task in () if intake.ended else intake.break_off():
                scheduler.admit(task, place, None, now)
            scheduler.cancel(cancelled, now)
        for _ in range(_INTAKE):
            if intake.ended or (scheduler.unsettled >= self._limit and not scheduler.stuck()):
                return
            taken = intake.take()
            if taken is None:
                return
            place, task = taken
            known = None
            if self._journal is not None and isinstance(task, Task):
                known = self._journal.known(task.key)
            scheduler.admit(task, place, None, now, known)

    def _hand_out(self) -> None:
        executor = self._executor
        given = True
        while given:  # first one for each, then another
            given = False
            for worker in range(executor.workers):
                if self._may_have_more(worker) and executor.available(worker):
                    chunk = self._scheduler.next_chunk(worker, executor.workers, self._intake.wanted)
                    if chunk is None:
                        return
                    executor.submit(worker, chunk)
                    given = True

    def _may_have_more(self, worker: int) -> bool:
        """Whether a chunk would not wait long for a worker: what stands behind a long call could run elsewhere."""
        load = self._scheduler.handed.load(worker)
        if load == 0:
            return True
        seconds = self._scheduler.handed.seconds(worker)
        return seconds <= _SOON if load < _DEPTH else load < _MOST and seconds <= _AT_ONCE

    def _patience(self) -> float | None:
        """Seconds to wait for news."""
        release = self._scheduler.retries.next_due()
        timeout = None if release is None else max(0.0, release - time.monotonic())
        if self._scheduler.timed:
            timeout = _TICK if timeout is None else min(_TICK, timeout)
        return timeout

    def _look_at_clock(self) -> None:
        """Retries that are due, and calls that take longer than they may."""
        executor, scheduler, now = self._executor, self._scheduler, time.monotonic()
        scheduler.release(now)
        for worker in range(executor.workers) if scheduler.timed else ():
            running = executor.running(worker)
            job = scheduler.overdue(running, now) if running is not None else None
            if job is None or job.task.timeout is None or job.late:
                continue
            if executor.kills:
                scheduler.killed(worker, job)
                executor.kill(worker)
            else:
                job.late = True
                warnings.warn(
                    f"{summary(job.task)} takes longer than its {job.task.timeout:g} s and cannot be killed in this "
                    "process: it goes on; executor='processes' could end it",
                    RuntimeWarning,
                    stacklevel=2,
                )


@contextmanager
def measured(receipt: EpochReceipt, executor: Executor) -> Iterator[None]:
    """Write into a receipt what an executor uses inside of the block."""
    start, before = time.perf_counter(), executor.usage()
    misses = CacheMisses()
    try:
        with nullcontext() if executor.kills else misses:  # workers elsewhere are not in the count
            yield
    finally:
        used, switches = executor.usage().since(before), None
        if used.voluntary is not None and used.involuntary is not None:
            switches = used.voluntary + used.involuntary
        seconds = time.perf_counter() - start
        receipt.cost = Cost(seconds=seconds, cpu_seconds=used.cpu_seconds, context_switches=switches)
        receipt.voluntary, receipt.involuntary = used.voluntary, used.involuntary
        receipt.cache_misses = misses.count
