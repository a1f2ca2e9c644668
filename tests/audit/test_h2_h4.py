"""The judges of H2 to H4 on figures that are made up, and what they measure, in small, on real data."""

import itertools

import numpy as np
import pytest

from tithe.audit import Evidence, Run, Table, hashtron_samples, sum_scans
from tithe.audit.claims import _h2_measure, _h3_measure, _h4_measure, h2_sum_cache, h3_capacity_law, h4_selection
from tithe.audit.claims.h2_sum_cache import DAMAGED, KILLED, TORN
from tithe.audit.hashtron_runs import ORDERS, Training, trainings
from tithe.audit.hashtron_tasks import COLUMNS, majority_network, present, split
from tithe.errors import InvalidValueError
from tithe.hashtron.backward.dampers import FixedPercent, MovingAverage
from tithe.hashtron.backward.histories import Sums
from tithe.hashtron.backward.law import CapacityLaw
from tithe.hashtron.backward.policies import policy

HERE = "breast cancer"


@pytest.fixture
def small(monkeypatch):
    """The one task whose data come with the package, and few records."""
    for module in (_h2_measure, _h3_measure, _h4_measure):
        monkeypatch.setattr(module, "present", lambda: (HERE,))
    monkeypatch.setattr(_h2_measure, "_RECORDS", 20_000)


@pytest.mark.parametrize("task", ["Italian s", "French last letter", "MNIST 4 or 9", HERE])
def test_a_task_is_split_by_groups_and_its_test_samples_stay(task):
    if task not in present():
        pytest.skip("its data are not here")
    one, other = split(task, 0), split(task, 1)
    assert one.known[0].shape == (len(one.groups), COLUMNS) and set(one.known[1].tolist()) == {0, 1}
    assert (one.test[1] == other.test[1]).all()
    assert len(one.test[0]) != len(other.test[0]) or (one.test[0] != other.test[0]).any()  # seen through other tuples
    later = [one.fold(number) for number in range(4)]
    assert sum(len(part[1][1]) for part in later) == len(one.groups)
    held = {frozenset(one.groups[one.groups % 4 == number].tolist()) for number in range(4)}
    assert all(not a & b for a, b in itertools.combinations(held, 2))


def test_keys_hold_all_values_of_a_tuple_and_nothing_else():
    values = np.array([[1, 2, 3], [1, 2, 0], [3, 2, 1]])
    keys = hashtron_samples._tuples(values, [np.array([0, 1]), np.array([0, 2])], 2)
    assert keys.tolist() == [[0b1001, 0b1101], [0b1001, 0b0001], [0b1011, 0b0111]]
    with pytest.raises(InvalidValueError, match="there is no task 'chess'; use one of Italian s"):
        split("chess", 0)


def test_every_order_trains_all_once_and_differs_in_nothing_else():
    samples = split(HERE, 0)
    made = {
        name: list(trainings(samples.known, samples.test, policy("law"), seed=0, count=COLUMNS, order=order))
        for name, order in ORDERS.items()
    }
    for name, steps in made.items():
        assert sorted(step.position for step in steps) == list(range(COLUMNS)), name
        assert all(step.sums.samples == len(samples.groups) for step in steps)
    firsts = {name: steps[0].position for name, steps in made.items()}
    assert firsts["gold zone"] == firsts["gold zone, sums taken anew"] != firsts["farthest from it"]
    again = list(trainings(samples.known, samples.test, policy("law"), seed=0, count=COLUMNS))
    assert again == made["at random"] and again != made["gold zone"]


def test_a_network_begins_with_a_majority():
    answers = majority_network(0).neurons[-1].forward(np.arange(1 << 15))
    assert (answers == (np.bitwise_count(np.arange(1 << 15)) > 7)).all()


