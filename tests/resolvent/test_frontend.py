"""Front ends: what they keep, what it costs, and that they come and go as plain layers."""

import itertools
import math

import pytest
import torch
from torch import nn

from tithe.data import load
from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent import FrontEnd
from tithe.resolvent.cosine import cosine_basis, cosine_rows, cosine_transform, cosine_wavenumbers
from tithe.resolvent.frontend import evened_out

both = pytest.mark.parametrize("basis", ["dct", "pca"])


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits():
    return torch.from_numpy(load("digits").train_x[:400]).reshape(-1, 8, 8).float() / 16


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_cosine_basis_is_orthonormal(length):
    basis = cosine_basis(length, dtype=torch.float64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(length, dtype=torch.float64))
    torch.testing.assert_close(cosine_basis(length, 1, dtype=torch.float64), basis[:1])
    samples = torch.arange(length, dtype=torch.float64)
    for u in range(length):
        wave = torch.cos(math.pi * u / length * (samples + 0.5))
        torch.testing.assert_close(basis @ (wave / wave.norm()), torch.eye(length, dtype=torch.float64)[u])
    for count in (0, length + 1):
        with pytest.raises(InvalidValueError, match=f"use a number from 1 to {length}"):
            cosine_basis(length, count)


def test_cosine_transform_and_its_rows():
    x = noise(2, 3, 4, 5, dtype=torch.float64)
    whole = torch.einsum("nchw,uh,vw->ncuv", x, *(cosine_basis(n, dtype=torch.float64) for n in (4, 5)))
    torch.testing.assert_close(cosine_transform(x, (2, 3)), whole)
    torch.testing.assert_close(cosine_transform(x, (2, 3), (3, 2)), whole[:, :, :3, :2])
    chosen = torch.tensor([0, 7, 59])
    rows = cosine_rows((3, 4, 5), (1, 2), chosen).double()
    torch.testing.assert_close(x.flatten(1) @ rows.T, whole.flatten(1)[:, chosen], rtol=1e-5, atol=1e-6)


def test_cosine_wavenumbers():
    k = cosine_wavenumbers((4, 10))
    assert k[3, 5] == pytest.approx(math.hypot(math.pi * 3 / 4, math.pi / 2)) and k[0, 0] == 0
    assert torch.equal(cosine_wavenumbers((3, 4, 10), dims=(1, 2)), k.expand(3, 4, 10))


@both
@pytest.mark.parametrize(("shape", "keep"), [((8, 8), 12), ((3, 6, 5), 20), ((17,), 17), ((1,), 1)])
def test_rows_are_orthonormal(basis, shape, keep):
    front = FrontEnd.fit(noise(300, *shape), keep=keep, basis=basis)
    assert front.rows.shape == (keep, math.prod(shape)) and front.kept == keep
    torch.testing.assert_close(front.rows @ front.rows.T, torch.eye(keep), rtol=0, atol=1e-5)


@both
@pytest.mark.parametrize("shape", [(8, 8), (2, 6, 5), (17,), (2, 3, 4, 5)])
def test_coefficients_are_the_rows_of_an_input(basis, shape):
    x = noise(40, *shape).cumsum(-1)
    front = FrontEnd.fit(x, keep=9, basis=basis)
    new = noise(5, *shape, seed=1)
    torch.testing.assert_close(
        front(new), (new.flatten(1) @ front.rows.T - front.mean) / front.divisor, rtol=1e-4, atol=1e-5
    )


def test_keep_as_a_number_or_a_share(digits):
    for keep, kept in [(1, 1), (20, 20), (64, 64), (0.25, 16), (1.0, 64), (0.001, 1)]:
        for basis in ("dct", "pca"):
            assert FrontEnd.fit(digits, keep=keep, basis=basis).kept == kept


