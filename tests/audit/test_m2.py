"""M2's judge on figures that are made up, and its measurement on a small scale."""

import math

import pytest

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims.m2_random_products import BEST_RANK, CLAIM, CLAIMED, judge

UNIFORM, GAUSSIAN = "uniform[0,1]", "Gaussian"


def evidence(uniform, gaussian, share=0.15, certified=(), **facts):
    """Errors as factors of the claimed ones, by size; a bound that is better than all of them but no method."""
    rows = [
        {"input": name, "method": method, "n": n, "share": cost, "error": factor * CLAIMED[n]}
        for name, factors in ((UNIFORM, uniform), (GAUSSIAN, gaussian))
        for n, one in factors.items()
        for method, cost, factor in (("m", share, one), ("dear", 0.9, 0.0), (BEST_RANK, None, min(one, 2.0)))
    ]
    return Evidence({"errors": Table("", rows), "certified": Table("", list(certified))}, facts=facts)


ALL = dict.fromkeys(CLAIMED, 0.9)
NONE = dict.fromkeys(CLAIMED, 20.0)


def test_holds_where_every_size_is_reached_on_both_inputs():
    assert judge(evidence(ALL, ALL)).verdict == "holds"


def test_fails_where_no_size_is_reached():
    finding = judge(evidence(NONE, NONE))
    assert finding.verdict == "fails"
    assert "Not even the best approximation of rank 0.2n" in finding.reason


def test_holds_if_names_input_and_sizes():
    finding = judge(evidence({**NONE, 64: 0.9, 8192: 1.0}, NONE))
    assert finding.verdict == "holds if"
    assert finding.condition == "the entries are uniform on [0, 1] and n is 64 or 8,192."
    assert "2 of 5 sizes" in finding.summary
    assert "none where they have none" in finding.summary


def test_holds_if_on_both_inputs_names_both():
    finding = judge(evidence({**ALL, 64: 2.0}, {**NONE, 512: 0.5}))
    assert "uniform on [0, 1] and n is 256, 512, 1,024 or 8,192; or " in finding.condition
    assert finding.condition.endswith("zero-mean Gaussian and n is 512.")


def test_more_than_a_fifth_of_the_work_does_not_count():
    assert judge(evidence(ALL, ALL, share=0.21)).verdict == "fails"


def test_seconds_count_where_they_are_named():
    row = {"input": GAUSSIAN, "n": 1024, "error": 0.0001, "time_high": 0.19}
    finding = judge(evidence(NONE, NONE, certified=[row]))
    assert finding.verdict == "holds if"
    assert "counted in seconds" in finding.condition
    assert judge(evidence(NONE, NONE, certified=[{**row, "time_high": 0.21}])).verdict == "fails"


def test_unmeasured_without_any_of_the_sizes():
    assert judge(Evidence()).verdict == "unmeasured"
    assert judge(evidence({}, {})).verdict == "unmeasured"


def test_sizes_that_were_not_measured_are_named():
    some = {64: 0.9, 256: 0.9}
    finding = judge(evidence(some, some))
    assert finding.verdict == "holds"
    assert "n = 64, 256" in finding.measured


def test_the_judge_does_not_change_its_mind():
    found = evidence({**NONE, 64: 0.9}, NONE)
    assert judge(found) == judge(found)


@pytest.fixture(scope="module")
def measured():
    from tithe.audit.claims import _m2_measure

    run = Run(seed=1)
    return [row for name in (UNIFORM, GAUSSIAN) for n in (64, 256) for row in _m2_measure._errors(run, name, n)]


def test_the_mean_part_errs_as_its_closed_form_says(measured):
    for row in measured:
        if row["method"] == "mean_field":
            assert row["error"] == pytest.approx(row["closed form"], rel=0.05)
            assert row["share"] < 0.03


def test_sampling_errs_as_its_closed_form_says(measured):
    rows = [row for row in measured if row["method"].startswith("sampled") and row["n"] == 256]
    assert len(rows) == 6
    for row in rows:
        assert row["error"] == pytest.approx(row["closed form"], rel=0.15)


def test_nothing_of_its_rank_beats_the_best_of_that_rank(measured):
    for row in measured:
        if row["share"] is not None and row["share"] < 0.25:
            best = next(r for r in measured if (r["method"], r["input"], r["n"]) == (BEST_RANK, row["input"], row["n"]))
            assert best["error"] < row["error"]


def test_blocks_have_the_error_of_the_whole():
    from tithe.audit.claims import _m2_measure

    A, B = _m2_measure.operands(Run(), UNIFORM, 2048, 0, (64, 128))
    assert (A.shape, B.shape) == ((64, 2048), (2048, 128))
    product, mean_part = A @ B, 2048 * A.mean(1)[:, None] * B.mean(0)
    assert float((product - mean_part).norm() / product.norm()) == pytest.approx(1 / (3 * math.sqrt(2048)), rel=0.05)


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "holds if"
    assert "n^−0.50" in finding.reason
