import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.hashtron.languages import edit_distances, error_rate, phoneme_error_rate

SAID = st.lists(st.sampled_from(["a", "aː", "t͡s", "t"]), max_size=7).map(tuple)


@functools.cache
def plainly(one, two):
    if not one or not two:
        return len(one) + len(two)
    return min(plainly(one[1:], two) + 1, plainly(one, two[1:]) + 1, plainly(one[1:], two[1:]) + (one[0] != two[0]))


@settings(deadline=None)
@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=5))
def test_distances_are_those_of_the_definition(pairs):
    found, expected = zip(*pairs, strict=True)
    assert edit_distances(found, expected).tolist() == [plainly(*pair) for pair in pairs]


@settings(deadline=None)
@given(SAID, SAID, SAID)
def test_distances_are_a_metric_and_bounded(one, two, three):
    there, back, onward, over = edit_distances([one, two, two, one], [two, one, three, three]).tolist()
    assert (there == 0) == (one == two)
    assert there == back
    assert over <= there + onward
    assert abs(len(one) - len(two)) <= there <= max(len(one), len(two))


@settings(deadline=None)
@given(st.lists(st.tuples(SAID, SAID.filter(len)), min_size=1, max_size=5))
def test_rate(pairs):
    found, expected = zip(*pairs, strict=True)
    rate = phoneme_error_rate(found, expected)
    assert (rate == 0) == (found == expected)
    most = sum(max(len(one), len(two)) for one, two in pairs)
    assert 0 <= rate <= most / sum(map(len, expected))
    assert phoneme_error_rate([()] * len(pairs), expected) == 1


def test_compiled_is_plain(monkeypatch):
    random = np.random.default_rng(0)
    said = [[random.choice(list("abc"), random.integers(0, 9)).tolist() for _ in range(50)] for _ in range(2)]
    compiled = edit_distances(*said)
    monkeypatch.setattr(error_rate, "_distances", error_rate._all_distances)
    np.testing.assert_array_equal(compiled, edit_distances(*said))


def test_refusals_and_nothing():
    assert edit_distances([], []).shape == (0,)
    with pytest.raises(InvalidValueError, match="1 pronunciations for 2"):
        edit_distances([()], [(), ()])
    with pytest.raises(InvalidValueError, match="at least one"):
        phoneme_error_rate([("a",)], [()])
