"""The judges of L1 to L4 on figures that are made up, and what they measure, in small."""

import numpy as np
import pytest

from tithe.audit import Evidence, Run, Table, lattice_arms, lattice_work
from tithe.audit.claims import _l4_measure, l1_order, l2_threshold, l3_epoch, l4_switches
from tithe.audit.lattice_arms import ARMS, FIFO, WAITED, Spent, race, saved
from tithe.audit.lattice_order import READY, begun_by_lattice
from tithe.audit.lattice_work import INDEPENDENT, SHARED, TRAINING, Work


@pytest.fixture
def small(monkeypatch):
    """Digits of scikit-learn instead of a set that takes seconds to read."""
    found = lattice_work.load("digits")
    digits = "digits", found.train_x.astype(np.float32) / 16, found.train_y.astype(np.int64)
    monkeypatch.setattr(lattice_work, "images", lambda: digits)


def orders(sketch=0.0, ours=1.0, coherent=1.0, waited=900):
    def row(tasks, order, coherent, urgent):
        return {"tasks": tasks, "order": order, "coherent": coherent, "urgent": urgent}

    alone, shared = "each its own image", "four on each image"
    rows = [row(alone, l1_order.SKETCH, 1.0, 0.5), row(shared, l1_order.SKETCH, 1.0, sketch),
            row(alone, l1_order.OURS, coherent, ours), row(shared, l1_order.OURS, coherent, 0.7)]  # fmt: skip
    wait = {"order": l1_order.OURS, "workers": 1, "waited": waited, "overtaken": 10, "bound": 1000, "overtaking": 100}
    sketched = {"order": l1_order.SKETCH, "workers": 1, "waited": 11_900, "overtaken": 11_900, "bound": None}
    return Evidence({"order": Table("", rows), "stream": Table("", [sketched | {"overtaking": None}, wait])})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (orders(), "holds if"),
        (orders(sketch=1.0, ours=0.0), "holds"),
        (orders(ours=0.94), "fails"),
        (orders(coherent=0.9), "fails"),
        (orders(waited=1001), "fails"),
        (Evidence(), "unmeasured"),
    ],
)
def test_l1(found, verdict):
    assert l1_order.judge(found).verdict == verdict


def test_the_sketch_runs_the_least_urgent_first_and_lattice_the_most_urgent(small):
    known, rng = [0.9, 0.5, 0.7], np.random.default_rng(0)
    data, urgency = np.arange(30) % 3, rng.permutation(30)
    assert [data[task] for task in l1_order._sketch(known, data, urgency)] == [0] * 10 + [2] * 10 + [1] * 10
    coherent, urgent = l1_order._kept(
        l1_order._sketch(known, data, urgency), np.array(known)[data], data, urgency, True
    )
    assert (coherent, urgent) == (1.0, 0.0)
    alone, same = list(range(30)), [0.6] * 30
    begun, values = begun_by_lattice(same, alone, urgency.tolist())
    assert [urgency[task] for task in begun] == sorted(urgency, reverse=True) and values == alone


def test_in_a_stream_a_bound_is_kept_which_the_sketch_has_not(monkeypatch):
    monkeypatch.setattr(l1_order, "_STREAM", 4_000)
    rows = [l1_order._in_lattice(workers) for workers in (1, 2)]
    assert all(0 < row["overtaken"] <= row["waited"] <= row["bound"] for row in rows)
    assert l1_order._in_sketch()["waited"] > 3_800


def thresholds(written=1.0, both=0.0, lost=0.2, ours=0.0, put_back=1.0):
    def rows(score, noise):
        return [{"score": score, "data": l2_threshold.STRUCTURED, "passes": 1.0},
                {"score": score, "data": l2_threshold.NOISE, "passes": noise}]  # fmt: skip

    scores = [*rows(l2_threshold.WRITTEN, written), *rows(l2_threshold.BOTH_AXES, both),
              *rows("share of power along one axis", 0.98)]  # fmt: skip
    fates = [{"order": l2_threshold.WRITTEN, "lost": lost, "put_back": None},
             {"order": l2_threshold.BOTH_AXES, "lost": 0.5, "put_back": None},
             {"order": l2_threshold.OURS, "lost": ours, "put_back": put_back}]  # fmt: skip
    return Evidence({"scores": Table("", scores), "fates": Table("", fates)})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (thresholds(), "holds if"),
        (thresholds(written=0.05, lost=0.0), "holds"),
        (thresholds(written=0.05), "holds if"),
        (thresholds(both=0.06), "fails"),
        (thresholds(ours=0.01), "fails"),
        (thresholds(put_back=0.9), "fails"),
        (Evidence(), "unmeasured"),
    ],
)
def test_l2(found, verdict):
    assert l2_threshold.judge(found).verdict == verdict


