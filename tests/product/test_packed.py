"""Products with a rounded, packed weight: exact in their integers, right to a step of the activations, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tithe.product.conversion.ways import Int8
from tithe.product.kernels import packed
from tithe.product.kernels.feedback import lanes, round_weights
from tithe.product.kernels.packed import TOPS, Rounded, multiply, multiply_anywhere, pack_weight, steepest

needs_kernel = pytest.mark.skipif(not packed.groups(), reason="the kernel is for processors with AVX2 and without VNNI")
GROUPS = (8, 4, 2, 1)


def within_lanes(wished: np.ndarray, group: int, top: int = 255) -> np.ndarray:
    """Weights as wished, one after the other, as far as their lanes let them."""
    lane = lanes(wished.shape[1], group)
    up, down = (np.zeros((len(wished), lane.max() + 1), np.int64) for _ in range(2))
    values = np.zeros_like(wished)
    for j, at in enumerate(lane):
        values[:, j] = np.clip(wished[:, j], down[:, at] - steepest(top), steepest(top) - up[:, at])
        up[:, at] += np.maximum(values[:, j], 0)
        down[:, at] += np.maximum(-values[:, j], 0)
    return values


def plain_map(values: np.ndarray, group: int, top: int = 255) -> Rounded:
    """x ↦ x valuesᵀ."""
    n, k = values.shape
    whole = torch.from_numpy(values.astype(np.int8))
    return Rounded(whole, torch.ones(n), torch.zeros(k), torch.ones(k), torch.zeros(n), group, top)


def some_map(n: int, k: int, group: int, seed: int) -> Rounded:
    rng = torch.Generator().manual_seed(seed)
    wished = torch.randint(-127, 128, (n, k), generator=rng).numpy()
    values = torch.from_numpy(within_lanes(wished, group).astype(np.int8))
    scale, bias = torch.rand(n, generator=rng), torch.randn(n, generator=rng)
    return Rounded(
        values, scale, torch.randn(k, generator=rng), torch.rand(k, generator=rng) + 0.5, bias, group, TOPS[group]
    )


def levels_of(x: np.ndarray, top: int = 255) -> Tensor:
    """Activations whose levels are these very numbers: each row reaches from 0 to ``top``."""
    x[:, 0], x[:, -1] = 0, top
    return torch.from_numpy(x.astype(np.float32))


@needs_kernel
@settings(max_examples=80, deadline=None)
@given(
    group=st.sampled_from(GROUPS),
    n=st.integers(1, 70),
    k=st.integers(2, 300),
    wish=st.sampled_from(["high", "low", "signs", "random"]),
    seed=st.integers(0, 99),
    top=st.sampled_from(sorted(TOPS.values())),
)
def test_sums_are_exact_for_the_worst_activations(group: int, n: int, k: int, wish: str, seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    wishes = {"high": 127, "low": -127, "signs": rng.choice([-127, 127], (n, k)), "random": rng.integers(-127, 128, k)}
    values = within_lanes(np.broadcast_to(wishes[wish], (n, k)).astype(np.int64), group, top)
    row = values[rng.integers(n)]
    shares = [np.ones(k, int), np.arange(k) % 2, row > 0, row < 0]
    given = levels_of(np.stack([*(share * top for share in shares), rng.integers(0, top + 1, k)]), top)
    exact = given.long() @ torch.from_numpy(values).T
    assert torch.equal(multiply(given, pack_weight(plain_map(values, group, top))).long(), exact)


@pytest.mark.parametrize("group", [0, *GROUPS, 16])
def test_weights_that_no_lane_holds_are_multiplied_another_way(group: int) -> None:
    values = np.full((40, 70), 127)  # as rounded on a machine that need not care
    given = levels_of(np.full((3, 70), 255))
    exact = given.long() @ torch.from_numpy(values).T
    assert torch.equal(Int8(plain_map(values, group))(given).round().long(), exact)


@needs_kernel
@settings(max_examples=60, deadline=None)
@given(
    group=st.sampled_from(GROUPS),
    m=st.sampled_from([0, 1, 2, 127, 129, 300]),
    n=st.integers(1, 100),
    k=st.integers(1, 140),
    seed=st.integers(0, 99),
)
def test_the_kernel_and_torch_agree_to_rounding(group: int, m: int, n: int, k: int, seed: int) -> None:
    rounded = some_map(n, k, group, seed)
    x = torch.randn(m, k, generator=torch.Generator().manual_seed(seed)) * 3
    ours, torchs = multiply(x, pack_weight(rounded)), multiply_anywhere(x, rounded)
    assert ours.shape == torchs.shape == (m, n)
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5 * max(1.0, float(torchs.abs().max() if m else 0)))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("where", [multiply_anywhere, pytest.param(multiply, marks=needs_kernel)])
def test_errors_are_half_a_step_of_each_activation(where: object, group: int) -> None:
    rounded = some_map(37, 90, group, 5)
    x = torch.randn(60, 90, generator=torch.Generator().manual_seed(6))
    x[7] = 2.5  # a row of one value
    x[8] = rounded.centre
    y = ((x - rounded.centre) * rounded.stretch).double()
    weights = rounded.values.double() * rounded.scale.double()[:, None]
    out = multiply(x, pack_weight(rounded)) if where is multiply else multiply_anywhere(x, rounded)
    most = (y.amax(1) - y.amin(1))[:, None] / rounded.top / 2 * weights.abs().sum(1)
    assert bool(((out - y @ weights.T - rounded.bias).abs() <= most * 1.001 + 1e-3).all())


@pytest.mark.parametrize("where", ["anywhere", pytest.param("kernel", marks=needs_kernel)])
def test_rows_that_are_not_finite_give_rows_that_are_not(where: str) -> None:
    rounded = some_map(40, 50, 4, 1)
    clean = torch.randn(6, 50, generator=torch.Generator().manual_seed(2))
    x = clean.clone()
    x[1, 3], x[2, 0], x[3, 49], x[4, 5], x[4, 6] = torch.nan, torch.inf, -torch.inf, torch.inf, -torch.inf
    run = (
        (lambda a: multiply(a, pack_weight(rounded))) if where == "kernel" else lambda a: multiply_anywhere(a, rounded)
    )
    out = run(x)
    assert not bool(out[1:5].isfinite().any())
    assert torch.equal(out[[0, 5]], run(clean)[[0, 5]])


@needs_kernel
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what numba tells of compiled threads
def test_threads_without_memory_are_an_error() -> None:
    whole = pack_weight(some_map(40, 50, 4, 1))
    n, k, _, *others = whole.constants
    with pytest.raises(MemoryError, match="rows of 50 by 40"):
        multiply(torch.randn(6, 50), whole._replace(constants=(n, k, 1 << 50, *others)))


@pytest.mark.parametrize("width", [1, 15, 16, 33, 384])
@pytest.mark.parametrize("top", [170, 255])
def test_levels_are_the_nearest_of_those_between_a_rows_ends(width: int, top: int) -> None:
    x = torch.randn(9, width, generator=torch.Generator().manual_seed(width))
    x[5] = torch.arange(width) % (top + 1) - 0.5  # halves, and the ends themselves
    x[6, 0] = -1e30
    levels, step, low = packed._levels(x, torch.zeros(width), torch.ones(width), top)
    counted = levels.double() + 128
    assert torch.equal(low, x.amin(1))
    assert bool(((counted >= 0) & (counted <= top)).all())
    assert bool((counted.amin(1) == 0).all())
    exact = (x.double() - low.double()[:, None]) / step.double()[:, None].clamp(min=1e-300)
    assert bool(((counted - exact).abs() <= 0.5 + 1e-4).all())


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-42, 2e-38, 1e-30])
def test_rows_of_the_least_numbers_stay_finite(size: float) -> None:
    rounded = some_map(40, 50, 4, 1)._replace(centre=torch.zeros(50))
    x = torch.linspace(0, size, 50).repeat(2, 1)
    expected = rounded.bias.expand(2, -1)
    torch.testing.assert_close(multiply_anywhere(x, rounded), expected)
    if packed.groups():
        torch.testing.assert_close(multiply(x, pack_weight(rounded)), expected)


@settings(max_examples=40, deadline=None)
@given(
    group=st.sampled_from(GROUPS),
    n=st.integers(1, 20),
    k=st.integers(1, 90),
    tail=st.sampled_from([1.0, 4.0]),
    seed=st.integers(0, 99),
)
def test_rounded_weights_keep_to_their_lanes(group: int, n: int, k: int, tail: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=rng)
    weight, x = weight.sign() * weight.abs() ** tail, torch.randn(2 * k, k, generator=rng)
    lane = lanes(k, group)
    values, _ = round_weights(weight, x.mT @ x / len(x), lane, steepest(255))
    wide = values.numpy().astype(np.int64)
    for signed in (np.maximum(wide, 0), np.maximum(-wide, 0)):
        sums = np.zeros((n, lane.max() + 1), np.int64)
        np.add.at(sums, (slice(None), lane), signed)
        assert sums.max() <= steepest(255)
    assert np.abs(wide).max() <= 127


def test_feedback_beats_plain_rounding_where_inputs_are_correlated() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 8, generator=rng) @ torch.randn(8, 64, generator=rng) + 0.1 * torch.randn(
        2000, 64, generator=rng
    )
    weight = torch.randn(32, 64, generator=rng)
    held = torch.randn(2000, 64, generator=rng) * 0.1 + x.roll(1, 0)  # not the rows that it learns from

    def error(rounded: Tensor) -> float:
        return float((held @ (rounded - weight).T).norm())

    scale = weight.abs().amax(1, keepdim=True) / 127
    plain = (weight / scale).round() * scale
    values, steps = round_weights(weight, x.mT @ x / len(x), lanes(64, 1), 1 << 15)
    assert error(values * steps[:, None]) < 0.6 * error(plain)


def test_lines_and_inputs_of_zeros_round_to_zeros() -> None:
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    weight[1] = 0
    values, scale = round_weights(weight, torch.zeros(12, 12), lanes(12, 8), steepest(255))
    assert not values[1].any() and scale[1] == 0 and bool(scale.isfinite().all())
