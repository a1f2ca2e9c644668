"""What a few entries of a product show of its error."""

import math
import statistics

import pytest
import torch
from families import FAMILIES

from tithe.product.estimators import from_name
from tithe.product.guard import Guard
from tithe.product.pair import Pair


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relative_error(C: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> float:
    truth = A.double() @ B.double()
    return float((C - truth).norm() / truth.norm())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("method", ["mean_field", "int8", "truncated(0.5)", "low_rank(0.3, 0)"])
@pytest.mark.parametrize("family", ["uniform", "normal", "huge column", "heavy tails", "one row", "blocks", "smooth"])
def test_estimates_the_relative_error_of_whatever_product(family: str, method: str, known: bool) -> None:
    A, B = FAMILIES[family](256, generator())
    pair, guard = Pair(A, B), Guard(0.01, generator(1))
    C = from_name(method).multiply(pair, generator=generator(2)).tensor(torch.float32)
    squares = (A.double().square().sum(1), B.double().square().sum(0)) if known else (None, None)
    seen = [guard.look(A, B, C, squares) for _ in range(60)]
    assert statistics.median(seen) == pytest.approx(relative_error(C, A, B), rel=0.2)


def test_sees_independent_errors_to_a_few_percent() -> None:
    A, B = FAMILIES["uniform"](512, generator())
    C = from_name("mean_field").multiply(Pair(A, B)).tensor(torch.float32)
    guard, true = Guard(0.01, generator(1)), relative_error(C, A, B)
    spread = statistics.pstdev(guard.look(A, B, C) / true for _ in range(100))
    assert spread < 0.06


@pytest.mark.parametrize("known", [True, False])
def test_sees_a_single_line_that_outweighs_all_others(known: bool) -> None:
    A, B = FAMILIES["uniform"](512, generator())
    for side in (A, B.T):
        side[77] = 1e3 * torch.randn(512, generator=generator(3))
        C = from_name("mean_field").multiply(Pair(A, B)).tensor(torch.float32)
        squares = (A.double().square().sum(1), B.double().square().sum(0)) if known else (None, None)
        assert all(Guard(0.01, generator(i)).look(A, B, C, squares) > 0.5 for i in range(20))


def test_sees_a_single_heavy_entry_where_sums_of_squares_are_known() -> None:
    A, B = FAMILIES["uniform"](256, generator())
    A[5, 9] = 1e5
    pair = Pair(A, B)
    C = from_name("mean_field").multiply(pair).tensor(torch.float32)
    assert all(Guard(0.01, generator(i)).look(A, B, C, pair.met_squares) > 0.3 for i in range(20))


def test_lines_are_drawn_afresh() -> None:
    A, B = FAMILIES["normal"](256, generator())
    guard, C = Guard(0.01, generator(1)), (A @ B).bfloat16().float()
    assert len({guard.look(A, B, C) for _ in range(10)}) == 10
    assert guard.look(A, B, C) == pytest.approx(relative_error(C, A, B), rel=0.3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 40, 2), (70, 5, 90)])
def test_other_dtypes_and_small_sizes(dtype: torch.dtype, sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    A, B = torch.rand(m, k).to(dtype) + 0.5, torch.rand(k, n).to(dtype) + 0.5
    assert Guard(0.1, generator()).look(A, B, 1.5 * (A @ B)) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_fine(value: float) -> None:
    A, B = FAMILIES["uniform"](64, generator())
    A[3, 5] = value
    pair, guard = Pair(A, B), Guard(0.1, generator())
    C = from_name("mean_field").multiply(pair).tensor(torch.float32)
    for _ in range(20):
        assert not guard.look(A, B, C, pair.met_squares) <= guard.level


def test_of_nothing_but_zeros_an_error_is_infinite() -> None:
    A, C, guard = torch.zeros(8, 8), torch.zeros(8, 8), Guard(0.1, generator())
    assert guard.look(A, A, C) == 0
    assert guard.look(A, A, C + 1e-20) == math.inf


def test_alarms_for_nothing_die_out() -> None:
    """An error that is noisy in the guard's eyes, and just within the tolerance."""
    A, B = FAMILIES["huge column"](256, generator())
    C = from_name("truncated(0.5)").multiply(Pair(A, B)).tensor(torch.float32)
    guard, alarms, calls = Guard(1.02 * relative_error(C, A, B), generator(1)), [], 400
    for call in range(calls):
        seen = guard.look(A, B, C)
        if not seen <= guard.level:
            alarms.append(call)
            guard.excuse(seen)
    assert 1 <= len(alarms) <= 3 * math.log(calls)
    level = guard.level
    guard.excuse(math.inf)
    assert guard.level == level > 1.02 * relative_error(C, A, B)
    guard.reset()
    assert guard.level == pytest.approx(0.9 * 1.02 * relative_error(C, A, B))
