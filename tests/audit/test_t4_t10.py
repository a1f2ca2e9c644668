"""The verdicts on T4 and T10 follow from the figures, and a quick run measures them."""

import pytest

from tithe.audit.claim import Run
from tithe.audit.claims import t4_decisions, t10_populations
from tithe.audit.evidence import Evidence, Table
from tithe.audit.populations import SETTINGS, Task, arms, images, regrouping, shards


def decisions(source, ours):
    rows = [
        {"test": t4_decisions.SOURCE, "right": source, "together": 1.0, "apart": 1 - source},
        {"test": t4_decisions.OURS, "right": ours, "together": 1.0, "apart": 1 - ours},
    ]
    return Evidence({"tests": Table("", rows)}, facts={"plateaus": 0.6})


@pytest.mark.parametrize(
    ("source", "ours", "verdict"),
    [
        (0.33, 1.0, "holds if"),
        (1.0, 1.0, "holds"),
        (0.96, 0.2, "holds"),
        (0.33, 0.5, "fails"),
        (0.94, 0.95, "holds if"),
    ],
)
def test_t4(source, ours, verdict):
    assert t4_decisions.judge(decisions(source, ours)).verdict == verdict


def test_t4_without_figures():
    assert t4_decisions.judge(Evidence({"tests": Table("", [])})).verdict == "unmeasured"


def races(ours=(85.0, 84.0), low=(3.0, 3.0), pooled=84.0):
    def row(scene, arm, accuracy, over, low):
        return {"scene": scene, "arm": arm, "accuracy": accuracy, "over": over, "over_low": low, "over_high": over + 1}

    rows = []
    for scene, accuracy, lower in zip(("alike", "conflict"), ours, low, strict=True):
        rows.append(row(scene, t10_populations.OURS, accuracy, accuracy - 78, lower))
        rows.append(row(scene, t10_populations.POOLED, pooled, pooled - 78, 1.0))
        rows.append(row(scene, t10_populations.ALWAYS, 50.0, -28.0, -30.0))
    return Evidence({"arms": Table("", rows)})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (races(), "holds"),
        (races(pooled=86.0), "holds if"),
        (races(low=(3.0, -0.1)), "fails"),
        (races(low=(0.0, 3.0)), "fails"),
        (Evidence({"arms": Table("", [])}), "unmeasured"),
    ],
)
def test_t10(found, verdict):
    finding = t10_populations.judge(found)
    assert finding.verdict == verdict
    assert verdict != "holds if" or ("2.0" not in finding.condition and "1.0 points better" in finding.condition)


def test_shards_are_apart_and_relabelled():
    x = images("mnist", "held out")
    tasks = shards(x, [0, 0, 1], seed=0)
    assert all(isinstance(task, Task) and task.x.shape == (200, 196) for task in tasks)
    rows = {tuple(row.tolist()) for task in tasks for row in task.x}
    assert len(rows) >= 595  # a few images of digits are alike at this size
    pairs = set(zip(tasks[0].test_y.tolist(), tasks[2].test_y.tolist(), strict=True))
    assert len(pairs) == 10 and any(a != b for a, b in pairs) and len(x[2]) == 5000


def test_every_arm_runs_and_known_groups_are_no_worse_than_merging_always_under_conflict(monkeypatch):
    monkeypatch.setattr("tithe.audit.populations.STEPS", 100)
    tasks = shards(images("mnist", "held out"), [0, 0, 1, 1], seed=0)
    scores = {name: score() for name, score in arms(tasks, [[0, 1], [2, 3]], 0, SETTINGS["sgd"], 0.03)}
    assert len(scores) == 9 and all(20 < score < 95 for score in scores.values())
    assert scores["known groups"] > scores["always merge"] + 5
    assert scores["pooled, known groups"] > scores["independent"]


@pytest.mark.slow
def test_regrouping():
    found = regrouping("mnist", 3, SETTINGS["sgd"], 0.03)
    assert found["found"] == 75 and found["intervals"] <= 5


def test_a_quick_run_of_t4():
    finding = t4_decisions.CLAIM.judge(t4_decisions.CLAIM.measure(Run(seed=3)))
    assert finding.verdict == "holds if" and "33%" in finding.measured
