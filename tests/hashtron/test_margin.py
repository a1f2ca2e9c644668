import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.margin import TAU, capacity, gold_zone, in_gold_zone, margin, noise, population

counts = st.integers(0, 2**31 - 1)


@st.composite
def sums(draw):
    """S and M with |S| ≤ M, often near an edge of the gold zone."""
    votes = draw(counts)
    edge = draw(st.sampled_from([0, math.isqrt(votes), int(TAU * votes), votes]))
    size = draw(st.integers(max(0, edge - 2), min(votes, edge + 2)) | st.integers(0, votes))
    return draw(st.sampled_from([size, -size])), votes


def test_final_neurons_count_all_samples_and_hidden_ones_those_that_vote():
    assert population([10, 10], [4, 4], [True, False]).tolist() == [10, 4]
    assert population(10, 0, False) == 0


@pytest.mark.parametrize(
    ("total", "votes", "expected"), [(0, 10, 0.0), (-10, 10, 1.0), (3, 12, 0.25), (0, 0, 0.0), (2.5, 10, 0.25)]
)
def test_margin(total, votes, expected):
    assert margin(total, votes) == expected


@pytest.mark.parametrize(("votes", "expected"), [(1, 1.0), (100, 0.1), (10_000, 0.01), (0, 1.0)])
def test_noise(votes, expected):
    assert noise(votes) == expected


@pytest.mark.parametrize(
    ("total", "votes", "tau", "expected"),
    [
        (10, 100, 0.8, False),
        (11, 100, 0.8, True),
        (-11, 100, 0.8, True),
        (79, 100, 0.8, True),
        (80, 100, 0.8, False),
        (80, 100, 0.81, True),
        (10.5, 100, 0.8, True),
        (0, 0, 0.8, False),
        (1, 1, 1.0, False),
        (46340, 46340**2, 0.8, False),
        (46341, 46340**2, 0.8, True),
    ],
)
def test_gold_zone_excludes_both_edges(total, votes, tau, expected):
    assert in_gold_zone(total, votes, tau) == expected


@pytest.mark.parametrize(
    ("total", "votes", "expected"), [(0, 100, 100.0), (100, 100, 1.0), (-9, 100, 10.0), (0, 0, 1.0), (1, 1, 1.0)]
)
def test_capacity(total, votes, expected):
    assert capacity(total, votes) == expected


@given(sums())
def test_against_exact_arithmetic(drawn):
    total, votes = drawn
    size = abs(total)
    assert in_gold_zone(total, votes) == (size**2 > votes and size < TAU * votes)
    assert capacity(total, votes) == pytest.approx(float(max(Fraction(votes, size + 1), Fraction(1))), rel=1e-15)
    assert 1 <= capacity(total, votes) <= max(1, votes)
    assert margin(total, votes) == pytest.approx(float(Fraction(size, max(1, votes))), rel=1e-15)


@given(sums())
def test_the_zone_is_between_its_margins(drawn):
    total, votes = drawn
    low, high = gold_zone(votes)
    share = margin(total, votes)
    if abs(share - low) > 1e-12 and abs(share - high) > 1e-12:
        assert in_gold_zone(total, votes) == (low < share < high)


@given(st.lists(sums(), max_size=20))
def test_arrays_give_what_their_elements_give(pairs):
    totals, votes = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    for function in (margin, in_gold_zone, capacity):
        assert function(totals, votes).tolist() == [function(s, m).item() for s, m in pairs]


@given(sums(), st.integers(1, 5))
def test_capacity_falls_with_the_sum(drawn, more):
    total, votes = drawn
    larger = min(votes, abs(total) + more)
    assert capacity(larger, votes) <= capacity(total, votes)


def test_broadcasting():
    assert in_gold_zone(np.array([[20], [30]], np.int32), np.array([100, 50], np.uint32)).tolist() == [[True] * 2] * 2
    assert margin(np.array([1, 2, 3], np.int8), 4).tolist() == [0.25, 0.5, 0.75]
    assert margin(np.array([-128], np.int8), 128).tolist() == [1.0]


def test_what_cannot_be_is_refused():
    for wrong in (lambda: margin(11, 10), lambda: margin(math.nan, 10), lambda: capacity(0, -1)):
        with pytest.raises(InvalidValueError):
            wrong()
    for tau in (0, -1, 1.1, math.nan):
        with pytest.raises(InvalidValueError, match="tau"):
            in_gold_zone(1, 10, tau)
        with pytest.raises(InvalidValueError, match="tau"):
            gold_zone(10, tau)
    for wrong in (lambda: margin("3", 10), lambda: margin(1, 2.5), lambda: population(1.0, 1, True)):
        with pytest.raises(InvalidDTypeError):
            wrong()
    with pytest.raises(InvalidValueError, match=r"12\.5 of 10"):
        margin([1.0, 12.5], 10)