@both
@pytest.mark.parametrize("tol", [0.0, 0.01, 0.1, 0.5, 0.999])
def test_tol_is_what_may_be_lost_with_as_few_as_possible(digits, basis, tol):
    front = FrontEnd.fit(digits, tol=tol, basis=basis)
    assert front.share >= 1 - tol - 1e-5
    if front.kept > 1:
        assert FrontEnd.fit(digits, keep=front.kept - 1, basis=basis).share < 1 - tol + 1e-5
    assert (front.kept == 1) == (tol == 0.999) and (front.kept < 64) == (tol > 0)


@both
def test_share_is_what_a_reconstruction_keeps(digits, basis):
    front = FrontEnd.fit(digits, keep=10, basis=basis)
    centred = (digits - digits.mean(0)).flatten(1)
    lost = centred - centred @ front.rows.T @ front.rows
    assert front.share == pytest.approx(1 - float(lost.square().sum() / centred.square().sum()), abs=1e-5)
    assert 0.3 < front.share < 0.95


@pytest.mark.parametrize("keep", [1, 5, 16, 40, 64])
def test_no_basis_of_that_size_keeps_more_than_pca(digits, keep):
    dct, pca = (FrontEnd.fit(digits, keep=keep, basis=basis, phi=0) for basis in ("dct", "pca"))
    assert pca.share >= dct.share - 1e-6
    assert dct.share >= FrontEnd.fit(digits, keep=keep, phi=PHI).share - 1e-6  # ranked by variance alone


def test_ranked_by_response_times_variance():
    """Two waves of one axis: the longer one has less variance, and is taken at a larger φ."""
    basis = cosine_basis(16)
    X = 1.0 * noise(500, 1) * basis[2] + 1.5 * noise(500, 1, seed=1) * basis[9]
    assert FrontEnd.fit(X, keep=1, phi=0).chosen.tolist() == [9]
    assert FrontEnd.fit(X, keep=1).chosen.tolist() == [2]
    assert FrontEnd.fit(X, keep=2).chosen.tolist() == [2, 9]


@both
def test_outputs_are_centred_and_evened_out(digits, basis):
    natural, quarter, white = (FrontEnd.fit(digits, keep=20, basis=basis, whiten=w)(digits) for w in (0, 0.25, 1))
    for out in (natural, quarter, white):
        torch.testing.assert_close(out.mean(0), torch.zeros(20), rtol=0, atol=1e-4)
        assert float(out.square().mean()) == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(white.std(0, unbiased=False), torch.ones(20), rtol=1e-3, atol=0)
    ratios = [float(out.std(0).max() / out.std(0).min()) for out in (natural, quarter, white)]
    assert ratios[1] == pytest.approx(ratios[0] ** 0.75, rel=1e-3) and ratios[2] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_scale_of_inputs_does_not_matter(digits, scale):
    front, scaled = FrontEnd.fit(digits, keep=20), FrontEnd.fit(digits * scale, keep=20)
    assert torch.equal(front.chosen, scaled.chosen)
    torch.testing.assert_close(scaled(digits * scale), front(digits), rtol=1e-3, atol=1e-4)


