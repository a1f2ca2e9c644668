"""Coherence and fractal dimension against what they are for signals whose spectrum is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.data import load
from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent import apply, coherence, fractal_dimension, response, white_noise_coherence

few = settings(deadline=None, max_examples=25)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def wave(length, cycles):
    return torch.cos(2 * math.pi * cycles / length * torch.arange(length, dtype=torch.float64) + 0.3)


def ratio(k):
    return 1 / (1 + PHI * k * k)


@few
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    centre=st.booleans(),
    phi=st.floats(0, 100),
)
def test_between_zero_and_one_and_whatever_the_scale(shape, seed, centre, phi):
    x = noise(*shape, seed=seed)
    dims = tuple(range(len(shape)))
    value = coherence(x, dims, centre, phi)
    assert value.shape == () and 0 < value <= 1
    for scale in (-3.0, 1e-200, 1e200):
        torch.testing.assert_close(coherence(x * scale, dims, centre, phi), value)


@pytest.mark.parametrize(("length", "cycles"), [(16, 3), (16, 8), (15, 7)])
def test_a_wave_has_the_response_of_its_wavenumber(length, cycles):
    assert coherence(wave(length, cycles), 0) == pytest.approx(ratio(2 * math.pi * cycles / length))


def test_two_waves_are_weighted_by_power():
    x = 3 * wave(15, 1) + wave(15, 6)
    expected = (9 * ratio(2 * math.pi / 15) + ratio(2 * math.pi * 6 / 15)) / 10
    assert coherence(x, 0) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(9,), (8,), (4, 5), (5, 4), (1, 1), (3, 4, 5)])
def test_equals_its_definition_by_the_operator(shape):
    x = noise(2, *shape)
    dims = tuple(range(1, len(shape) + 1))
    expected = (x * apply(x, dims)).sum(dims) / x.square().sum(dims)  # Parseval
    torch.testing.assert_close(coherence(x, dims), expected)
    torch.testing.assert_close(coherence(x, dims, phi=7), (x * apply(x, dims, 7)).sum(dims) / x.square().sum(dims))


def test_other_axes_are_a_batch():
    x = noise(3, 8, 2, 5)
    values = coherence(x, (1, -1))
    assert values.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(values[i, j], coherence(x[i, :, j], (0, 1)))


def test_centring_takes_the_mean_away():
    x = noise(4, 9)
    moved = x + torch.tensor([[0.0], [5.0], [-5.0], [100.0]], dtype=torch.float64)
    torch.testing.assert_close(coherence(moved, 1, centre=True), coherence(x, 1, centre=True))
    assert (coherence(moved, 1)[1:] > coherence(x, 1)[1:]).all() and coherence(moved, 1)[3] > 0.99
    assert coherence(x, 1, centre=True).allclose(coherence(x - x.mean(1, keepdim=True), 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 30_000.0])
@pytest.mark.parametrize("shape", [(1,), (7,), (33, 31)])
def test_without_power_there_are_no_short_waves(dtype, value, shape):
    x = torch.full((2, *shape), value, dtype=dtype)
    dims = tuple(range(1, len(shape) + 1))
    for centre in (False, True):
        found = coherence(x, dims, centre=centre)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found, torch.ones_like(found))


@pytest.mark.parametrize("shape", [(784,), (28, 28), (64,), (9, 10), (7, 7, 7)])
@pytest.mark.parametrize("centre", [False, True])
def test_white_noise_scores_what_is_said_of_it(shape, centre):
    dims = tuple(range(1, len(shape) + 1))
    values = coherence(noise(2000, *shape), dims, centre)
    expected = white_noise_coherence(shape, centre)
    error = values.std() / math.sqrt(len(values))
    assert float(values.mean()) == pytest.approx(expected, abs=float(4 * error))
    assert error < 0.01 * expected


def test_the_spread_of_white_noise_is_what_the_threshold_assumes():
    values = coherence(noise(4000, 784), 1)
    factors = response(2 * math.pi * torch.fft.fftfreq(784, dtype=torch.float64))
    assert float(values.std()) == pytest.approx(math.sqrt(2 * factors.var() / 784), rel=0.05)


def test_figures_of_the_documents():
    assert round(white_noise_coherence((784,)), 2) == 0.33
    assert round(white_noise_coherence((28, 28)), 2) == 0.15
    assert (coherence(noise(2000, 784), 1) > 0.3).double().mean() > 0.9  # nearly all noise passes the source's 0.3
    assert white_noise_coherence((784,)) == pytest.approx(
        math.atan(math.pi * PHI**0.5) / (math.pi * PHI**0.5), rel=0.01
    )


def test_noise_of_one_sample_has_one_wave():
    assert white_noise_coherence((1,)) == 1 and white_noise_coherence((1,), centre=True) == 1
    assert white_noise_coherence((2,)) == pytest.approx((1 + ratio(math.pi)) / 2)
    assert white_noise_coherence((2,), centre=True) == pytest.approx(ratio(math.pi))
    assert white_noise_coherence((3, 2)) == white_noise_coherence((2, 3))
    for shape in ((), (0,), (3, 0)):
        with pytest.raises(InvalidValueError, match="length of each axis"):
            white_noise_coherence(shape)


def test_images_are_coherent_and_their_shuffled_pixels_are_not():
    images = torch.from_numpy(load("digits").train_x[:200]).reshape(-1, 8, 8).double()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = images.flatten(1)[:, order].reshape(-1, 8, 8)
    level = white_noise_coherence((8, 8), centre=True)
    assert coherence(images, (1, 2), centre=True).mean() > 2 * level
    assert float(coherence(shuffled, (1, 2), centre=True).mean()) == pytest.approx(level, rel=0.2)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-30, 1e-20, 1e20, 1e30, 3e38])
def test_magnitudes_at_the_ends_of_float32(scale):
    x = noise(5, 64, dtype=torch.float32).clamp(-1, 1).sign()  # signs survive where there are no digits left
    torch.testing.assert_close(coherence(x * scale, 1), coherence(x, 1))
    torch.testing.assert_close(coherence(x * scale, 1, centre=True), coherence(x, 1, centre=True), rtol=1e-4, atol=0)
    torch.testing.assert_close(fractal_dimension(x * scale, 1), fractal_dimension(x, 1))
    mixed = torch.stack([x * scale, x])  # each signal by its own
    torch.testing.assert_close(coherence(mixed, 2), coherence(x, 1).expand(2, 5))
    torch.testing.assert_close(fractal_dimension(mixed, 2), fractal_dimension(x, 1).expand(2, 5))


def test_half_precision_does_not_overflow():
    x = (noise(3, 4096) * 10_000).half()
    torch.testing.assert_close(coherence(x, 1).double(), coherence(x.double(), 1), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("shape", "dims"), [((9,), 0), ((2, 3, 4), (0, 2)), ((2, 8), 1)])
@pytest.mark.parametrize("centre", [False, True])
def test_gradients_of_first_and_second_order(shape, dims, centre):
    x = noise(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: coherence(x, dims, centre), x)
    assert torch.autograd.gradgradcheck(lambda x: coherence(x, dims, centre), x)


def test_gradients_where_there_is_no_power_or_no_short_wave():
    zero = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    coherence(zero, 0).backward()
    assert torch.equal(zero.grad, torch.zeros_like(zero))
    one = torch.ones(8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(coherence(one, 0), one, create_graph=True)
    torch.testing.assert_close(slope.detach(), torch.zeros_like(slope))  # a maximum ...
    (bend,) = torch.autograd.grad(slope @ wave(8, 3), one)
    torch.testing.assert_close(bend, -2 / 8 * (1 - ratio(2 * math.pi * 3 / 8)) * wave(8, 3))  # ... that is round


def test_gradients_raise_coherence():
    x = noise(32).requires_grad_()
    before = coherence(x, 0)
    (slope,) = torch.autograd.grad(before, x)
    assert coherence(x + 0.1 * slope, 0) > before


def test_dimension_of_a_line():
    line = torch.arange(50.0) * torch.tensor([[1.0], [-7.0], [1e-30], [0.0]])
    torch.testing.assert_close(fractal_dimension(line, 1), torch.ones(4), rtol=0, atol=1e-5)


def test_dimension_of_brownian_motion_and_of_white_noise():
    steps = noise(100, 2000)
    assert float(fractal_dimension(steps.cumsum(1), 1).mean()) == pytest.approx(1.5, abs=0.02)
    assert float(fractal_dimension(steps, 1).mean()) == pytest.approx(2.0, abs=0.03)
    assert fractal_dimension(torch.tensor([1.0, -1.0] * 8), 0) == 2


@pytest.mark.parametrize("hurst", [0.3, 0.7])
def test_dimension_of_fractional_brownian_motion(hurst):
    lags = np.arange(512.0)
    spread = lags ** (2 * hurst)
    covariance = 0.5 * (spread[:, None] + spread[None] - np.abs(lags[:, None] - lags[None]) ** (2 * hurst))
    root = np.linalg.cholesky(covariance[1:, 1:])
    motion = torch.from_numpy(root) @ noise(511, 200)
    assert float(fractal_dimension(motion, 0).mean()) == pytest.approx(2 - hurst, abs=0.03)


def test_dimension_of_images():
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing="ij")
    assert fractal_dimension(2 * rows - columns, (0, 1)) == pytest.approx(2, abs=1e-5)
    assert float(fractal_dimension(noise(100, 40, 30), (1, 2)).mean()) == pytest.approx(3, abs=0.05)
    batch = noise(3, 7, 2, 6)
    assert torch.equal(fractal_dimension(batch, (1, 3))[1, 1], fractal_dimension(batch[1, :, 1], (0, 1)))
    assert fractal_dimension(batch.half(), (1, 3)).dtype == torch.float32
    digits = torch.from_numpy(load("digits").train_x[:200]).reshape(-1, 8, 8).double()
    assert 2.1 < float(fractal_dimension(digits, (1, 2)).mean()) < 2.9


def test_dimension_can_be_differentiated():
    x = noise(2, 20).cumsum(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fractal_dimension(x, 1), x)


@pytest.mark.parametrize("measure", [coherence, fractal_dimension])
def test_what_cannot_be_used_is_named(measure):
    with pytest.raises(InvalidDTypeError, match="int64"):
        measure(torch.arange(9), 0)
    with pytest.raises(InvalidValueError, match="distinct axes"):
        measure(torch.zeros(3, 4), (1, -1))
    with pytest.raises(InvalidValueError, match="phi is -1"):
        coherence(torch.zeros(3), 0, phi=-1)
    with pytest.raises(InvalidValueError, match="at least 3 samples"):
        fractal_dimension(torch.zeros(4, 2), (0, 1))
