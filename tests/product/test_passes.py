"""The compiled passes and the plain torch ones give the same bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.product.kernels import passes
from tithe.product.kernels.lines import line_sums
from tithe.product.kernels.passes import quantise_lines, rescale, round_lines


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 70),
    seed=st.integers(0, 99),
    transposed=st.booleans(),
    level=st.sampled_from([31, 63, 127]),
)
@settings(max_examples=80, deadline=None)
def test_rounding_has_the_same_bits_with_and_without_numba(
    rows: int, columns: int, seed: int, transposed: bool, level: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(columns, rows, generator=g).T if transposed else torch.randn(rows, columns, generator=g)
    shift = None if seed % 3 == 0 else X.mean(1)
    fast, scale, squares = round_lines(X, shift, level)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "numba_can", lambda X: False)
        slow, same_scale, none = round_lines(X, shift, level)
    assert torch.equal(scale, same_scale)
    assert none is None
    torch.testing.assert_close(squares, X.double().square().sum(1), rtol=1e-5, atol=0)
    assert torch.equal(fast, slow)
    assert fast.abs().amax(1).tolist() == [level if s > 0 else 0 for s in scale.tolist()]
    assert fast.stride() == X.stride() or 1 in X.shape


@given(rows=st.integers(1, 40), columns=st.integers(1, 70), seed=st.integers(0, 99), plus=st.booleans())
@settings(max_examples=60, deadline=None)
def test_rescaling_has_the_same_bits_with_and_without_numba(rows: int, columns: int, seed: int, plus: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    sums = torch.randint(-(2**24), 2**24, (rows, columns), dtype=torch.int32, generator=g)
    r, c = torch.rand(rows, generator=g), torch.rand(columns, generator=g)
    extra = (torch.randn(rows, generator=g), torch.randn(columns, generator=g)) if plus else None
    expected = (sums.float() * r[:, None]) * c
    if extra is not None:
        expected = expected + extra[0][:, None] * extra[1]
    assert torch.equal(rescale(sums.clone(), r, c, extra), expected)
    assert torch.equal(rescale(sums.T.contiguous().T, r, c, extra), expected)


def test_rescaling_reuses_the_memory_of_the_sums() -> None:
    sums = torch.ones(8, 8, dtype=torch.int32)
    assert rescale(sums, torch.ones(8), torch.ones(8)).data_ptr() == sums.data_ptr()


def test_many_threads_do_what_one_does() -> None:
    X = torch.randn(1500, 700, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append([round_lines(view, None, 127)[0] for view in (X, X.T)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, many) for one, many in zip(*results, strict=True))


def test_constant_lines_become_zero() -> None:
    rounded, scale, _ = round_lines(torch.ones(2, 3), torch.ones(2), 127)
    assert not rounded.any()
    assert not scale.any()
    assert not quantise_lines(torch.ones(2, 3), torch.ones(2), torch.zeros(2)).any()


@settings(max_examples=30, deadline=None)
@given(lines=st.integers(1, 70), length=st.integers(1, 2100), order=st.sampled_from("CFS"), double=st.booleans())
def test_line_sums(lines: int, length: int, order: str, double: bool) -> None:
    X = torch.randn(lines, length, generator=torch.Generator().manual_seed(lines)) + 1
    X = {"C": X, "F": X.T.contiguous().T, "S": torch.cat((X, X), 1)[:, ::2]}[order]
    X = X.double() if double else X
    sums, squares = line_sums(X)
    torch.testing.assert_close(sums, X.double().sum(1), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(squares, X.double().square().sum(1), rtol=1e-5, atol=1e-3)


def test_line_sums_hide_nothing_that_is_not_a_number() -> None:
    sums, squares = line_sums(torch.tensor([[1.0, torch.nan], [torch.inf, 1.0], [1.0, 2.0]]))
    assert not (sums[:2].isfinite() | squares[:2].isfinite()).any()
    assert sums[2] == 3