def test_constant_coefficients_are_not_blown_up():
    X = torch.cat([noise(50, 1, 8).expand(50, 4, 8), torch.full((50, 4, 8), 2.0)], 1)  # the lower half never changes
    for whiten in (0.25, 1.0):
        out = FrontEnd.fit(X, keep=1.0, whiten=whiten, dims=(2,))(X)
        assert out.abs().max() < 10
    assert evened_out(torch.tensor([3.0, 0.0, 1e-9]), 1.0).tolist() == pytest.approx([3**0.5, 3**-0.5, 3**-0.5])
    still = torch.full((9, 4, 4), 0.3)
    for basis in ("dct", "pca"):
        front = FrontEnd.fit(still, keep=3, basis=basis)
        assert front.share == 1 and front(still).abs().max() < 1e-5
    assert FrontEnd.fit(still, tol=0.1).kept == 1


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_retarget_does_what_the_layer_did(digits, basis, dtype):
    linear = nn.Linear(64, 3, dtype=dtype)
    whole = FrontEnd.fit(digits, keep=64, basis=basis)
    short = whole.retarget(linear)
    assert (short.in_features, short.weight.dtype) == (64, dtype)
    expected = linear(digits.flatten(1).to(dtype))
    torch.testing.assert_close(short(whole(digits).to(dtype)), expected, rtol=1e-3, atol=1e-4)
    # With fewer, it is the layer on what the coefficients say of an input.
    front = FrontEnd.fit(digits, keep=20, basis=basis)
    rebuilt = digits.flatten(1) @ front.rows.T @ front.rows
    found = front.retarget(linear)(front(digits).to(dtype))
    torch.testing.assert_close(found, linear(rebuilt.to(dtype)), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, expected, atol=1e-2)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_fold_is_one_plain_layer(digits, basis, dtype, bias):
    front = FrontEnd.fit(digits, keep=20, basis=basis)
    linear = nn.Linear(20, 3, bias=bias, dtype=dtype)
    before = linear.weight.detach().clone()
    whole = front.fold(linear)
    assert type(whole) is nn.Linear and whole.in_features == 64 and whole.weight.dtype == dtype
    torch.testing.assert_close(
        whole(digits.flatten(1).to(dtype)), linear(front(digits).to(dtype)), rtol=1e-3, atol=1e-4
    )
    assert torch.equal(linear.weight, before) and whole.weight.requires_grad
    torch.testing.assert_close(front.retarget(whole).weight, linear.weight, rtol=1e-3, atol=1e-4)  # and back


def test_a_layer_without_bias_takes_up_no_mean(digits):
    linear = nn.Linear(64, 3, bias=False)
    with pytest.raises(InvalidStateError, match="add a bias"):
        FrontEnd.fit(digits, keep=20).retarget(linear)
    centred = digits - digits.mean(0)
    front = FrontEnd.fit(centred, keep=64)
    front.mean.zero_()
    torch.testing.assert_close(front.retarget(linear)(front(centred)), linear(centred.flatten(1)), rtol=1e-3, atol=1e-4)


