"""The scheduler alone, told what happens: who is blamed, and who is not."""

import itertools
import signal

from tithe.errors import TaskTimeoutError, WorkerLostError
from tithe.lattice import Task
from tithe.lattice.estimates import Estimates
from tithe.lattice.executors import Loss, Report, Result, Running
from tithe.lattice.queue import ReadyQueue
from tithe.lattice.scheduler import Scheduler


def scheduler(*tasks, **options):
    made = Scheduler(ReadyQueue(), Estimates(), None, chunks=itertools.count(1), **{"chunk": len(tasks)} | options)
    for place, task in enumerate(tasks):
        made.admit(task, place, None, 0.0)
    return made


def handed(made):
    return made.next_chunk(0, 1, lambda task: True)


def statuses(made):
    return {place: outcome.status for place, outcome in made.take_settled()}


def done(value=None):
    return Result(True, value, 0.0, 0.001)


def lost(chunk, running):
    return Loss(0, chunk, running, f"signal {signal.SIGKILL}")


def test_only_the_call_that_was_running_is_blamed():
    made = scheduler(Task(int), Task(int), Task(int), crash_retries=0)
    chunk = handed(made)
    made.report(Report(0, chunk.number, 0, [done()], False), 1.0)
    made.lose(lost(chunk.number, 1), 2.0)
    assert statuses(made) == {0: "done", 1: "quarantined"} and len(made.queue) == 1
    assert len(handed(made).calls) == 1


def test_a_worker_that_dies_before_any_call_leads_to_chunks_of_one():
    made = scheduler(Task(int), Task(int), crash_retries=0)
    made.lose(lost(handed(made).number, None), 1.0)
    assert statuses(made) == {}
    first = handed(made)
    assert len(first.calls) == 1
    made.lose(lost(first.number, None), 2.0)
    assert statuses(made) == {0: "quarantined"}


def test_chunks_that_stood_behind_are_not_blamed():
    made = scheduler(Task(int), Task(int), chunk=1, crash_retries=0)
    first, second = handed(made), handed(made)
    made.lose(lost(first.number, 0), 1.0)
    made.lose(Loss(0, second.number, None, "signal 9", oldest=False), 1.0)
    (place, outcome), *others = made.take_settled()
    assert place == 0 and isinstance(outcome.error, WorkerLostError) and not others and len(made.queue) == 1


def test_a_call_that_is_late_is_told_and_charged_with_its_timeout():
    made = scheduler(Task(int, timeout=1.0), Task(int, timeout=1.0))
    chunk = handed(made)
    assert made.overdue(Running(chunk.number, 0, 5.0), 5.9) is None
    job = made.overdue(Running(chunk.number, 0, 5.0), 6.1)
    made.killed(0, job)
    made.lose(lost(chunk.number, 0), 6.2)
    ((place, outcome),) = made.take_settled()
    assert place == 0 and isinstance(outcome.error, TaskTimeoutError) and outcome.attempts == 1


def test_a_call_that_dies_in_the_place_of_a_late_one_is_not_charged():
    """The late one ended just before its worker was killed."""
    made = scheduler(Task(int, timeout=1.0), Task(int, timeout=1.0), crash_retries=0)
    chunk = handed(made)
    made.killed(0, made.overdue(Running(chunk.number, 0, 5.0), 6.1))
    made.report(Report(0, chunk.number, 0, [done()], False), 6.15)
    made.lose(lost(chunk.number, 1), 6.2)
    assert statuses(made) == {0: "done"} and len(made.queue) == 1
    again = handed(made)
    made.report(Report(0, again.number, 0, [done(3)], True), 7.0)
    ((_, outcome),) = made.take_settled()
    assert outcome.ok and outcome.attempts == 1


def test_reports_of_an_epoch_that_was_broken_off_change_nothing():
    made = scheduler(Task(int))
    made.report(Report(0, 99, 0, [done()], True), 1.0)
    made.lose(lost(99, 0), 1.0)
    assert made.unsettled == 1 and statuses(made) == {}
