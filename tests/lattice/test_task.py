"""Tasks, what is refused of them, and the graph of what waits for what."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.lattice import Spawn, Task
from tithe.lattice.graph import Needs, find_cycle, refuse_cycles
from tithe.lattice.task import summary


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"retries": -1}, InvalidValueError, "retries is -1"), ({"retries": True}, InvalidValueError, "retries"),
        ({"retries": 1.5}, InvalidValueError, "retries"), ({"timeout": 0}, InvalidValueError, "timeout"),
        ({"timeout": math.inf}, InvalidValueError, "timeout"), ({"key": ""}, InvalidValueError, "key"),
        ({"key": 3}, InvalidValueError, "key"), ({"urgency": math.nan}, InvalidValueError, "urgency"),
        ({"needs": [3]}, InvalidDTypeError, "needs holds a int"),
    ],
)  # fmt: skip
def test_hostile_settings(options, error, match):
    with pytest.raises(error, match=match):
        Task(print, **options)


def test_what_is_no_function_is_refused():
    with pytest.raises(InvalidDTypeError, match="fn is a int"):
        Task(3)
    with pytest.raises(InvalidDTypeError, match="Spawn holds a int"):
        Spawn([3])


def test_summaries_are_short_and_say_what_matters():
    text = summary(Task(np.dot, np.zeros((300, 4), np.float32), "x" * 5000, key="k", kwargs={"out": None}))
    assert "ndarray(300, 4) float32" in text and "out=None" in text and "[k]" in text and len(text) < 200
    inner = Task(pow, 2, 3, name="cube")
    assert summary(Task(pow, inner, *range(9))) == "pow(<cube>, 0, 1, 2, …)"


def test_tasks_among_the_arguments_are_needed():
    one, two = Task(abs, 1), Task(abs, 2)
    assert Task(pow, one, kwargs={"mod": two}, needs="key").waits_for == ("key", one, two)


def test_a_circle_is_named():
    a, b = Task(print, name="a", key="a", needs="c"), Task(print, name="b", key="b", needs="a")
    c = Task(print, name="c", key="c", needs=[b])
    with pytest.raises(InvalidValueError, match=r"circle: (a\(\) \[a\] needs c|b\(\)|c\(\))"):
        refuse_cycles([Task(print), a, b, c])
    refuse_cycles([a, b, Task(print, key="c")])
    refuse_cycles([Task(print, key="x", needs="not here")])


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
def test_a_circle_is_found_if_and_only_if_there_is_one(pairs):
    edges = {}
    for a, b in pairs:
        edges.setdefault(a, []).append(b)
    cycle = find_cycle(edges)
    if cycle:
        assert all(b in edges[a] for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    else:  # Kahn: without a circle, everything can be taken in order
        left = {n for pair in pairs for n in pair}
        while free := {n for n in left if not any(m in left for m in edges.get(n, ()))}:
            left -= free
        assert not left


def test_long_chains_need_no_recursion():
    assert find_cycle({i: [i + 1] for i in range(50_000)}) == []


def test_needs_are_met_or_lost():
    needs = Needs()
    needs.add("roof", ["wall", "beam"])
    needs.add("door", ["wall"])
    assert needs.met("wall") == ["door"] and len(needs) == 1
    assert needs.failed("beam") == ["roof"] and len(needs) == 0 and needs.met("beam") == []
