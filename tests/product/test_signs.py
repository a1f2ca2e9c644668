"""Products of signs: bits against the same thing in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tithe.product import certify
from tithe.product.kernels import signs
from tithe.product.kernels.popcount import COLUMNS, LONGEST, ROWS, WORD
from tithe.product.pair import Pair, RankOne

EDGES = [1, ROWS - 1, ROWS, ROWS + 1, WORD - 1, WORD, WORD + 1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 2 * COLUMNS + 9]
sizes = st.one_of(st.sampled_from([e for e in EDGES if e]), st.integers(1, 150))


def matrix(rows: int, columns: int, order: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(rows, columns, generator=generator)
    return {"C": X, "F": X.T.contiguous().T, "strided": torch.cat((X, X), 1)[:, ::2]}[order]


def expected(pair: Pair, plus: RankOne) -> Tensor:
    a, b = (pair.A - pair.a[:, None]), (pair.B - pair.b)
    left = torch.where(a < 0, -1.0, 1.0).double() * a.double().abs().mean(1, keepdim=True)
    right = torch.where(b < 0, -1.0, 1.0).double() * b.double().abs().mean(0)
    return left @ right + torch.outer(plus.u.double(), plus.v.double())


orders = st.sampled_from(["C", "F", "strided"])


@settings(max_examples=60, deadline=None)
@given(m=sizes, k=st.one_of(sizes, st.just(WORD * 33)), n=sizes, left=orders, right=orders, seed=st.integers(0, 99))
def test_equals_the_product_of_scaled_signs(m: int, k: int, n: int, left: str, right: str, seed: int) -> None:
    A, B = matrix(m, k, left, seed), matrix(k, n, right, seed + 1)
    pair, plus = Pair(A, B).centred
    torch.testing.assert_close(
        signs.multiply(pair, plus).double(), expected(pair, plus), rtol=1e-5, atol=1e-5 * (1 + k**0.5)
    )


def test_counts_do_not_overflow_on_long_lines() -> None:
    k = WORD * (2 * min(LONGEST, 4096) + 3) + 5
    A, B = -torch.ones(ROWS + 1, k), torch.ones(k, COLUMNS + 3)
    A[0, 0] = 1.0
    product = signs.multiply(Pair(A, B))
    assert product[0, 0] == 2 - k
    assert (product[1:] == -k).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_every_line_is_made_whatever_the_number_of_threads(threads: int) -> None:
    A, B = matrix(700, 600, "C", 0), matrix(600, 500, "C", 1)
    pair, plus = Pair(A, B).centred
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.testing.assert_close(signs.multiply(pair, plus).double(), expected(pair, plus), rtol=1e-5, atol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_without_kernels_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, plus = Pair(matrix(70, 90, "C", 0), matrix(90, 40, "C", 1)).centred
    fast = signs.multiply(pair, plus)
    monkeypatch.setattr(signs, "available", lambda: False)
    torch.testing.assert_close(signs.multiply(pair, plus), fast)


def test_what_is_not_a_number_is_not_hidden() -> None:
    A, B = torch.rand(64, 64), torch.rand(64, 64)
    A[3, 5] = torch.nan
    assert signs.multiply(Pair(A, B))[3].isnan().all()


def test_centred_on_uniform_operands_errs_as_reckoned() -> None:
    """A uniform entry's sign, scaled, carries 3/4 of its square, so 7/16 of the square of what the means leave."""
    n = 512
    A, B = matrix(n, n, "C", 0), matrix(n, n, "C", 1)
    pair, plus = Pair(A, B).centred
    error = certify(signs.multiply(pair, plus), A, B, generator=torch.Generator().manual_seed(0)).estimate
    assert error == pytest.approx((7 / 16) ** 0.5 / (3 * n**0.5), rel=0.08)