def test_noise_passes_along_one_axis_and_not_along_both():
    evidence = l2_threshold.CLAIM.measure(Run(seed=3))
    finding = l2_threshold.judge(evidence)
    passes = {(row["score"], row["data"]): row["passes"] for row in evidence.rows("scores")}
    assert finding.verdict == "holds if" and "both axes" in finding.condition
    assert passes["share of power along one axis", l2_threshold.NOISE] > 0.6
    assert passes[l2_threshold.BOTH_AXES, l2_threshold.NOISE] == 0
    assert passes[l2_threshold.WRITTEN, l2_threshold.NOISE] == 1
    assert evidence.rows("fates", order=l2_threshold.OURS)[0] == {"order": "Lattice", "lost": 0.0, "put_back": 1.0}


def pruned(*gains, unaccounted=0, over_random=0.1, scoring=0.1):
    rows = []
    for data, gain in zip((l3_epoch.CLEAN, l3_epoch.NOISY), gains, strict=True):
        row = {"data": data, "policy": l3_epoch.BY_COHERENCE, "subtasks": 48, "pruned": 12.0, "kept": 0.7,
               "unaccounted": unaccounted, "saved": 0.25, "scoring": scoring}  # fmt: skip
        for key, value in (("over_all", gain), ("over_random", over_random)):
            row |= {key: value, f"{key}_low": value - 0.05, f"{key}_high": value + 0.05}
        rows.append(row)
    return Evidence({"policies": Table("", rows)})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (pruned(0.0, 0.2), "holds"),
        (pruned(-0.2, 0.2), "holds if"),
        (pruned(-0.2, -0.1), "fails"),
        (pruned(0.0, 0.2, unaccounted=1), "fails"),
        (pruned(0.0, 0.2, over_random=0.04), "fails"),
        (pruned(0.0, 0.2, scoring=0.3), "fails"),
        (Evidence(), "unmeasured"),
    ],
)
def test_l3(found, verdict):
    finding = l3_epoch.judge(found)
    assert finding.verdict == verdict
    assert verdict != "holds if" or finding.condition == f"the data are {l3_epoch.NOISY}."


def test_what_is_pruned_is_reported_and_noise_is_a_waste(small):
    scene = l3_epoch._scene(6, 40, 0, True)
    ran = {policy: l3_epoch._epoch(scene, policy) for policy in (l3_epoch.ALL, l3_epoch.BY_COHERENCE, l3_epoch.RANDOM)}
    assert [each.unaccounted for each in ran.values()] == [0, 0, 0]
    assert [each.pruned for each in ran.values()] == [0, 6, 6]
    assert ran[l3_epoch.BY_COHERENCE].kept > max(ran[l3_epoch.ALL].kept, ran[l3_epoch.RANDOM].kept)


def savings(shared=(0.3, 0.3), waited=(0.3, 0.3), others=(0.0, 0.0), coherence=-0.1, half=0.05, misses=None):
    def row(units, **keys):
        for unit, value in zip(("switches", "cpu_seconds"), units, strict=True):
            keys |= {f"{unit}_saved": value, f"{unit}_saved_low": value - half, f"{unit}_saved_high": value + half}
        return keys | {f"cache_misses_saved{end}": misses for end in ("", "_low", "_high")}

    rows = [row(shared, work=SHARED, against=FIFO), row(waited, work=SHARED, against=WAITED)]
    rows += [row(others, work=work, against=name) for work in (TRAINING, INDEPENDENT) for name in (FIFO, WAITED)]
    part = row((coherence, -0.1), ingredient="coherence", arm="with", against="without")
    arms = [row(shared, work=SHARED, arm="any")]
    return Evidence({"against": Table("", rows), "ingredients": Table("", [part]), "arms": Table("", arms)})


