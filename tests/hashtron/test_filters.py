"""Filters answer as those of the reference, and every key they were made from rightly."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import LARGEST, vectors

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron import Filter
from tithe.hashtron.kernels import compiled, plain

KEYS = st.one_of(st.integers(0, 40), st.integers(0, LARGEST), st.integers(0, (1 << 64) - 1))


@pytest.mark.parametrize("vector", vectors("quaternary_vectors"), ids=lambda v: str(v["n"]))
def test_every_vector(vector: dict, loops: ModuleType) -> None:
    filter = Filter.from_hex(vector["filter"])
    probes = np.arange(200, dtype=np.uint64) * 7919
    assert filter[probes].astype(int).tolist() == vector["probe_i_times_7919"]
    keys, answers = vector["keys"] or [], vector["vals"] or []
    assert [filter[key] for key in keys] == [bool(answer) for answer in answers]
    made = Filter.make(keys, answers)
    assert len(made.cells) <= 1.5 * len(filter.cells) + 1  # its keys came in no particular order
    assert made[np.array(keys, np.uint64)].tolist() == [bool(answer) for answer in answers]


@settings(deadline=None)
@given(answers=st.dictionaries(KEYS, st.booleans(), max_size=200), seed=st.integers(0, 9))
@example(answers={0: True, 420: False, LARGEST: False}, seed=0)
def test_answers_what_it_was_made_from(answers: dict[int, bool], seed: int) -> None:
    filter = Filter.make(np.array(list(answers), np.uint64), list(answers.values()))
    assert [filter[key] for key in answers] == list(answers.values())
    shuffled = np.random.default_rng(seed).permutation(np.array(list(answers), np.uint64))
    assert Filter.make(shuffled, [answers[int(key)] for key in shuffled]) == filter
    assert Filter.from_hex(filter.hex()) == filter


@pytest.mark.parametrize("count", [100, 1000, 10_000])
def test_sizes(count: int) -> None:
    """Three eighths of a byte for a random key, or half as much again."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        keys = rng.integers(0, 1 << 64, count, np.uint64)
        filter = Filter.make(keys, rng.integers(0, 2, count))
        assert 3 / 8 * count <= len(filter.cells) <= 0.6 * count


def test_keys_that_keep_crossing_make_it_grow(loops: ModuleType) -> None:
    """As the reference's algorithm has it; their order makes no difference."""
    assert len(Filter.make([0, 420, LARGEST], [True, False, False]).cells) == 140


@settings(deadline=None, max_examples=50)
@given(keys=st.sets(KEYS, min_size=1, max_size=60), cells=st.binary(min_size=1, max_size=9), size=st.integers(1, 30))
def test_both_loops_agree(keys: set[int], cells: bytes, size: int) -> None:
    array = np.array(sorted(keys), np.uint64)
    stored = np.frombuffer(cells, np.uint8)
    assert (compiled.lookup(array, stored) == plain.lookup(array, stored)).all()
    answers = (array % np.uint64(3) == 0).astype(np.uint8)
    first, second = (module.fill(array, answers, size, len(array)) for module in (compiled, plain))
    assert (first is None) == (second is None)
    assert first is None or (first == second).all()


def test_a_filter_of_hops_ends(loops: ModuleType) -> None:
    assert not Filter(b"\xff")[np.arange(9)].any()


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
@pytest.mark.parametrize("filter", [Filter(), Filter(b"\x02")])
def test_answers_have_the_shape_of_the_keys(shape: tuple[int, ...], filter: Filter) -> None:
    assert filter[np.ones(shape, np.int64)].shape == shape
    assert filter[np.int64(1)] is filter[1] is True


def test_a_repeated_key_is_one_key() -> None:
    assert Filter.make([5, 5, 8], [False, False, True]) == Filter.make([8, 5], [True, False])


def test_refuses() -> None:
    with pytest.raises(InvalidValueError, match="key 7 has two answers"):
        Filter.make([7, 7], [True, False])
    with pytest.raises(InvalidValueError, match="-3 is negative"):
        Filter.make([-3], [True])
    with pytest.raises(InvalidValueError, match="both must be"):
        Filter.make([1, 2], [True])
    with pytest.raises(InvalidDTypeError, match="float64"):
        Filter.make([0.5], [True])
    for key in ("key", [1, 2, 3], (1,), 1.0, True, None):
        with pytest.raises(InvalidDTypeError, match="integer"):
            Filter.from_hex("0200")[key]  # type: ignore[call-overload]
    for text in ("0", "zz", "0x"):
        with pytest.raises(InvalidValueError, match="hexadecimal"):
            Filter.from_hex(text)
