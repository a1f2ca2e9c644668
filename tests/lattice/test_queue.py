"""The order of ready tasks: what goes first, what goes together, and that nobody waits without end."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.lattice.jobs import Job, group_of
from tithe.lattice.queue import ReadyQueue
from tithe.lattice.task import Task


def job(number, queue=None, score=0.0, **options):
    made = Job(Task(print, number, **options), number, number, None, 0.0)
    made.level = 0 if queue is None else queue.level(score)
    return made


def drain(queue, budget=0.0, cost=1.0):
    order = []
    while len(queue):
        order += [j.number for j in queue.take(budget, lambda _: cost)]
    return order


def filled(queue, jobs):
    for one in jobs:
        queue.put(one)
    return queue


def test_coherent_tasks_go_first_then_urgent_ones_then_those_with_a_deadline_then_the_first():
    queue = ReadyQueue(patience=1600)
    jobs = [
        job(0, queue, 0.4), job(1, queue, 0.9), job(2, queue, 0.9, urgency=2.0), job(3, queue, 0.9, deadline=5.0),
        job(4, queue, 0.4, urgency=9.0), job(5, queue, 0.9),
    ]  # fmt: skip
    assert drain(filled(queue, jobs)) == [2, 3, 1, 5, 4, 0]


def test_below_the_threshold_nothing_is_dropped_and_all_are_equal():
    queue = ReadyQueue(patience=1600, threshold=0.3)
    jobs = [job(0, queue, 0.1), job(1, queue, 0.29), job(2, queue, 0.31)]
    assert drain(filled(queue, jobs)) == [2, 0, 1]


def test_without_patience_the_first_goes_first():
    queue = ReadyQueue(patience=0)
    jobs = [job(i, queue, i / 10, urgency=i, data="same" if i % 2 else None) for i in range(9)]
    assert drain(filled(queue, jobs), budget=100.0) == list(range(9)) and queue.overtaking == 0


def test_tasks_that_share_data_leave_together():
    queue = filled(ReadyQueue(), [job(i, data=f"block {i % 3}") for i in range(12)])
    assert [j.number for j in queue.take(3.0, lambda _: 1.0)] == [0, 3, 6]
    assert [j.number for j in queue.take(3.0, lambda _: 1.0, last=("block 0"))] == [9, 1, 4]
    assert len(queue) == 6


def test_urgency_counts_among_tasks_that_share_data():
    queue = filled(ReadyQueue(), [job(i, data="x", urgency=float(i)) for i in range(6)])
    assert [j.number for j in queue.take(9.0, lambda _: 1.0)] == [5, 4, 3, 2, 1, 0]


def test_a_worker_goes_on_with_the_data_that_it_had():
    queue = filled(ReadyQueue(), [job(0, data="a"), job(1, data="b"), job(2, data="b")])
    assert [j.number for j in queue.take(0.0, lambda _: 1.0, last="b")] == [1]


def test_chunks_keep_to_the_budget_to_the_number_and_to_themselves():
    queue = filled(ReadyQueue(), [job(i) for i in range(10)])
    assert len(queue.take(2.5, lambda _: 1.0)) == 2
    assert len(queue.take(100.0, lambda _: 1.0, most=3)) == 3
    assert len(queue.take(1.0, lambda _: math.inf)) == 1
    alone = job(20)
    alone.alone = True
    queue = filled(ReadyQueue(), [job(1), alone, job(30)])
    assert [[j.number for j in queue.take(9.0, lambda _: 1.0)] for _ in range(3)] == [[1], [20], [30]]


def test_a_score_that_comes_later_moves_the_whole_group():
    queue = filled(ReadyQueue(patience=1600), [job(0), job(1, data="x"), job(2), job(3, data="x")])
    queue.raise_level("x", queue.level(0.9))
    assert len(queue) == 4 and drain(queue) == [1, 3, 0, 2]


def test_what_comes_back_is_put_in_again():
    queue = ReadyQueue()
    one = job(0, data="x")
    for _ in range(3):
        queue.put(one)
        assert queue.take(1.0, lambda _: 1.0) == [one]
    assert len(queue) == 0 and queue.take(1.0, lambda _: 1.0) == []


def test_clear_gives_back_the_rest():
    queue = filled(ReadyQueue(), [job(i, data=i % 2) for i in range(6)])
    taken = queue.take(2.0, lambda _: 1.0)
    rest = queue.clear()
    assert sorted(j.number for j in taken + rest) == list(range(6)) and len(queue) == 0


@pytest.mark.parametrize("wrong", [{"patience": -1}, {"levels": 0}, {"threshold": 1.5}, {"threshold": math.nan}])
def test_hostile_settings(wrong):
    with pytest.raises(InvalidValueError, match="threshold"):
        ReadyQueue(**wrong)


@settings(max_examples=60, deadline=None)
@given(
    patience=st.integers(0, 60),
    levels=st.integers(1, 8),
    arrivals=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 3), st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=150
    ),
    most=st.integers(1, 7),
)
def test_nobody_is_overtaken_by_more_than_the_stated_number(patience, levels, arrivals, most):
    """Whatever scores, urgencies and groups come, and however many leave in between: the bound holds, all leave."""
    queue, started, number = ReadyQueue(patience, levels=levels), [], 0
    last = None
    for score, urgency, group, leave in arrivals:
        queue.put(job(number, queue, score, urgency=urgency, data=group or None))
        number += 1
        for _ in range(leave // 5):
            taken = queue.take(1e9, lambda _: 0.0, last, most)
            started += [j.number for j in taken]
            last = taken[-1].group if taken else None
    while len(queue):
        taken = queue.take(1e9, lambda _: 0.0, last, most)
        started += [j.number for j in taken]
        last = taken[-1].group
    assert sorted(started) == list(range(number))
    for place, one in enumerate(started):
        assert sum(other > one for other in started[:place]) <= queue.overtaking


def test_the_queue_forgets_what_has_left():
    queue = ReadyQueue()
    for start in range(0, 50_000, 100):
        filled(queue, [job(i, data=i % 7) for i in range(start, start + 100)])
        while len(queue) > 10:
            queue.take(1e9, lambda _: 0.0, last=3, most=20)
    assert len(queue._heap) < 2000 and sum(map(len, queue._groups.values())) < 200


def test_data_is_the_same_if_it_is_equal_or_one_object():
    block = [1, 2]
    assert group_of((1, "a")) == group_of((1, "a")) and group_of(block) == group_of(block)
    assert group_of(block) != group_of([1, 2]) and group_of((block,)) != group_of(([1, 2],))