def cached(size=69.0, low=1e-4, ratio=5e-4, same=True, right=5, averages=46, stale=True, reopened=True):
    costs = [{"query": query, "scan": "NumPy", "seconds": 1e-6, "scan_seconds": 1e-3, "ratio": ratio, "low": low,
              "high": 2 * ratio, "same": same} for query in ("latest sum", "gold zone")]  # fmt: skip
    survival = [{"what": what, "tries": 5, "right": right, "lost": 0} for what in (KILLED, TORN, DAMAGED)]
    facts = {"bytes": size, "averages": averages, "neurons": 46, "stale": stale, "reopened": reopened}
    return Evidence({"costs": Table("", costs), "survival": Table("", survival)}, facts=facts)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (cached(), "holds"),
        (cached(low=2e-3, ratio=3e-3), "holds if"),
        (cached(low=9e-4, ratio=3e-3), "holds"),
        (cached(size=101), "fails"),
        (cached(right=4), "fails"),
        (cached(averages=45), "fails"),
        (cached(same=False), "fails"),
        (cached(stale=False), "fails"),
        (cached(reopened=False), "fails"),
        (Evidence(), "unmeasured"),
    ],
)
def test_h2(found, verdict):
    assert h2_sum_cache.judge(found).verdict == verdict


def test_what_h2_measures(small):
    found = _h2_measure.measure(Run(seed=2))
    survival = {row["what"]: row for row in found.rows("survival")}
    assert {KILLED, TORN, DAMAGED} == set(survival)
    assert all(row["right"] == row["tries"] > 0 for row in survival.values())
    assert survival[KILLED]["lost"] == 0 < survival[TORN]["lost"]
    assert found.facts["reopened"] and found.facts["stale"] and found.facts["averages"] == found.facts["neurons"]


def test_what_was_changed_is_noticed(tmp_path, monkeypatch):
    records = sum_scans.draw(60, 5)
    row = _h2_measure.survived(tmp_path, records, DAMAGED, 12, seed=0)
    assert row["right"] == 12
    other = records.copy()
    other["votes"][:] = 1
    real = _h2_measure.SumCache
    written = iter([other])

    class Lying(real):
        def extend(self, rows):
            super().extend(next(written, rows) if len(self) == 0 else rows)

    monkeypatch.setattr(_h2_measure, "SumCache", Lying)
    assert _h2_measure.survived(tmp_path / "other", records, TORN, 6, seed=0)["right"] < 6


def law(free=0.97, clamped=0.94, gap=-10.0, constant=2.0, shuffled=2.0, broken=0):
    adapted = [{"limits": h3_capacity_law.UNLIMITED, "least": free}, {"limits": h3_capacity_law.CLAMPED,
               "least": clamped}]  # fmt: skip
    rows = [
        {"control": control, "pairs": 9} | {key + end: value + by for key, value in (("test", test), ("gap", apart))
         for end, by in (("", 0.0), ("_low", -1.0), ("_high", 1.0))}
        for control, test, apart in (("none", 1.0, gap), ("constant, the law's median", constant, 0.0),
                                     ("shuffled", shuffled, 0.0), ("reversed", 5.0, 5.0))
    ]  # fmt: skip
    facts = {"broken": broken, "checked": 10, "overflows from": 65536, "wrapped": 0, "pivotal": 0.06,
             "bound by law": 0.6, "bound by law_n": 0.0}  # fmt: skip
    return Evidence({"adaptation": Table("", adapted), "differences": Table("", rows)}, facts=facts)


@pytest.mark.parametrize(
    ("found", "verdict", "condition"),
    [
        (law(), "holds", ""),
        (law(clamped=0.6), "holds if", "nothing limits the change"),
        (law(constant=0.5), "holds if", "constant, the law's median test as well"),
        (law(constant=0.5, shuffled=0.0), "holds if", "constant, the law's median and shuffled test as well"),
        (law(free=0.6), "fails", ""),
        (law(gap=-0.5), "fails", ""),
        (law(broken=1), "fails", ""),
        (Evidence(), "unmeasured", ""),
    ],
)
def test_h3(found, verdict, condition):
    finding = h3_capacity_law.judge(found)
    assert finding.verdict == verdict
    assert condition in finding.condition