def test_channels_have_no_order():
    X = noise(60, 3, 6, 5).cumsum(-1)
    front = FrontEnd.fit(X, keep=30)
    assert front.dims == (1, 2) and front.shape == (3, 6, 5)
    turned = FrontEnd.fit(X[:, [2, 0, 1]], keep=30)
    assert sorted(((turned.chosen // 30 + 2) % 3 * 30 + turned.chosen % 30).tolist()) == front.chosen.tolist()
    assert turned.share == pytest.approx(front.share)
    assert FrontEnd.fit(X, keep=3, dims=-1).dims == (2,) and FrontEnd.fit(X, keep=3, dims=[1, 3]).dims == (0, 2)


def test_signals_in_one_dimension():
    X = noise(100, 50).cumsum(1)
    front = FrontEnd.fit(X, keep=8)
    assert front.dims == (0,) and front.chosen.tolist() == list(range(8)) and front.share > 0.9
    assert front(X).shape == (100, 8) and front.multiply_adds == 8 * 50


def test_multiply_adds_are_those_of_the_smallest_block(digits):
    front = FrontEnd.fit(digits, keep=20)
    down, across = int(front.chosen.div(8, rounding_mode="floor").max()) + 1, int((front.chosen % 8).max()) + 1
    assert front.multiply_adds == down * 8 * 8 + across * down * 8
    assert FrontEnd.fit(digits, keep=20, basis="pca").multiply_adds == 20 * 64
    channels = FrontEnd.fit(noise(9, 3, 4, 5), keep=60)
    assert channels.multiply_adds == 3 * (4 * 4 * 5 + 5 * 4 * 5)


@both
def test_a_state_dict_is_all_there_is(digits, basis):
    front, other = (FrontEnd.fit(X, keep=20, basis=basis) for X in (digits, digits.flip(1) ** 2))
    assert front.share != other.share
    other.load_state_dict(front.state_dict())
    assert other.share == front.share and other.multiply_adds == front.multiply_adds
    assert torch.equal(other(digits), front(digits))
    with pytest.raises(RuntimeError, match="size mismatch"):
        FrontEnd.fit(digits, keep=19, basis=basis).load_state_dict(front.state_dict())


def test_nothing_in_it_is_trained_and_gradients_pass(digits):
    front = FrontEnd.fit(digits, keep=5)
    assert not list(front.parameters())
    x = digits[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(front.double(), x)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.02)])
@both
def test_dtypes(digits, basis, dtype, close):
    front = FrontEnd.fit(digits, keep=20, basis=basis)
    expected = front(digits)
    moved = front.to(dtype)
    out = moved(digits)  # inputs follow the front end
    assert out.dtype == dtype and moved.chosen.dtype == torch.int64
    torch.testing.assert_close(out.float(), expected, rtol=close, atol=close)
    assert FrontEnd.fit(digits.to(dtype), keep=20, basis=basis).rows.dtype == torch.float32


def test_what_print_shows(digits):
    front = FrontEnd.fit(digits, keep=16)
    assert repr(front) == f"FrontEnd(dct, (8, 8) → 16 coefficients, {front.share:.1%} of the variance)"


@pytest.mark.parametrize(
    ("X", "options", "error", "message"),
    [
        ([[1.0]], {}, InvalidDTypeError, "x is a list"),
        (torch.zeros(4, 4, dtype=torch.uint8), {}, InvalidDTypeError, "uint8"),
        (torch.zeros(4), {}, InvalidValueError, "two or more inputs"),
        (torch.zeros(1, 4), {}, InvalidValueError, "two or more inputs"),
        (torch.zeros(4, 4), {"basis": "fft"}, InvalidValueError, "basis is 'fft'; use one of 'dct', 'pca'"),
        (torch.zeros(4, 4), {"dims": 0}, InvalidValueError, "axis 0 counts the inputs"),
        (torch.zeros(4, 4), {"dims": 2}, InvalidValueError, "distinct axes"),
        (torch.zeros(4, 4), {"tol": 0.1}, InvalidValueError, "exactly one"),
        (torch.zeros(4, 4), {"keep": None}, InvalidValueError, "exactly one"),
        *((torch.zeros(4, 4), {"keep": keep}, InvalidValueError, "keep is") for keep in (0, -1, 5, 0.0, 1.1, -0.5)),
        *((torch.zeros(4, 4), {"keep": None, "tol": tol}, InvalidValueError, "tol is") for tol in (-0.1, 1, math.nan)),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(X, options, error, message):
    with pytest.raises(error, match=message):
        FrontEnd.fit(X, **{"keep": 2} | options)


def test_layers_and_inputs_that_do_not_fit(digits):
    front = FrontEnd.fit(digits, keep=20)
    for call, inputs in itertools.product((front.retarget, front.fold), (19, 65)):
        with pytest.raises(InvalidValueError, match=f"the layer has {inputs} inputs, this front end wants one with"):
            call(nn.Linear(inputs, 2))
    for wrong in (digits[:, :7], digits.flatten(1), digits[0]):
        with pytest.raises(InvalidValueError, match=r"expected \(n, 8, 8\)"):
            front(wrong)


@pytest.mark.gpu
@both
def test_on_cuda(digits, basis):
    fitted = FrontEnd.fit(digits.cuda(), keep=20, basis=basis)
    moved = FrontEnd.fit(digits, keep=20, basis=basis).cuda()
    assert fitted.rows.is_cuda and fitted.share == pytest.approx(moved.share, rel=1e-4)
    torch.testing.assert_close(fitted(digits.cuda()).abs(), moved(digits.cuda()).abs(), rtol=1e-2, atol=1e-2)
    assert fitted.fold(nn.Linear(20, 2).cuda()).weight.is_cuda
