import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.golden import PHI, fibonacci_hash, golden_indices, golden_sequence

FEW = settings(max_examples=80, deadline=None, derandomize=True)
starts = st.integers(-(2**70), 2**70)


def test_phi():
    assert pytest.approx(PHI + 1, rel=1e-15) == PHI**2


@FEW
@given(st.integers(0, 600), st.data())
def test_exactly_k_distinct_indices_of_n(n, data):
    k, start = data.draw(st.integers(0, n)), data.draw(starts)
    chosen = golden_indices(n, k, start=start)
    assert chosen.shape == (k,) and chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == k
    assert all(0 <= index < n for index in chosen.tolist())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1000, 4099])
def test_all_of_n_are_a_permutation(n):
    assert np.array_equal(np.sort(golden_indices(n, n)), np.arange(n))


@FEW
@given(st.integers(1, 300), st.data())
def test_a_smaller_choice_begins_a_larger_one(n, data):
    k = data.draw(st.integers(0, n - 1))
    start = data.draw(starts)
    assert np.array_equal(golden_indices(n, k + 1, start=start)[:k], golden_indices(n, k, start=start))


def test_choices_do_not_change_from_call_to_call_and_follow_start():
    assert np.array_equal(golden_indices(500, 100), golden_indices(500, 100))
    assert not np.array_equal(golden_indices(500, 100), golden_indices(500, 100, start=7))


def test_few_of_very_many():
    chosen = golden_indices(2**53, 1000)
    assert len(set(chosen.tolist())) == 1000
    assert chosen.max() < 2**53


@FEW
@given(st.integers(1, 500), starts)
def test_gaps_on_the_circle_have_at_most_three_lengths(k, start):
    indices = np.arange(k, dtype=np.uint64) + np.uint64(start % 2**64)
    points = sorted(fibonacci_hash(indices, 64).tolist())  # the same points, before they are rounded to floats
    gaps = {(b - a) % 2**64 for a, b in zip(points, [*points[1:], points[0]], strict=True)}
    assert len(gaps) <= 3
    rounded = np.sort(golden_sequence(k, start=start))
    assert np.abs(rounded - np.array(points, dtype=np.float64) * 2.0**-64).max() <= 2.0**-52


@FEW
@given(st.integers(2, 400), st.data())
def test_chosen_indices_are_evenly_spread(n, data):
    k = data.draw(st.integers(1, n))
    chosen = np.sort(golden_indices(n, k))
    for width in range(1, n + 1, max(1, n // 10)):
        inside = np.count_nonzero(chosen < width)
        assert abs(inside - k * width / n) <= 2 + 1.5 * np.log2(k + 1)


@FEW
@given(st.integers(0, 300), starts)
def test_points_lie_in_the_unit_interval_and_follow_the_golden_ratio(k, start):
    points = golden_sequence(k, start=start)
    assert points.dtype == np.float64 and points.shape == (k,)
    assert np.all((points >= 0) & (points < 1))
    steps = np.diff(points) % 1
    assert np.abs(steps - 1 / PHI).max(initial=0) < 1e-12


@FEW
@given(st.integers(-(2**80), 2**80), st.integers(1, 64))
def test_hash_of_an_integer_is_the_upper_bits_of_the_product(key, bits):
    assert fibonacci_hash(key, bits) == (key * 0x9E3779B97F4A7C15) % 2**64 // 2 ** (64 - bits)


@FEW
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(1, 64))
def test_arrays_hash_like_their_integers(keys, bits):
    signed = np.array(keys, dtype=np.int64)
    expected = [fibonacci_hash(key, bits) for key in keys]
    for array in (signed, signed.view(np.uint64)):
        hashed = fibonacci_hash(array, bits)
        assert hashed.dtype == np.uint64
        assert hashed.tolist() == expected


def test_hash_keeps_the_shape_down_to_a_single_number():
    assert fibonacci_hash(np.zeros((2, 3), dtype=np.int32), 8).shape == (2, 3)
    assert fibonacci_hash(np.array(3), 8).shape == ()
    assert fibonacci_hash(np.uint8(3), 8) == fibonacci_hash(3, 8)


def test_hash_spreads_consecutive_keys_evenly():
    counts = np.bincount(fibonacci_hash(np.arange(1024, dtype=np.uint64), 6).astype(np.int64), minlength=64)
    assert counts.min() >= 14 and counts.max() <= 18


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: golden_indices(5, 6), InvalidValueError, "k is 6 of n = 5"),
        (lambda: golden_indices(5, -1), InvalidValueError, "k is -1"),
        (lambda: golden_indices(-1, 0), InvalidValueError, "n is -1"),
        (lambda: golden_indices(5.0, 2), InvalidDTypeError, "n is 5.0 of type float"),
        (lambda: golden_sequence(-1), InvalidValueError, "k is -1"),
        (lambda: golden_sequence(True), InvalidDTypeError, "bool"),
        (lambda: fibonacci_hash(1, 0), InvalidValueError, "bits is 0"),
        (lambda: fibonacci_hash(1, 65), InvalidValueError, "bits is 65"),
        (lambda: fibonacci_hash("a", 8), InvalidDTypeError, "key is 'a'"),
        (lambda: fibonacci_hash(np.zeros(2), 8), InvalidDTypeError, "float64"),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
