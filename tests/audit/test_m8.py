"""M8's judge on figures that are made up, its kernels, and its measurement of one of them."""

import math

import pytest
import torch

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m8_measure
from tithe.audit.claims._m8_kernel import (
    HORIZON,
    POINTS,
    best_of_rank,
    block_error,
    inside,
    kernel,
    proper_length,
    radii,
    root,
)
from tithe.audit.claims.m8_page_curve import CLAIM, CURVE, MOST, STRATEGY_ERRORS, judge
from tithe.product.estimators import STRATEGIES


def evidence(**kernels):
    """Of each kernel the errors by strategy at most anchors, those of islands as a factor of the claimed curve."""
    rows = []
    for name, given in kernels.items():
        errors = {**STRATEGY_ERRORS, "golden": 0.05, **given}
        factor = errors.pop("islands") if "islands" in given else 0.9
        high = errors.pop("high", None)
        rows += [
            {"kernel": name, "anchors": n, "strategy": "islands", "share": 0.8, "error": factor * claimed,
             "high": high and high * claimed}
            for n, claimed in CURVE.items()
        ]  # fmt: skip
        rows += [
            {"kernel": name, "anchors": MOST, "strategy": strategy, "share": 0.6, "error": error, "high": None}
            for strategy, error in errors.items()
            if strategy != "islands"
        ]
    times = [{"strategy": "islands", "anchors": MOST, "share": 0.8, "time": 3.0}]
    return Evidence({"errors": Table("", rows), "times": Table("", times)}, facts={"block share": 1 / 64})


def test_holds_where_every_kernel_reaches_the_curve_in_order():
    assert judge(evidence(a={}, b={"random": 0.2})).verdict == "holds"


def test_holds_if_names_the_kernels_and_what_the_others_miss():
    finding = judge(evidence(fitting={}, rough={"islands": 2.0}, smooth={"random": 0.001}))
    assert finding.verdict == "holds if"
    assert finding.condition.startswith("the kernel is fitting (")
    assert "1 of 3 kernels" in finding.summary and "80% of the multiply–adds" in finding.summary
    assert "anchors: rough: islands 59 / 8.6 / 7%, random anchors 14%." in finding.reason
    assert "Random anchors are enough where the kernel is smooth." in finding.reason
    assert "300% of the seconds" in finding.reason and "exact for 1.6% of the multiply–adds" in finding.reason


@pytest.mark.parametrize(
    "given", [{"islands": 1.1}, {"high": 1.1}, {"exterior": 0.9}, {"ring": 0.1}, {"random": 0.02}, {"random": 0.9}]
)
def test_fails_where_a_figure_or_the_order_is_missed(given):
    assert judge(evidence(a=given)).verdict == "fails"


def test_unmeasured_without_kernels_and_always_the_same():
    assert judge(Evidence()).verdict == "unmeasured"
    found = evidence(a={}, b={"islands": 2.0})
    assert judge(found) == judge(found)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def r():
    return radii(generator())


def test_half_of_the_points_lie_within_the_horizon(r):
    assert len(r) == POINTS
    assert float(r[0]) > 0 and float(r[HORIZON - 1]) < 1 < float(r[HORIZON])
    assert bool((r.diff() > 0).all())
    assert not torch.equal(r, radii(generator(1)))


def test_proper_length_is_the_integral_of_the_metric():
    """Of 1/√|1 − 1/r|, its singular point at the horizon taken out by r = 1 ± t²."""
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    within = (2 * (1 - t * t).sqrt()).mean()  # r = 1 − t²
    beyond = (2 * (1 + 3 * t * t).sqrt()).mean() * math.sqrt(3)  # r = 1 + 3t²
    lengths = proper_length(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
    assert float(lengths[0]) == 0
    assert float(lengths[1]) == pytest.approx(float(within), rel=1e-6)
    assert float(lengths[2] - lengths[1]) == pytest.approx(float(beyond), rel=1e-6)


@pytest.mark.parametrize("along", ["radius", "proper length"])
@pytest.mark.parametrize("shape", ["Gaussian", "exponential"])
def test_kernels_are_squares_of_their_roots_and_largest_at_the_centre(r, along, shape):
    K = kernel(r, along, shape, 0.5)
    S = root(*torch.linalg.eigh(K))
    torch.testing.assert_close(S @ S, K, rtol=0, atol=1e-12 * float(K.max()))
    torch.testing.assert_close(K.diagonal(), (1 - 1 / r).abs())
    x = r if along == "radius" else proper_length(r)
    step = float(x[200] - x[10]) / 0.5
    fall = math.exp(-step if shape == "exponential" else -(step**2) / 2)
    assert float(K[10, 200]) == pytest.approx(fall * math.sqrt(float(K[10, 10] * K[200, 200])), rel=1e-9)


def test_best_of_rank_is_that_of_the_singular_values(r):
    C = kernel(r, "radius", "exponential", 0.5)
    U, values, V = torch.linalg.svd(C)
    torch.testing.assert_close(best_of_rank(*torch.linalg.eigh(C), 5), (U[:, :5] * values[:5]) @ V[:5])


def test_lines_inside_the_block_restore_what_their_rank_allows():
    G = torch.randn(64, 4, generator=generator(), dtype=torch.float64)
    C = G @ G.T
    assert block_error(inside(C, 20, 4, generator()), C, 20) < 1e-9
    assert block_error(inside(C, 20, 3, generator()), C, 20) > 0.01


@pytest.fixture(scope="module")
def measured(r):
    K = kernel(r, "radius", "exponential", 0.5)
    found = _m8_measure._errors(Run(mode="full"), K, int((r < 0.25).sum()), 0)
    return {(anchors, strategy): error for anchors, strategy, error in found}


def test_every_strategy_is_measured_at_every_point_of_the_curve(measured):
    assert {(n, s) for n in CURVE for s in STRATEGIES} <= set(measured)
    assert measured[MOST, "exterior"] > 0.99
    assert measured[MOST, "islands"] < measured[MOST, "random"] < measured[MOST, "ring"]


def test_nothing_of_its_rank_beats_the_best_of_the_block(measured):
    for (anchors, strategy), error in measured.items():
        assert error >= measured[anchors, "best rank of the block"] * (1 - 1e-9), strategy


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_have_as_many_anchors_as_they_are_counted_with(strategy, r):
    S = root(*torch.linalg.eigh(kernel(r, "radius", "exponential", 0.5)))
    pair = _m8_measure.Pair(S, S)
    for anchors in CURVE:
        rows = anchors + max(8, anchors // 3)
        assert _m8_measure._anchor_rows(_m8_measure._anchored(strategy, anchors), pair) == rows


def test_rows_are_geometric_means():
    (row,) = _m8_measure._rows({("k", 3, "golden"): [1e-4, 1e-2]})
    assert row["error"] == pytest.approx(1e-3)
    assert row["low"] < 1e-3 < row["high"] and row["seeds"] == 2


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "holds if"
    assert "exponential in radius, 0.5 wide" in finding.condition
