"""The parts of ``benchmarks.lattice`` that a wrong figure could come from."""

from collections import Counter

import pytest
from benchmarks.lattice import in_words
from benchmarks.lattice_endurance import Plan, endure, unreliable

from tithe.lattice import Outcome, Task


def test_a_plan_kills_as_often_as_it_says():
    kinds = Counter(Plan(20_000, 20, 0).kinds)
    assert kinds["kills once"] + 2 * kinds["deadly"] == 20 and kinds["deadly"] == 2
    assert 150 < kinds["fails"] < 250 and 150 < kinds["mishap"] < 250


def test_what_a_task_does_the_second_time(tmp_path):
    assert unreliable(7, "", str(tmp_path)) == 7
    for _ in range(2):
        with pytest.raises(ValueError, match="7 fails"):
            unreliable(7, "fails", str(tmp_path))
    with pytest.raises(OSError, match="mishap"):
        unreliable(7, "mishap", str(tmp_path))
    assert unreliable(7, "mishap", str(tmp_path)) == 7


@pytest.mark.parametrize(
    ("kind", "status", "value", "attempts", "right"),
    [
        ("", "done", 0, 1, True),
        ("", "done", 1, 1, False),
        ("", "done", 0, 2, False),
        ("mishap", "done", 0, 1, True),
        ("mishap", "done", 0, 3, False),
        ("fails", "done", 0, 2, False),
        ("fails", "failed", None, 2, True),
        ("deadly", "quarantined", None, 2, True),
        ("deadly", "failed", None, 2, False),
    ],
)
def test_a_wrong_outcome_is_noticed(kind, status, value, attempts, right):
    plan = Plan(20, 10, 0)
    plan.kinds[0] = kind
    task = Task(unreliable, 0, kind, "")
    error = ValueError() if value is None else None
    assert plan.agrees(Outcome(task, status, value, error, attempts)) is right


def test_nothing_is_lost_where_workers_are_killed():
    found = endure(400, 10, 2)
    assert found["once"] == found["outcomes"] == 400
    assert found["wrong"] == 0 and found["lost_workers"] == 10


def test_savings_in_words():
    assert in_words((0.25, 0.1, 0.4)) == "+25% [+10%, +40%]" and in_words((-1.0, None, None)) == "-100%"