def test_the_formula_keeps_its_bounds_and_a_broken_one_does_not(monkeypatch):
    facts = _h3_measure.formula(0, 300)
    assert (facts["broken"], facts["overflows from"], facts["wrapped"]) == (0, 65_536, 0)
    monkeypatch.setattr(_h3_measure, "premodulo_of", lambda total, most: min(most, total * total + 1))
    assert _h3_measure.formula(0, 300)["broken"] > 100


def test_limits_and_dampers_take_the_swing_out():
    decades = [_h3_measure.swing(each) for each in (CapacityLaw(most_change=None), CapacityLaw(),
               CapacityLaw(damper=MovingAverage(4)), CapacityLaw(damper=FixedPercent(20)))]  # fmt: skip
    assert decades == pytest.approx([6, 1, 0, np.log10(1.2)], abs=0.02)


def test_correlations_of_what_follows_and_of_what_does_not():
    def steps(premodulos):
        return [Training(0, Sums(s, 99, 500), 20, p, 0.9, 0.8) for s, p in zip((0, 9, 98), premodulos, strict=True)]

    law = _h3_measure.correlations(steps([9801, 98, 1]))
    assert law["spearman"] == -1 and law["r2"] > 0.99 and law["linear"] < 0.5
    assert _h3_measure.correlations(steps([64, 64, 64]))["r2"] == 0


def test_what_h3_measures(small, monkeypatch):
    laws = dict(itertools.islice(_h3_measure._LAWS.items(), 2))
    monkeypatch.setattr(_h3_measure, "_LAWS", laws)
    found = _h3_measure.measure(Run(seed=1, deadline=0.0))
    against = {row["control"] for row in found.rows("differences")}
    assert {"none", "constant, the law's median", "law_n", "reversed", "shuffled"} == against
    assert len(found.rows("adaptation")) == 2 and "of 3 seeds, for want of time" in found.notes[-1]
    assert found.facts["bound by law_n"] < found.facts["bound by law"]
    assert h3_capacity_law.judge(found).verdict in ("holds", "holds if", "fails")


def selected(random=1.0, opposite=1.0, end=0.5, fresh=None, half=0.5):
    def row(order, over, mean):
        return {"order": order, "over": over, "pairs": 15, "mean": mean, "mean_low": mean - half,
                "mean_high": mean + half, "end": end, "end_low": end - half, "end_high": end + half}  # fmt: skip

    rows = [
        row(h4_selection.GOLD, h4_selection.RANDOM, random),
        row(h4_selection.GOLD, h4_selection.OPPOSITE, opposite),
    ]
    rows += [] if fresh is None else [row(h4_selection.FRESH, h4_selection.RANDOM, fresh)]
    facts = {"gold": 0.96, "networks": 6, "pairs, majority": 0, "pairs, trained": 1}
    return Evidence({"differences": Table("", rows)}, facts=facts)


@pytest.mark.parametrize(
    ("found", "verdict", "condition"),
    [
        (selected(), "holds", ""),
        (selected(random=0.3, fresh=1.0), "holds if", "asked again before every choice"),
        (selected(random=0.3), "holds if", "the other choice is the neuron farthest"),
        (selected(random=0.3, end=-0.2), "fails", ""),
        (selected(random=0.3, opposite=0.3, fresh=-1.0), "fails", ""),
        (Evidence(), "unmeasured", ""),
    ],
)
def test_h4(found, verdict, condition):
    finding = h4_selection.judge(found)
    assert finding.verdict == verdict
    assert condition in finding.condition


def test_what_h4_measures(small):
    found = _h4_measure.measure(Run(seed=1, deadline=0.0))
    assert [row["order"] for row in found.rows("orders")] == [name for name in ORDERS if name != h4_selection.FRESH]
    assert all(row["pairs"] == 3 for row in found.rows("differences"))
    assert found.facts["pairs, majority"] == 0 and 0 < found.facts["gold"] <= 1
    assert "gold zone" in h4_selection.judge(found).summary.lower()
