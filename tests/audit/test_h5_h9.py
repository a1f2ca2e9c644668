"""The judges of H5 and H9 on figures that are made up, and what they measure, in small, on real data."""

from dataclasses import replace

import pytest

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _h5_kills, _h5_measure, _h9_measure, h5_backward_order, h9_generalisation
from tithe.audit.claims.h9_generalisation import CONSTANT, FORWARD, NONE, SHUFFLED
from tithe.audit.hashtron_pipelines import DEEP, begins_with_the_last, end, ended, goes_back, overhead
from tithe.audit.hashtron_tasks import split

HERE = "breast cancer"


@pytest.fixture
def small(monkeypatch):
    """The one task whose data come with the package, and nothing that is killed."""
    for module in (_h5_measure, _h9_measure):
        monkeypatch.setattr(module, "present", lambda: (HERE,))


@pytest.mark.parametrize("final", ["votes", "majority"])
def test_runs_go_back_from_the_final_neuron(final):
    steps = ended(split(HERE, 0).known, 0, final=final, topology=DEEP, sweeps=2).steps
    assert begins_with_the_last(steps) and goes_back(steps)
    assert {step.layer for step in steps} == {0, 1, 2}


def test_what_is_out_of_order_is_seen():
    back = ended(split(HERE, 0).known, 0).steps
    ahead = ended(split(HERE, 0).known, 0, direction="forward", final="votes").steps
    assert not goes_back(back[::-1]) and not goes_back(ahead)
    assert not begins_with_the_last(back[1:]) and not begins_with_the_last(())
    skip = replace(back[0], kind="forward", why="stuck")
    assert goes_back([*back[:5], skip, *back[5:]])


def test_a_run_ends_the_same_for_the_same_seed():
    law = end(HERE, 3)
    assert law == end(HERE, 3) and law != end(HERE, 3, policy="none")
    assert law.gap == law.train - law.test
    assert law.prior == pytest.approx(max(split(HERE, 3).test[1].mean(), 1 - split(HERE, 3).test[1].mean()))


def test_the_cost_is_one_of_a_neuron():
    cost = overhead(split(HERE, 0).known, 6)
    assert 0 < cost.low <= cost.ratio <= cost.high and cost.trained > 30


def ordered(test=0.0, half=0.5, pairs=40, begun=20, back=20, again=0, equal=3):
    rows = [{"policy": policy, "final": final, "pairs": pairs, "test": test, "test_low": test - half,
             "test_high": test + half} for policy, final in (("law", "majority"), ("law", "votes"))]  # fmt: skip
    ends = [{"policy": "law", "way": "backward", "final": final, "test": test}
            for final, test in (("votes", 0.5), ("majority", 0.7))]  # fmt: skip
    facts = {"runs": 20, "begun": begun, "back": back, "logged": 4, "kills": 5, "trainings": 3, "again": again,
             "equal": equal, "prior": 0.6}  # fmt: skip
    return Evidence({"differences": Table("", rows), "accuracies": Table("", ends)}, facts=facts)


@pytest.mark.parametrize(
    ("found", "verdict", "summary"),
    [
        (ordered(test=1.0), "holds", "better than forward"),
        (ordered(), "holds if", "no more by it"),
        (ordered(test=1.0, pairs=6), "holds if", "too few pairs"),
        (ordered(test=-1.0), "fails", "learns less"),
        (ordered(begun=19), "fails", "out of order"),
        (ordered(back=19), "fails", "out of order"),
        (ordered(again=1), "fails", "costs a neuron"),
        (ordered(equal=2), "fails", "costs a neuron"),
        (Evidence(), "unmeasured", ""),
    ],
)
def test_h5(found, verdict, summary):
    finding = h5_backward_order.judge(found)
    assert finding.verdict == verdict
    assert summary in finding.summary


def test_what_h5_measures(small, monkeypatch):
    found = {"kills": 2, "trainings": 1, "again": 0, "equal": 1}
    monkeypatch.setattr(_h5_measure, "in_a_process", lambda *_: found)
    evidence = _h5_measure.measure(Run(seed=1, deadline=0.0))
    assert all(row["pairs"] == 2 for row in evidence.rows("differences"))
    assert evidence.facts["begun"] == evidence.facts["back"] == evidence.facts["runs"] == 8
    finding = h5_backward_order.judge(evidence)
    assert finding.verdict == "holds if" and "guessing gives 62.6%" in finding.reason


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(_h5_kills.os, "fork"), reason="needs fork")
def test_a_training_that_is_killed_ends_as_without():
    found = _h5_kills.in_a_process(HERE, 3, seed=1)
    assert found["kills"] >= 3 and found["again"] == 0
    assert found["equal"] == found["trainings"] >= 1


def general(gap=-9.0, test=1.0, rival=2.0, r2=0.9, saturated=0.6, rise=3.0, overhead=1.05, begun=10, stuck=0):
    tests = {NONE: test, CONSTANT: rival, SHUFFLED: rival, FORWARD: 0.0}
    rows = [
        {"control": control, "pairs": 9} | {key + where: value + by for key, value in (("test", points), ("gap", gap))
         for where, by in (("", 0.0), ("_low", -1.0), ("_high", 1.0))}
        for control, points in tests.items()
    ]  # fmt: skip
    facts = {"dial": 1.0, "spearman": -0.9, "r2": r2, "spearman, lifted": -1.0, "r2, lifted": 1.0, "train": 0.75,
             "saturated": saturated, "rise": rise, "rise_low": rise - 1, "rise_high": rise + 1, "runs": 10,
             "begun": begun, "stuck": stuck, "samples": 2000, "overhead": overhead, "overhead_low": 1.0,
             "overhead_high": 1.2}  # fmt: skip
    return Evidence({"differences": Table("", rows)}, facts=facts)


@pytest.mark.parametrize(
    ("found", "verdict", "condition"),
    [
        (general(), "holds", ""),
        (general(r2=0.6), "holds if", "R² 0.60"),
        (general(saturated=0.2), "holds if", "in 20% of runs"),
        (general(rise=0.5), "holds if", "eval rises"),
        (general(overhead=1.2), "holds if", "1.20× the time"),
        (general(rival=0.5), "holds if", "better than constant, the law's median and shuffled"),
        (general(gap=-0.5), "fails", ""),
        (general(begun=9), "fails", ""),
        (general(stuck=1), "fails", ""),
        (Evidence(), "unmeasured", ""),
    ],
)
def test_h9(found, verdict, condition):
    finding = h9_generalisation.judge(found)
    assert finding.verdict == verdict
    assert condition in finding.condition


def test_what_h9_measures(small):
    found = _h9_measure.measure(Run(seed=1, deadline=0.0))
    policies = {row["policy"]: row for row in found.rows("policies")}
    assert policies["constant 8"]["gap"] < policies["constant 1024"]["gap"]
    assert policies[NONE]["gap"] == pytest.approx(policies[NONE]["train"] - policies[NONE]["test"])
    assert {NONE, CONSTANT, "law_n", "reversed", SHUFFLED, FORWARD} == {r["control"] for r in found.rows("differences")}
    assert found.facts["begun"] == found.facts["runs"] and found.facts["stuck"] == 0
    assert found.facts["r2, lifted"] >= found.facts["r2"] - 0.01
    assert h9_generalisation.judge(found).verdict != "unmeasured"
