"""What happens to every task between its admission and its one outcome: a state machine without threads or clocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from tithe.errors import (
    InvalidDTypeError,
    InvalidValueError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)
from tithe.lattice.estimates import Estimates
from tithe.lattice.executors.executor import Call, Chunk, Loss, Report, Result, Running
from tithe.lattice.handed import Handed
from tithe.lattice.jobs import Job
from tithe.lattice.outcome import Outcome, Status
from tithe.lattice.queue import ReadyQueue
from tithe.lattice.retries import Retries
from tithe.lattice.roster import Roster
from tithe.lattice.scores import Scores
from tithe.lattice.task import Spawn, Task, summary

__all__ = ["Scheduler"]

_NEVER = float("inf")
_NEUTRAL = 0.5  # what counts as the coherence of a task without data
_MOST_CALLS = 512  # of a chunk


class Scheduler:
    """Admits tasks, hands out chunks of them to workers, and settles each with one ``Outcome``.

    Args:
        queue: the order of what is ready.
        estimates: of seconds by function.
        scores: of data; ``None`` where nothing is scored.
        chunks: numbers for chunks.
        chunk: calls a chunk; ``None`` for as many as fill ``budget`` seconds.
        budget: seconds.
        crash_retries: how often a task is tried again of which a worker died; then it is put into quarantine.
        backoff: seconds before the first retry; doubled for each one after, with jitter from half to all of it.
        prune: is asked about every sub-task and the score of its data; those it says yes to are not run.
        seed: of the jitter.
    """

    def __init__(
        self,
        queue: ReadyQueue,
        estimates: Estimates,
        scores: Scores | None,
        *,
        chunks: Iterator[int],
        chunk: int | None = None,
        budget: float = 0.02,
        crash_retries: int = 1,
        backoff: float = 0.1,
        prune: Callable[[Task, float | None], bool] | None = None,
        seed: int = 0,
    ) -> None:
        self.queue, self._estimates, self._scores = queue, estimates, scores
        self._chunk, self._budget = chunk, budget
        self._crash_retries, self._prune = crash_retries, prune
        self._numbers, self._chunks = itertools.count(), chunks
        self._roster = Roster()
        self.handed, self.retries = Handed(), Retries(backoff, seed)
        self._overdue: dict[int, Job] = {}  # workers that are killed, and the job that took too long
        self.settled: list[tuple[int, Outcome]] = []  # places and outcomes that nobody has taken yet
        self.timed = False  # whether some task has a timeout
        self.worked = 0.0  # seconds that calls took
        self._scored_before = 0.0 if scores is None else scores.seconds

    def admit(self, task: Task, place: int, parent: Task | None, now: float, known: tuple[Any] | None = None) -> None:
        """Take a task on.

        Args:
            task: that is in no other epoch at the same time.
            place: its index among those given.
            parent: that spawned it.
            now: by the monotonic clock, as everywhere here.
            known: its value, where it need not run.

        Raises ``InvalidValueError`` for one that is here already, or has another's key.
        """
        if not isinstance(task, Task):
            raise InvalidDTypeError(f"got a {type(task).__name__}; an epoch is made of tasks: Task(fn, *args)")
        job = Job(task, next(self._numbers), place, parent, now)
        self._roster.enter(job)
        self.timed = self.timed or task.timeout is not None
        if self._scores is not None and job.group is not None:
            self._scores.join(job)
        if known is not None:
            self._end(job, "done", value=known[0], resumed=True)
        elif parent is not None and self._prune is not None and self._prune(task, self._score(job)):
            self._end(job, "pruned")
        else:
            self._wait(job, now)
        self._tell(now)

    def take_settled(self) -> list[tuple[int, Outcome]]:
        """Places and outcomes of what has been settled since."""
        found, self.settled = self.settled, []
        return found

    @property
    def unsettled(self) -> int:
        """How many tasks have no outcome yet."""
        return self._roster.count

    def stuck(self) -> bool:
        """Whether all that is here waits for tasks that are not ready either."""
        return self._roster.waiting() > 0 and not (len(self.handed) or len(self.retries) or len(self.queue))

    def refuse(self) -> None:
        """Raise ``InvalidValueError`` that tells what those who are stuck wait for."""
        self._roster.refuse()

    def next_chunk(self, worker: int, workers: int, wanted: Callable[[Task], bool]) -> Chunk | None:
        """The next calls for a worker that are still wanted; ``None`` where nothing is ready."""
        while len(self.queue):
            share = -(-len(self.queue) // (2 * workers))  # so that the last chunks end at about the same time
            most = min(_MOST_CALLS, share) if self._chunk is None else self._chunk
            last = self.handed.last_group(worker)
            if self._chunk is None:
                taken = self.queue.take(self._budget, self._estimates.of, last, most)
            else:
                taken = self.queue.take(_NEVER, lambda job: 0.0, last, most)
            jobs = [job for job in taken if self._keep(job, wanted)]
            if not jobs:
                continue
            number = next(self._chunks)
            self.handed.give(number, worker, jobs, sum(map(self._estimates.of, jobs)))
            return Chunk(number, [_call(job.task) for job in jobs])
        return None

    def _keep(self, job: Job, wanted: Callable[[Task], bool]) -> bool:
        if wanted(job.task):
            return True
        self._end(job, "cancelled", error=TaskCancelledError("its future was cancelled"))
        self._tell(job.ready)
        return False

    def overdue(self, running: Running, now: float) -> Job | None:
        """The job of a call that is being made, if it takes longer than its timeout."""
        job = self.handed.job(running.chunk, running.call)
        late = job is not None and job.task.timeout is not None and now - running.since > job.task.timeout
        return job if late else None

    def killed(self, worker: int, job: Job) -> None:
        """Note that a worker is being killed because a job takes longer than its timeout."""
        self._overdue[worker] = job

    def report(self, report: Report, now: float) -> None:
        """Take results in."""
        for job, result in zip(self.handed.take_back(report), report.results, strict=False):
            self._result(job, result, now)
        self._tell(now)

    def lose(self, loss: Loss, now: float) -> None:
        """Take back what a worker had: the call that it died of counts against its task, the others do not."""
        late = self._overdue.pop(loss.worker, None) if loss.oldest and loss.unsendable is None else None
        culprit = self.handed.job(loss.chunk, loss.running) if loss.running is not None else None
        jobs = self.handed.take_back(loss)
        if culprit is None and loss.oldest and len(jobs) == 1:
            culprit = jobs[0]  # the worker died while it read this call, or it cannot be sent
        for job in jobs:
            if job is not culprit:
                job.alone = job.alone or (loss.oldest and culprit is None)  # next time it is known which one it was
                self._ready(job, now)
                continue
            job.attempts += 1
            if loss.unsendable is not None:
                self._fail(job, loss.unsendable, 0.0, "failed")
            elif job is late and job.task.timeout is not None:
                error = TaskTimeoutError(f"it took longer than its {job.task.timeout:g} s, and its worker was killed")
                self._try_again(job, error, job.task.timeout, now)
            elif late is not None:  # the late one ended just before, and this one died in its place
                job.attempts -= 1
                self._ready(job, now)
            else:
                self._crashed(job, loss.reason, now)
        self._tell(now)

    def release(self, now: float) -> None:
        """Put those tasks back into the queue whose time for another try has come."""
        for job in self.retries.due(now):
            self._ready(job, now)

    def advance_scores(self) -> None:
        """Score some data, as long as that costs little."""
        for group, score in self._scores.advance() if self._scores is not None else ():
            self.queue.raise_level(group, self.queue.level(score))

    @property
    def scoring(self) -> float:
        """Seconds that scores of this epoch took."""
        return 0.0 if self._scores is None else self._scores.seconds - self._scored_before

    def cancel(self, why: str, now: float) -> None:
        """Settle all that no worker has as cancelled."""
        self.queue.clear()
        self.retries.clear()
        out = set(map(id, self.handed.jobs()))
        for job in self._roster.jobs():
            if id(job) not in out and self._roster.here(job):
                self._end(job, "cancelled", error=TaskCancelledError(why))
                self._tell(now)

    def _score(self, job: Job) -> float | None:
        return None if self._scores is None or job.group is None else self._scores.now(job)

    def _wait(self, job: Job, now: float) -> None:
        """Ready at once, when others are done, or never."""
        if not job.task.waits_for:
            self._ready(job, now)
            return
        lost = self._roster.lost_need(job.task)
        if lost is not None:
            self._end(job, "cancelled", error=_without(lost))
        elif not self._roster.wait(job):
            self._ready(job, now)

    def _ready(self, job: Job, now: float) -> None:
        job.ready = now
        if self._scores is not None:
            score = _NEUTRAL if job.group is None else self._scores.known(job)
            job.level = self.queue.level(score or 0.0)
        self.queue.put(job)

    def _result(self, job: Job, result: Result, now: float) -> None:
        job.attempts += 1
        self.worked += result.seconds
        if self._scores is not None:
            self._scores.worked += result.seconds
        if not result.ok:
            self._try_again(job, result.value, result.seconds, now)
            return
        self._estimates.learn(job.kind, result.seconds)
        value = result.value
        spawned: tuple[Task, ...] = ()
        if isinstance(value, Spawn):
            value, spawned = value.value, value.tasks
            try:
                self._check(spawned)
            except InvalidValueError as error:
                self._fail(job, error, result.seconds, "failed")
                return
        self._end(job, "done", value=value, waited=result.started - job.ready, seconds=result.seconds)
        for task in spawned:
            self.admit(task, -1, job.task, now)

    def _check(self, spawned: tuple[Task, ...]) -> None:
        names = [id(task) for task in spawned] + [task.key for task in spawned if task.key]
        if len(set(names)) < len(names):
            raise InvalidValueError("it spawned a task twice, or two with one key")
        for task in spawned:
            self._roster.check(task)

    def _try_again(self, job: Job, error: BaseException, seconds: float, now: float) -> None:
        if job.attempts - job.crashes > job.task.retries:
            self._fail(job, error, seconds, "failed")
            return
        self.retries.add(job, now)

    def _crashed(self, job: Job, reason: str, now: float) -> None:
        job.crashes += 1
        if job.crashes > self._crash_retries:
            self._fail(job, WorkerLostError(f"{job.crashes} workers died of it: {reason}"), 0.0, "quarantined")
            return
        self.retries.count += 1
        job.alone = True  # if it kills again, it takes nothing along
        self._ready(job, now)

    def _fail(self, job: Job, error: BaseException, seconds: float, status: Status) -> None:
        error.add_note(f"in the task {summary(job.task)}, attempt {job.attempts}")
        self._end(job, status, error=error, seconds=seconds)

    def _end(
        self,
        job: Job,
        status: Status,
        *,
        value: Any = None,
        error: BaseException | None = None,
        waited: float = 0.0,
        seconds: float = 0.0,
        resumed: bool = False,
    ) -> None:
        self._roster.leave(job, value, ok=status == "done")
        if self._scores is not None and job.group is not None:
            self._scores.leave(job)
        outcome = Outcome(
            job.task, status, value, error, job.attempts, job.late, resumed, max(0.0, waited), seconds, job.parent
        )
        self.settled.append((job.place, outcome))

    def _tell(self, now: float) -> None:
        """Tell those who wait what has ended: they are ready, or end, too."""
        if not self._roster.waiting():
            self._roster.forget_news()
            return
        for job, lost in self._roster.news():
            if lost is None:
                self._ready(job, now)
            else:
                self._end(job, "cancelled", error=_without(lost))


def _call(task: Task) -> Call:
    """The call of a task, with the values of the tasks among its arguments."""
    if not task.waits_for:
        return task.fn, task.args, task.kwargs
    args = tuple(_value(value) for value in task.args)
    return task.fn, args, {name: _value(value) for name, value in task.kwargs.items()}


def _value(argument: Any) -> Any:
    return argument._ended[2] if isinstance(argument, Task) and argument._ended is not None else argument


def _without(need: Task | str) -> TaskCancelledError:
    name = repr(need) if isinstance(need, str) else summary(need)
    return TaskCancelledError(f"it needs {name}, which has no value")
