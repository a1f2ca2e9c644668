"""The int8 product is equal to its NumPy reference bit for bit, for every instruction set that is at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product.kernels import avx2, int8_gemm, int8_panels
from tithe.product.kernels.int8_gemm import (
    available,
    instruction_sets,
    int8_matmul,
    int8_matmul_reference,
    int8_matmul_scaled,
    levels,
)
from tithe.simd import Emitter

needs_kernel = pytest.mark.skipif(not instruction_sets(), reason="no int8 kernel for this processor")
every_set = pytest.mark.parametrize("instructions", instruction_sets())
EDGES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 97, 129)
LEVELS = (*levels("avx2"), 1, 128)


def operands(seed: int, shape: tuple[int, int, int], level: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    m, k, n = shape
    low, high = max(-level, -128), min(level, 127)
    if kind == "random":
        a, b = rng.integers(low, high, (m, k), endpoint=True), rng.integers(low, high, (k, n), endpoint=True)
    elif kind == "signs":
        a, b = rng.choice([low, high], (m, k)), rng.choice([low, high], (k, n))
    else:  # all sums as large as they can be, with both ends present in a, so that its range is the widest
        a, b = np.full((m, k), low if kind == "low" else high), np.full((k, n), high)
        a[0, 0], b[-1, -1] = -a[0, 0] if level < 128 else 127, low
    return a.astype(np.int8), b.astype(np.int8)


@needs_kernel
@every_set
@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(
        st.sampled_from(EDGES), st.one_of(st.sampled_from(EDGES), st.integers(1, 1500)), st.integers(1, 80)
    ),
    level=st.sampled_from(LEVELS),
    kind=st.sampled_from(["random", "signs", "low", "high"]),
    order=st.sampled_from("CF"),
    seed=st.integers(0, 9),
)
def test_equals_reference(
    instructions: str, shape: tuple[int, int, int], level: int, kind: str, order: str, seed: int
) -> None:
    a, b = operands(seed, shape, level, kind)
    exact = int8_matmul_reference(a, b)
    np.testing.assert_array_equal(int8_matmul(a, np.asarray(b, order=order), instructions=instructions), exact)
    assert exact.dtype == np.int32


@needs_kernel
@every_set
@settings(max_examples=50, deadline=None)
@given(left=st.tuples(*[st.integers(-128, 127)] * 2), right=st.tuples(*[st.integers(-128, 127)] * 2))
def test_any_pair_of_ranges_is_exact(instructions: str, left: tuple[int, int], right: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(np.array(left, np.int8), (9, 200))
    b = rng.choice(np.array(right, np.int8), (200, 19))
    a[0], b[:, 0] = min(left), max(right, key=abs)
    a[1] = max(left)
    np.testing.assert_array_equal(int8_matmul(a, b, instructions=instructions), int8_matmul_reference(a, b))


@pytest.mark.skipif("avx2" not in instruction_sets(), reason="no AVX2")
def test_levels_are_where_kernels_change() -> None:
    groups = []
    for level in levels("avx2"):
        a = np.array([[-level, level]], np.int8)
        groups.append(int8_gemm._kernel(a, a.T, "avx2")[0].group)
        if level < 127:
            a = np.array([[-level - 1, level + 1]], np.int8)
            assert int8_gemm._kernel(a, a.T, "avx2")[0].group < groups[-1]
    assert groups == sorted(avx2.GROUPS, reverse=True)


@needs_kernel
@every_set
@pytest.mark.parametrize("number", [1, 2, 3])
def test_threads_do_not_matter(instructions: str, number: int) -> None:
    a, b = operands(1, (301, 700, 203), 63, "random")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number)
        result = int8_matmul(a, b, instructions=instructions)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(result, int8_matmul_reference(a, b))


@needs_kernel
@every_set
def test_longest_sums(instructions: str) -> None:
    a, b = operands(0, (2, (1 << 17) - 1, 3), 128, "low")
    a[:], b[:] = -128, -128
    exact = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(int8_matmul(a, b, instructions=instructions), exact)
    long = np.full((1, 1 << 17), -128, np.int8)
    with pytest.raises(InvalidValueError, match="may exceed int32"):
        int8_matmul(long, long.T, instructions=instructions)


@needs_kernel
@every_set
@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 129, 53), (64, 256, 48)])
@pytest.mark.parametrize("rank_one", [False, True])
def test_scaled(instructions: str, shape: tuple[int, int, int], rank_one: bool) -> None:
    a, b = operands(3, shape, 90, "random")
    rng = np.random.default_rng(4)
    row, u = rng.standard_normal((2, shape[0])).astype(np.float32)
    column, v = rng.standard_normal((2, shape[2])).astype(np.float32)
    extra = (u, v) if rank_one else ()
    expected = int8_matmul_reference(a, b).astype(np.float32) * row[:, None] * column
    if rank_one:
        expected += u[:, None] * v
    result = int8_matmul_scaled(a, b, row, column, *extra, instructions=instructions)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


@needs_kernel
def test_tensors_views_and_out() -> None:
    a, b = operands(5, (20, 40, 30), 63, "random")
    exact = int8_matmul_reference(a, b)
    out = np.empty((20, 30), np.int32)
    assert int8_matmul(torch.from_numpy(a), torch.from_numpy(b), out) is out
    np.testing.assert_array_equal(out, exact)
    np.testing.assert_array_equal(int8_matmul(np.asfortranarray(a), b), exact)
    np.testing.assert_array_equal(int8_matmul(a[::2], b[:, ::3]), int8_matmul_reference(a[::2], b[:, ::3]))
    a.flags.writeable = False
    np.testing.assert_array_equal(int8_matmul(a, b), exact)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
def test_empty(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b = np.zeros((m, k), np.int8), np.zeros((k, n), np.int8)
    assert int8_matmul(a, b).tolist() == np.zeros((m, n)).tolist()
    u, v = np.ones(m, np.float32), np.ones(n, np.float32)
    assert int8_matmul_scaled(a, b, u, v, u, v).tolist() == np.ones((m, n)).tolist()


def test_errors() -> None:
    a = np.zeros((3, 4), np.int8)
    one = np.ones(3, np.float32)
    with pytest.raises(InvalidDTypeError, match="int16"):
        int8_matmul(a.astype(np.int16), a.T)
    with pytest.raises(InvalidValueError, match="cannot be multiplied"):
        int8_matmul(a, a)
    with pytest.raises(InvalidValueError, match="no kernel for sse9"):
        int8_matmul(a, a.T, instructions="sse9")
    with pytest.raises(InvalidDTypeError, match="out is float64"):
        int8_matmul(a, a.T, np.zeros((3, 3)))
    with pytest.raises(InvalidValueError, match="out is"):
        int8_matmul(a, a.T, np.zeros((3, 4), np.int32))
    with pytest.raises(InvalidValueError, match="both or neither"):
        int8_matmul_scaled(a, a.T, one, one, one)
    with pytest.raises(InvalidValueError, match=r"\(3,\) is expected"):
        int8_matmul_scaled(a, a.T, one, one[:2])


def test_availability(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, sets, worth in (
        ((), (), False),
        (("avx2",), ("avx2",), True),
        (("avx2", "avx512f"), ("avx2",), False),
        (("avx2", "avx512f", "avx512vnni"), ("avx512vnni", "avx2"), True),
        (("avx2", "avxvnni"), ("avxvnni", "avx2"), True),
    ):
        monkeypatch.setattr(int8_gemm, "host_features", lambda features=features: frozenset(features))
        assert instruction_sets() == sets
        assert available() is worth
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not available()


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """VNNI kernels with their one instruction replaced by what it is defined to do, for processors that lack it."""
    plain = Emitter.call

    def call(self: Emitter, name: str, result: object, *args: object) -> object:
        if "vpdpbusd" not in name:
            return plain(self, name, result, *args)
        builder, (total, unsigned, signed) = self.builder, args
        lanes = result.count
        narrow, wide = (ir.VectorType(ir.IntType(bits), 4 * lanes) for bits in (8, 32))
        left = builder.zext(builder.bitcast(unsigned, narrow), wide)
        products = builder.mul(left, builder.sext(builder.bitcast(signed, narrow), wide))
        for q in range(4):
            total = builder.add(total, self.shuffle(products, products, [4 * i + q for i in range(lanes)]))
        return total

    monkeypatch.setattr(Emitter, "call", call)
    monkeypatch.setattr(int8_gemm, "multiply_tiles", numba.njit(nogil=True)(int8_panels.multiply_tiles.py_func))
    monkeypatch.setattr(int8_gemm, "instruction_sets", lambda: tuple(int8_gemm.KERNELS))
    yield


@needs_kernel
@pytest.mark.parametrize("instructions", ["avx512vnni", "avxvnni"])
def test_vnni_emulated(emulated: None, instructions: str) -> None:
    for shape in ((1, 1, 1), (5, 7, 9), (24, 64, 96), (37, 1029, 53), (13, 130, 33)):
        for kind in ("random", "signs", "low"):
            a, b = operands(0, shape, 128, kind)
            exact = int8_matmul_reference(a, b)
            np.testing.assert_array_equal(int8_matmul(a, b, instructions=instructions), exact)
            np.testing.assert_array_equal(int8_matmul(a, np.asfortranarray(b), instructions=instructions), exact)