@pytest.mark.parametrize(
    ("found", "verdict", "condition"),
    [
        (savings(others=(0.3, 0.3), coherence=0.1), "holds", ""),
        (savings(others=(0.3, 0.3)), "holds if", "coherence adds nothing"),
        (savings(coherence=0.1), "holds if", f"CPU time: the work is {SHARED}."),
        (
            savings(waited=(-2.0, 0.3)),
            "holds if",
            "context switches: the work is shared blocks, and the pool's results",
        ),
        (savings(shared=(0.19, 0.3)), "holds if", "what is counted is CPU time: the work is shared blocks;"),
        (savings(misses=0.25, others=(0.3, 0.3), coherence=0.1), "holds", ""),
        (savings(misses=0.1, others=(0.3, 0.3), coherence=0.1), "holds if", "CPU time: the work is shared blocks or"),
        (savings(shared=(0.1, 0.1), misses=0.25), "holds if", "what is counted is cache misses: the work is shared"),
        (savings(half=0.31), "fails", ""),
        (savings(shared=(0.19, 0.19)), "fails", ""),
        (Evidence(), "unmeasured", ""),
    ],
)
def test_l4(found, verdict, condition):
    finding = l4_switches.judge(found)
    assert finding.verdict == verdict
    assert condition in finding.condition


@pytest.mark.parametrize("make", [lattice_work.shared, lattice_work.training, lattice_work.independent])
def test_every_arm_makes_all_calls_and_gives_their_values_in_order(small, make):
    work = make(3)
    wanted = [task.fn(*task.args) for task in work.tasks]
    for name, arm in ARMS.items():
        with arm(work, 2) as go:
            found = go()
        values = found if isinstance(found, list) else found.results
        assert len(values) == len(wanted), name
        assert all(np.allclose(a, b, rtol=1e-4) for a, b in zip(values, wanted, strict=True)), name


def test_blocks_are_shared_only_where_they_should_be(small):
    assert {len(block) * 8 * 8 * 4 for block in lattice_work.shared(3).blocks} == {2 << 20}
    for make, users in ((lattice_work.shared, 12), (lattice_work.training, 8), (lattice_work.independent, 1)):
        work = make(3)
        counts = [sum(task.data is block for task in work.tasks) for block in work.blocks]
        assert counts == [users] * 3
        neighbours = zip(work.tasks, work.tasks[1:], strict=False)
        assert all(a.data is not b.data for a, b in neighbours), "others come between"


def test_a_race_gives_as_many_readings_of_each_and_a_saving_its_interval(small):
    readings = race(lattice_work.shared(2, 1), (FIFO, lattice_arms.IDENTITY), 3, 2)
    assert {name: len(spent) for name, spent in readings.items()} == {FIFO: 3, lattice_arms.IDENTITY: 3}
    assert all(spent.seconds > 0 and spent.cpu_seconds > 0 and spent.switches >= 0 for spent in readings[FIFO])
    short = race(lattice_work.shared(2, 1), (FIFO,), 9, 2, left=lambda: -1.0)
    assert len(short[FIFO]) == 4
    found = saved([Spent(1, 1, 5), Spent(1, 1, 20)], [Spent(1, 1, 10), Spent(1, 1, 10)], "switches")
    assert found.mean == pytest.approx(0) and found.low < 0 < found.high
    assert saved([Spent(1, 1, 0)], [Spent(1, 1, 4)], "switches") == (0.75, None, None)
    assert saved([Spent(1, 1, 0)], [Spent(1, 1, 4, 7)], "cache_misses") is None


def test_a_measurement_of_l4_has_what_the_judge_reads(small, monkeypatch):
    def tiny() -> Work:
        return lattice_work.shared(2, 1)

    monkeypatch.setattr(_l4_measure, "WORK", {SHARED: tiny, TRAINING: tiny, INDEPENDENT: tiny})
    evidence = _l4_measure.measure(Run(seed=1))
    assert {row["ingredient"] for row in evidence.rows("ingredients")} >= {"coherence", "order alone, by coherence"}
    finding = l4_switches.judge(evidence)
    assert finding.verdict != "unmeasured"
    assert all(name in finding.reason for name in (lattice_arms.BY_HAND, lattice_arms.PLAIN, lattice_arms.ORDERED))


def test_tasks_without_urgency_begin_by_coherence():
    scores = np.linspace(0.35, 0.95, READY)
    begun, values = begun_by_lattice(scores.tolist(), range(READY), fn=lambda number: -number)
    levels = (16 * scores[begun]).astype(int)
    assert (np.diff(levels) <= 0).all() and values == [-number for number in range(READY)]
