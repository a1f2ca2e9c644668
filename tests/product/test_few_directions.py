"""Products made from few of their rows, columns, directions, frequencies or partial sums."""

import math
import re

import numpy as np
import pytest
import torch
from families import FAMILIES, noisy_rank
from torch.utils.flop_counter import FlopCounterMode

import tithe
from tithe.errors import InvalidValueError
from tithe.product import Anchored, Estimator, Fourier, Interpolated, LowRank, Sketched, Trajectory
from tithe.product.estimators import STRATEGIES, Look, flops, from_name
from tithe.product.estimators.anchors import pivots, places
from tithe.product.estimators.fourier import cosines
from tithe.product.estimators.propagation import propagated
from tithe.product.estimators.trajectory import forecast
from tithe.product.few_directions import anchored_error
from tithe.product.kernels.lines import fold_lines
from tithe.product.pair import Pair
from tithe.product.planner import multiply_within
from tithe.product.probing import Probing
from tithe.product.rates import Rates
from tithe.product.sample import Sample
from tithe.product.shortlist import shortlist
from tithe.product.tails import tails

FEW: list[Estimator] = [Sketched(0.3), Anchored(0.3), Anchored(0.3, "islands"), Interpolated(0.3),
                        Interpolated(0.3, "right"), LowRank(0.3), LowRank(0.3, 0), Fourier(0.3),
                        Trajectory(0.3)]  # fmt: skip
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relative_error(C: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> float:
    truth = A.double() @ B.double()
    return float((C.double() - truth).norm() / truth.norm())


def made(estimator: Estimator, A: torch.Tensor, B: torch.Tensor) -> float:
    return relative_error(estimator.multiply(Pair(A, B), generator=generator()).tensor(A.dtype), A, B)


def noisy(rank: int, n: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    return noisy_rank(rank, n, noise, generator())


def kernel(n: int, bandwidth: float) -> torch.Tensor:
    x = torch.rand(n, generator=generator(3)).sort().values
    return torch.exp(-((x[:, None] - x) ** 2) / (2 * bandwidth**2))


def machine() -> Rates:
    """A machine whose products run at one speed, thin or not, and where nothing else takes time."""
    steps = ("mean", "reach", "round", "rescale", "outer", "rank one", "weights", "gather", "cast", "norm", "pack",
             "random")  # fmt: skip
    gemms = ("float32", "probe", "thin.float32", "factor")
    return Rates({s: {1024: 1e-13} for s in steps} | {f"gemm.{s}": {1024: 1e-11} for s in gemms}, launch=0.0)


@pytest.mark.parametrize("estimator", FEW, ids=lambda e: e.name)
@pytest.mark.parametrize("sizes", [(256, 256, 256), (300, 100, 64), (64, 512, 200)])
def test_no_more_is_spent_than_is_said_and_that_is_within_the_ratio(
    estimator: Estimator, sizes: tuple[int, int, int]
) -> None:
    m, k, n = sizes
    A, B = torch.randn(m, k, generator=generator()), torch.randn(k, n, generator=generator(1))
    with FlopCounterMode(display=False) as counted:
        estimator.multiply(Pair(A, B), generator=generator())
    said = flops(estimator.work(m, k, n, A.dtype))
    assert 0 < counted.get_total_flops() <= said <= 0.3 * 2 * m * k * n * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["anchored(0.5)", "anchored(0.5, islands)", "anchored(0.5, random)", "low_rank(0.5)",
                                  "interpolated(0.5)", "interpolated(0.5, right)"])  # fmt: skip
def test_a_product_of_low_rank_is_made_exactly(name: str, dtype: torch.dtype) -> None:
    g = generator()
    A = torch.randn(200, 5, generator=g, dtype=dtype) @ torch.randn(5, 200, generator=g, dtype=dtype)
    B = torch.randn(200, 200, generator=g, dtype=dtype)
    most = 1e-12 if dtype == torch.float64 else 1e-5
    if name != "interpolated(0.5, right)":
        assert made(from_name(name), A, B) < most
    if name != "interpolated(0.5)":
        assert made(from_name(name), B, A) < most


def test_anchor_rows_and_columns_are_exact() -> None:
    A, B = FAMILIES["normal"](120, generator())
    error = (Anchored(0.3, "ring").multiply(Pair(A, B)).tensor(A.dtype) - A @ B).abs()
    exact_rows, exact_columns = (error < 1e-3).all(1).sum(), (error < 1e-3).all(0).sum()
    assert exact_columns >= 8
    assert exact_rows >= exact_columns + 8


def test_islands_find_what_other_anchors_miss() -> None:
    """A few lines in the midst of a smooth kernel that are like no others."""
    K = kernel(256, 0.3).double()
    K[100:108, 100:108] += torch.randn(8, 8, generator=generator(), dtype=torch.float64) * 30
    errors = {s: made(Anchored(0.6 if s == "islands" else 0.4, s), K, K) for s in STRATEGIES}
    assert errors["islands"] < 1e-6
    assert min(errors[s] for s in ("exterior", "golden", "random")) > 1e-3


@pytest.mark.parametrize("bandwidth", [0.1, 1.0])
def test_kernels_need_few_anchors(bandwidth: float) -> None:
    K, X = kernel(512, bandwidth), torch.randn(512, 512, generator=generator())
    assert made(Anchored(0.2), K, X) < 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_places_are_distinct(strategy: str) -> None:
    for n, count in ((1, 1), (10, 10), (100, 7)):
        found = places(strategy, n, count, CPU, generator()).tolist()
        assert len(set(found)) == count and min(found) >= 0 and max(found) < n
    assert places(strategy, 100, 7, CPU, generator()).dtype == torch.int64


def test_pivots_reveal_the_rank() -> None:
    X = torch.zeros(6, 40)
    X[torch.arange(3), torch.tensor([11, 25, 38])] = torch.tensor([3.0, 1.0, 2.0])
    found = pivots(X, 9).tolist()
    assert found[:3] == [11, 38, 25]
    assert len(set(found)) == 9


def test_power_iterations_separate_signal_from_noise() -> None:
    A, B = noisy(10, 256, 0.3)
    truth = torch.linalg.svdvals(A.double() @ B.double())
    best = float(truth[30:].norm() / truth.norm())
    errors = [made(LowRank.of(30, 256, 256, 256, A.dtype), A, B), made(LowRank(0.75, 2), A, B)]
    assert best < errors[1] < errors[0] < 2 * best


def test_a_static_operand_is_factorised_once() -> None:
    B = FAMILIES["low rank"](160, generator())[0]
    ready = LowRank(0.3).prepared(B, generator=generator())
    for seed in range(2):
        A = torch.randn(50, 160, generator=generator(seed))
        C, receipt = tithe.matmul(A, B, method=ready, tol=1e-4, generator=generator())
        assert receipt.method == ready.name.replace("%", "")
        assert relative_error(C, A, B) < 1e-5
    assert flops(ready.work(160, 160, 160, B.dtype)) <= 0.3 * 2 * 160**3
    with pytest.raises(InvalidValueError, match="prepare this operand"):
        ready.multiply(Pair(A, B[:, :30]))
    with pytest.raises(InvalidValueError, match="prepare this operand"):
        ready.multiply(Pair(A, B).centred[0])


def test_cosines_are_an_orthonormal_transform() -> None:
    from scipy.fft import dct

    for k in (1, 2, 3, 8, 17, 100):
        X = torch.randn(5, k, generator=generator(), dtype=torch.float64)
        np.testing.assert_allclose(cosines(X).numpy(), dct(X.numpy(), norm="ortho"), atol=1e-12)


def test_frequencies_pay_where_slices_have_an_order() -> None:
    t = torch.linspace(0, 1, 512)
    A = torch.stack([torch.sin(3 * t + p) for p in torch.linspace(0, 6, 200)])
    assert made(Fourier(0.2), A, A.T) < 1e-3
    mixed = torch.randperm(512, generator=generator())
    assert made(Fourier(0.2), A[:, mixed], A.T[mixed]) > 0.01


def test_a_trajectory_does_not_read_the_blocks_that_it_does_not_sum() -> None:
    A, B = (X.double() for X in FAMILIES["uniform"](200, generator()))
    estimator = Trajectory(0.3)
    seen = estimator.multiply(Pair(A, B)).tensor(A.dtype)
    read = int(0.3 * 200)
    A[:, read:], B[read:] = math.nan, math.nan
    assert torch.equal(estimator.multiply(Pair(A, B)).tensor(A.dtype), seen)
    A[:, 5] = math.nan
    assert not estimator.multiply(Pair(A, B)).tensor(A.dtype).isfinite().all()


def test_a_trajectory_forecasts_what_its_increments_share() -> None:
    A, B = FAMILIES["uniform"](512, generator())
    assert made(Trajectory(0.3), A, B) < 0.15
    A, B = FAMILIES["normal"](512, generator())
    assert made(Trajectory(0.3), A, B) == pytest.approx(math.sqrt(0.7), rel=0.05)


def test_a_forecast_finds_a_recursion_and_does_not_blow_up() -> None:
    t = np.arange(40)
    signal = np.stack([np.cos(0.3 * t), np.sin(0.3 * t)], 1)
    weights = forecast(signal[:8] @ signal[:8].T, 32.0)
    np.testing.assert_allclose(weights @ signal[:8], signal.sum(0), atol=1e-6)
    growing = (2.0**t)[:, None]
    weights = forecast(growing[:8] @ growing[:8].T, 100.0)
    assert abs(float(weights @ growing[:8, 0])) < 200 * 2.0**8


def test_tails_are_those_of_the_whole() -> None:
    A, B = noisy(20, 512, 1e-2)
    values = torch.linalg.svdvals(A @ B)
    expected = [float(values[r:].square().sum()) / ((512 - r) ** 2) for r in (0, 10, 25)]
    found = tails((A[:64] @ B[:, :64]).numpy())
    assert len(found) == 56
    np.testing.assert_allclose(found[[0, 10, 25]], expected, rtol=0.5)


def cancelling(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A product of rank 20 whose operands both have many directions: those of A beyond it are orthogonal to B's."""
    A, B = noisy(20, n, 0.0)
    half = torch.linalg.qr(torch.randn(n, n // 2, generator=generator(3))).Q
    return A + torch.randn(n, n // 2, generator=generator(4)) @ half.mT, B - half @ (half.mT @ B)


@pytest.mark.parametrize(
    ("A", "B", "taken"),
    [
        (*noisy(20, 512, 1e-4), r"interpolated\([\d.]+\)"),
        (*noisy(20, 512, 1e-4)[::-1], r"interpolated\([\d.]+, right\)"),
        (kernel(512, 0.1), FAMILIES["normal"](512, generator())[1], r"interpolated\([\d.]+\)"),
        (*cancelling(512), r"anchored\([\d.]+\)"),
    ],
    ids=["left", "right", "kernel", "neither"],
)
def test_the_planner_sees_where_few_directions_matter_and_of_what(A: torch.Tensor, B: torch.Tensor, taken: str) -> None:
    pair = Pair(A, B)
    outcome = multiply_within(Probing(pair, 1, generator()), 0.01, 1e-3, machine(), generator(1))
    assert re.fullmatch(taken, outcome.method)
    assert not outcome.tried
    assert outcome.flops < 0.5 * pair.flops
    assert relative_error(outcome.product, A, B) <= outcome.bound.upper <= 0.01


@pytest.mark.parametrize("estimator", [Anchored(0.3), Interpolated(0.3), Interpolated(0.3, "right")])
def test_a_rehearsal_on_a_few_lines_is_right_about_the_error(estimator: Estimator) -> None:
    A, B = noisy(20, 512, 1e-2)
    if "right" in estimator.name:
        A, B = B, A
    sizes = (512, 512, 512, A.dtype)
    for count in (24, 32, 48):
        if isinstance(estimator, Interpolated):
            made_so = Interpolated.of(count, *sizes, estimator.side)
            look = Pair(A, B).closeup(*((96, 32) if estimator.side == "left" else (32, 96)))
            said = Interpolated.rehearsed(look, count, 512, estimator.side)
        else:
            made_so, said = Anchored.of(count, *sizes), anchored_error(Pair(A, B).closeup(96, 96), count, 512, 512)
        assert said == pytest.approx(made(made_so, A, B), rel=0.2)


def test_lines_too_few_to_judge_by_promise_nothing() -> None:
    look = Pair(*noisy(20, 512, 1e-2)).closeup(96, 96)
    assert Interpolated.rehearsed(look, 72, 512, "left") == math.inf
    assert anchored_error(look, 72, 512, 512) == pytest.approx(0.013, rel=0.5)


@pytest.mark.parametrize("transposed", [False, True])
def test_folded_lines_are_sums_under_signs(transposed: bool) -> None:
    X = torch.randn(33, 1100, generator=generator())
    X = X.T.contiguous().T if transposed else X
    for Y, precision in ((X, 1e-4), (X.double(), 1e-12), (torch.stack([X, X], 2)[..., 0], 1e-4)):
        folded, squares = fold_lines(Y, 7)
        signs = fold_lines(torch.eye(1100, dtype=Y.dtype), 7)[0]
        assert torch.equal(signs.abs(), torch.eye(7).repeat(158, 1)[:1100].to(Y))
        assert 400 < int((signs.sum(1) > 0).sum()) < 700
        torch.testing.assert_close(folded, (Y @ signs).to(folded), rtol=precision, atol=precision)
        torch.testing.assert_close(squares, Y.double().square().sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("estimator", [Interpolated(0.3), Interpolated(0.3, "right")])
def test_squares_met_on_the_way_are_those_of_the_operands(estimator: Estimator) -> None:
    A, B = noisy(20, 256, 1e-2)
    pair = Pair(A, B)
    estimator.multiply(pair)
    assert pair.norms == pytest.approx((float(A.norm()), float(B.norm())), rel=1e-5)
    shifted = Pair(A + 1, B).centred[0]
    estimator.multiply(shifted)
    assert shifted.norms == pytest.approx((float(shifted.left.norm()), float(shifted.right.norm())), rel=1e-5)


@pytest.mark.parametrize("family", ["normal", "uniform", "relu", "heavy tails"])
def test_the_planner_does_not_look_twice_at_other_products(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "closeup", lambda pair, *lines: pytest.fail("a second look"))
    pair = Pair(*FAMILIES[family](512, generator()))
    options = shortlist(pair, Sample(pair), 0.003, 1e-3, machine())
    assert not any(isinstance(option.estimator, Anchored | Interpolated | LowRank) for option in options)


def test_empty_lines_do_not_pass_for_few_directions() -> None:
    pair = Pair(*FAMILIES["blocks"](512, generator()))
    options = shortlist(pair, Sample(pair), 0.003, 1e-3, machine())
    assert not any(isinstance(option.estimator, Anchored | Interpolated | LowRank) for option in options)


def test_lines_that_are_alike_by_chance_do_not_deceive_for_long() -> None:
    """Adjacent columns of a narrow kernel are nearly the same, so a sample of runs sees too few directions."""
    K = kernel(1024, 0.004)
    pair = Pair(torch.randn(1024, 1024, generator=generator()), K)
    assert not any(
        isinstance(o.estimator, Anchored | Interpolated) for o in shortlist(pair, Sample(pair), 0.01, 1e-3, machine())
    )


def test_a_ratio_buys_few_directions_where_those_are_enough() -> None:
    A, B = FAMILIES["low rank"](512, generator())
    C, receipt = tithe.matmul(A, B, ratio=0.2, generator=generator())
    assert receipt.method.startswith(("anchored(", "low_rank("))
    assert relative_error(C, A, B) < 1e-4
    assert receipt.ratio("flops") <= 0.2  # type: ignore[operator]


@pytest.mark.parametrize("estimator", FEW, ids=lambda e: e.name)
def test_nothing_that_is_not_finite_is_hidden_or_fatal(estimator: Estimator) -> None:
    for value in (math.nan, math.inf):
        A, B = FAMILIES["normal"](40, generator())
        A[0] = value
        assert not estimator.multiply(Pair(A, B), generator=generator()).tensor(A.dtype).isfinite().all()


def test_expectations_of_a_sample_are_those_of_the_whole() -> None:
    pair = Pair(*noisy(20, 768, 1e-2))
    sample = Sample(pair)
    for estimator in (Anchored(0.3), LowRank(0.3), LowRank(0.3, 0), Trajectory(0.3), Sketched(0.3), Fourier(0.3)):
        found = made(estimator, pair.A, pair.B)
        assert found / 2.5 < sample.expected_error(estimator) < 2.5 * found, estimator.name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_factors_are_judged_as_the_matrix_that_they_make(dtype: torch.dtype) -> None:
    A, B = (X.to(dtype) for X in noisy(10, 200, 1e-2))
    product = Anchored(0.4).multiply(Pair(A, B))
    whole = product.tensor(dtype)
    assert product.factors is not None
    omega = torch.randn(200, 16, generator=generator(), dtype=dtype)
    torch.testing.assert_close(product.times(omega), whole @ omega, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(product.row_squares(), whole.double().square().sum(1), rtol=1e-4, atol=1e-2)
    bounds = [Probing(Pair(A, B), 1, generator(7)).bound(p, 16, 1e-3) for p in (product, type(product)(whole))]
    assert bounds[0].upper == pytest.approx(bounds[1].upper, rel=0.02)
    truth = A.double() @ B.double()
    assert float((whole - truth).norm() / truth.norm()) <= bounds[0].upper
    errors = (product.factors.left @ product.factors.right - whole).norm(), product.factors.rounding(dtype)
    assert float(errors[0]) > 0 and float((whole - product.tensor(dtype)).norm()) <= errors[1]


def test_factors_of_high_rank_are_judged_as_a_matrix() -> None:
    A, B = FAMILIES["normal"](256, generator())
    _, receipt = tithe.matmul(A, B, method="low_rank(1, 0)", generator=generator())
    plain = 2 * 256**3
    assert receipt.spent.flops is not None and receipt.spent.flops < plain * (1 + 16 * 4 / 256)


@pytest.mark.parametrize("make", [lambda: Anchored(0.5, "islets"), lambda: LowRank(0.5, -1), lambda: LowRank(0.5, 0.5)])
def test_unknown_settings_are_refused(make: object) -> None:
    with pytest.raises(InvalidValueError, match=r"islands|whole number"):
        make()  # type: ignore[operator]


def test_what_was_prepared_predicts_its_error() -> None:
    A, B = noisy(20, 128, 1e-2)
    ready = LowRank(0.5).prepared(B)
    assert ready.expected_error(Pair(A, B), Look(0.0, 0.0)) == pytest.approx(
        made(ready, A, B) * float((A @ B).norm()), rel=1e-3
    )


def test_what_decays_below_a_gap_is_no_noise() -> None:
    values = torch.tensor([1, 1.2e-2, 1e-2, 8e-3, 4e-3, 2e-3, 1e-3, 7e-4, 2e-4, 7e-5, 3e-5], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(60, 11, generator=g, dtype=torch.float64)).Q for _ in range(2))
    columns = left * values
    product = columns @ right.mT
    tall, flat = propagated(columns, columns[:20], product[:20])
    assert torch.allclose(tall @ flat, product, atol=1e-9)


def test_what_is_flat_below_a_gap_is_noise() -> None:
    g = torch.Generator().manual_seed(0)
    core = 1e-3 * torch.randn(40, 24, generator=g, dtype=torch.float64)
    core[:, 0] += 1
    assert propagated(core, core, core)[0].shape[1] == 1
