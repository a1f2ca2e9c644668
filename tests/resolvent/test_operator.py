"""The operator against closed forms: waves are its eigenvectors, with ``response(k)`` for eigenvalue."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent import apply, response, wavenumbers
from tithe.resolvent.operator import axes

few = settings(deadline=None, max_examples=25)
lengths = st.lists(st.integers(1, 7), min_size=1, max_size=3)
settings_of_the_operator = {"phi": st.floats(0, 20), "power": st.floats(-2, 2)}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def wave(length, cycles, phase=0.3):
    return torch.cos(2 * math.pi * cycles / length * torch.arange(length, dtype=torch.float64) + phase)


@pytest.mark.parametrize(("length", "cycles"), [(16, 1), (16, 8), (15, 7), (15, 2), (784, 100), (2, 1)])
@pytest.mark.parametrize(("phi", "power"), [(PHI, 1.0), (0.3, 1.0), (10.0, 2.0), (PHI, -1.0), (PHI, 0.5)])
def test_sinusoids_are_eigenvectors(length, cycles, phi, power):
    x = wave(length, cycles)
    k = 2 * math.pi * cycles / length
    torch.testing.assert_close(apply(x, 0, phi, power), x * (1 + phi * k * k) ** -power)


def test_waves_of_an_image_are_damped_by_their_distance_from_zero():
    x = wave(8, 3)[:, None] * wave(10, 2)
    k = math.hypot(2 * math.pi * 3 / 8, 2 * math.pi * 2 / 10)
    torch.testing.assert_close(apply(x, (0, 1)), x / (1 + PHI * k * k))


@pytest.mark.parametrize("length", [1, 2, 9, 16])
def test_constants_stay(length):
    x = torch.full((3, length), 2.5)
    torch.testing.assert_close(apply(x, 1), x)
    torch.testing.assert_close(apply(x, (0, 1), power=-1), x)


@pytest.mark.parametrize("length", [9, 10])
def test_impulse_response(length):
    impulse = torch.zeros(length, dtype=torch.float64)
    impulse[0] = 1
    k = 2 * math.pi * torch.fft.fftfreq(length, dtype=torch.float64)
    places = torch.arange(length, dtype=torch.float64)
    expected = (torch.cos(k * places[:, None]) / (1 + PHI * k**2)).mean(1)  # the sum over all waves, written out
    torch.testing.assert_close(apply(impulse, 0), expected)
    assert apply(impulse, 0).sum() == pytest.approx(1)


def test_long_signals_decay_as_the_helmholtz_kernel():
    impulse = torch.zeros(4096, dtype=torch.float64)
    impulse[0] = 1
    phi = 100.0  # so smooth that samples do not show
    places = torch.arange(60, dtype=torch.float64)
    expected = torch.exp(-places / math.sqrt(phi)) / (2 * math.sqrt(phi))
    torch.testing.assert_close(apply(impulse, 0, phi)[5:60], expected[5:], rtol=0.02, atol=0)


@pytest.mark.parametrize("shape", [(4096,), (64, 64)])
def test_white_noise_keeps_the_mean_square_of_the_response(shape):
    x = noise(200, *shape)
    dims = tuple(range(1, len(shape) + 1))
    kept = apply(x, dims).square().mean() / x.square().mean()
    axis = [2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape]
    squares = sum(k**2 for k in torch.meshgrid(*axis, indexing="ij"))
    assert float(kept) == pytest.approx(float((1 + PHI * squares).pow(-2).mean()), rel=0.01)


def test_isotropic():
    x = noise(6, 6, 6)
    for order in [(1, 0, 2), (2, 1, 0), (1, 2, 0)]:
        torch.testing.assert_close(apply(x.permute(order), (0, 1, 2)), apply(x, (0, 1, 2)).permute(order))
    # Waves of equal length, along an axis (5) and between two (3, 4), are damped alike.
    shape = (20, 20)
    along, between = (wave(20, u)[:, None] * wave(20, v, 0.0) for u, v in ((5, 0), (3, 4)))
    factors = [(apply(w, (0, 1)) / w).median() for w in (along, between)]
    torch.testing.assert_close(*factors)
    k = wavenumbers(shape)
    assert k.shape == (20, 11) and k[5, 0] == pytest.approx(float(k[3, 4]))


def test_wavenumbers_are_angular():
    torch.testing.assert_close(wavenumbers((5,)), 2 * math.pi * torch.tensor([0, 1 / 5, 2 / 5]))
    assert wavenumbers((4, 4))[2, 2] == pytest.approx(math.pi * math.sqrt(2))
    assert wavenumbers((4, 6), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float(dtype):
    x = noise(3, 12).to(dtype)
    filtered = apply(x, 1)
    assert filtered.dtype == dtype
    rounding = 2 * torch.finfo(dtype).eps if dtype != torch.float32 else 1e-5
    torch.testing.assert_close(filtered.double(), apply(x.double(), 1), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (8,), (1, 9), (9, 1), (5, 6, 1)])
def test_odd_even_and_single_samples(shape):
    x = noise(*shape)
    dims = tuple(range(len(shape)))
    k = [2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape]
    squares = sum(a**2 for a in torch.meshgrid(*k, indexing="ij"))
    expected = torch.fft.ifftn(torch.fft.fftn(x) / (1 + PHI * squares)).real
    torch.testing.assert_close(apply(x, dims), expected)


def test_other_axes_are_a_batch():
    x = noise(3, 8, 2, 5)
    each = torch.stack([apply(x[i, :, j], (0, 1)) for i in range(3) for j in range(2)])
    torch.testing.assert_close(apply(x, (1, 3)), each.reshape(3, 2, 8, 5).transpose(1, 2))


def test_axes_in_any_order_and_from_behind():
    x = noise(4, 5, 6)
    assert axes(x, -1) == (2,) and axes(x, [2, -3]) == (0, 2)
    for dims in [(-1, -2), (2, 1), [1, 2], (-2, 2), torch.Size([1, 2])]:
        assert torch.equal(apply(x, dims), apply(x, (1, 2)))
    assert torch.equal(apply(x, -2), apply(x, 1))
    assert not torch.allclose(apply(x, (1, 2)), apply(x, (0, 1)))


@pytest.mark.parametrize(("shape", "dims"), [((5,), 0), ((2, 3, 4), (0, 2)), ((1, 3), (0, 1))])
@pytest.mark.parametrize("power", [1.0, -1.0, 0.5])
def test_gradients_of_first_and_second_order(shape, dims, power):
    x = noise(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(x, dims, power=power), x)
    assert torch.autograd.gradgradcheck(lambda x: apply(x, dims, power=power).pow(3), x)


@few
@given(shape=lengths, factor=st.floats(-3, 3), **settings_of_the_operator)
def test_linear(shape, factor, phi, power):
    x, y = noise(*shape), noise(*shape, seed=1)
    dims = tuple(range(len(shape)))
    torch.testing.assert_close(
        apply(x + factor * y, dims, phi, power), apply(x, dims, phi, power) + factor * apply(y, dims, phi, power)
    )


@few
@given(shape=lengths, **settings_of_the_operator)
def test_symmetric(shape, phi, power):
    x, y = noise(*shape), noise(*shape, seed=1)
    dims = tuple(range(len(shape)))
    left, right = (a * apply(b, dims, phi, power) for a, b in ((x, y), (y, x)))
    torch.testing.assert_close(left.sum(), right.sum())


@few
@given(shape=lengths, **settings_of_the_operator)
def test_the_opposite_power_inverts(shape, phi, power):
    x = noise(*shape)
    dims = tuple(range(len(shape)))
    torch.testing.assert_close(apply(apply(x, dims, phi, power), dims, phi, -power), x, rtol=1e-6, atol=1e-9)


def test_powers_add_up():
    x = noise(9)
    torch.testing.assert_close(apply(apply(x, 0, power=0.5), 0, power=0.5), apply(x, 0))
    torch.testing.assert_close(apply(x, 0, power=0), x)
    torch.testing.assert_close(apply(x, 0, phi=0), x)


def test_response():
    k = torch.tensor([[0.0, 1.0], [2.0, math.pi]])
    torch.testing.assert_close(response(k), 1 / (1 + PHI * k**2))
    torch.testing.assert_close(response(k, phi=2, power=-1), 1 + 2 * k**2)
    assert response(k.double()).dtype == torch.float64
    assert response(torch.tensor(1.0)) == pytest.approx(1 / PHI**2)  # 1 + φ = φ²


@pytest.mark.parametrize(
    ("x", "dims", "options", "error", "message"),
    [
        ([1.0], 0, {}, InvalidDTypeError, "x is a list"),
        (torch.arange(3), 0, {}, InvalidDTypeError, "int64"),
        (torch.zeros(3, dtype=torch.complex64), 0, {}, InvalidDTypeError, "complex64"),
        (torch.zeros(3), 1, {}, InvalidValueError, r"dims is 1, x has shape \(3,\)"),
        (torch.zeros(3), -2, {}, InvalidValueError, "distinct axes"),
        (torch.zeros(3, 3), (0, -2), {}, InvalidValueError, "distinct axes"),
        (torch.zeros(3), (), {}, InvalidValueError, "one or more"),
        (torch.zeros(()), 0, {}, InvalidValueError, "one or more"),
        (torch.zeros(3), 0.0, {}, InvalidDTypeError, "dims is 0.0"),
        (torch.zeros(3), "0", {}, InvalidDTypeError, "dims is '0'"),
        (torch.zeros(0, 3), 1, {}, InvalidValueError, "empty"),
        (torch.zeros(3), 0, {"phi": -1.0}, InvalidValueError, "phi is -1.0"),
        (torch.zeros(3), 0, {"phi": math.inf}, InvalidValueError, "phi is inf"),
        (torch.zeros(3), 0, {"power": math.nan}, InvalidValueError, "power is nan"),
    ],
)
def test_what_cannot_be_used_is_named(x, dims, options, error, message):
    with pytest.raises(error, match=message):
        apply(x, dims, **options)


@pytest.mark.gpu
def test_on_cuda():
    x = noise(2, 9, 10)
    for dtype in (torch.float16, torch.float32, torch.float64):
        there = apply(x.to("cuda", dtype), (1, 2))
        assert there.device.type == "cuda" and there.dtype == dtype
        torch.testing.assert_close(there.cpu().double(), apply(x, (1, 2)), rtol=2e-3, atol=2e-3)
