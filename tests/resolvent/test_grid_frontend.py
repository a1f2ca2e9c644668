"""Front ends that keep a grid: small images, and coefficients of patches."""

import math

import pytest
import torch
from torch import nn

from tithe.data import load
from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.resolvent import FrontEnd, GridFrontEnd, PatchFrontEnd
from tithe.resolvent.cosine import cosine_basis, cosine_wavenumbers


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits():
    return torch.from_numpy(load("digits").train_x[:400]).reshape(-1, 1, 8, 8).float() / 16


def plain(front, images):
    """A grid front end without its standardising."""
    return front(images) * front.spread + front.mean


def test_small_images_are_the_longest_waves():
    X = noise(20, 2, 9, 8)
    front = GridFrontEnd.fit(X, size=(4, 5))
    small = plain(front, X)
    assert small.shape == (20, 2, 4, 5)
    rows = [cosine_basis(n) for n in (9, 8)]
    whole = torch.einsum("nchw,uh,vw->ncuv", X, *rows)[:, :, :4, :5]
    few = [cosine_basis(n) for n in (4, 5)]
    expected = torch.einsum("ncuv,uh,vw->nchw", whole, *few) * math.sqrt(4 * 5 / (9 * 8))
    torch.testing.assert_close(small, expected, rtol=1e-4, atol=1e-5)
    bases = [m * math.sqrt(n / len(m)) for m, n in ((front.down, 9), (front.across, 8))]
    for m in bases:
        torch.testing.assert_close(m @ m.T, torch.eye(len(m)), rtol=0, atol=1e-5)


def test_smooth_images_stay_what_they_are():
    front = GridFrontEnd.fit(noise(9, 1, 12, 10), size=(6, 5))
    torch.testing.assert_close(plain(front, torch.full((1, 1, 12, 10), 3.0)), torch.full((1, 1, 6, 5), 3.0))
    wave = cosine_basis(12)[1][:, None].expand(12, 10)
    expected = cosine_basis(6)[1][:, None].expand(6, 5) * math.sqrt(6 / 12)
    torch.testing.assert_close(plain(front, wave[None, None])[0, 0], expected, rtol=1e-4, atol=1e-5)
    full = GridFrontEnd.fit(noise(9, 1, 12, 10), size=(12, 10))
    torch.testing.assert_close(plain(full, noise(2, 1, 12, 10)), noise(2, 1, 12, 10), rtol=1e-4, atol=1e-4)


def test_each_small_pixel_is_standardised(digits):
    out = GridFrontEnd.fit(digits, size=(5, 4))(digits)
    torch.testing.assert_close(out.mean(0), torch.zeros(1, 5, 4), rtol=0, atol=1e-4)
    torch.testing.assert_close(out.std(0, unbiased=False), torch.ones(1, 5, 4), rtol=1e-3, atol=0)
    still = digits.clone()
    still[:, :, :, :4] = 1
    assert GridFrontEnd.fit(still, size=(8, 8))(still).abs().max() < 100  # what never changes is not blown up


def test_grid_multiply_adds_and_print():
    front = GridFrontEnd.fit(noise(4, 3, 10, 8), size=(5, 4))
    assert front.multiply_adds == 3 * (5 * 10 * 8 + 5 * 8 * 4)
    assert repr(front) == "GridFrontEnd(10×8 → 5×4 pixels)"


@pytest.mark.parametrize(
    ("height", "width", "patch", "stride"),
    [(8, 8, 4, 2), (8, 8, 2, 2), (9, 7, 4, 3), (7, 10, 3, 1), (5, 5, 6, 4), (8, 8, 1, 1)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_against_their_definition(height, width, patch, stride, channels):
    X = noise(20, channels, height, width).cumsum(-1)
    most = channels * patch**2
    front = PatchFrontEnd.fit(X, patch=patch, stride=stride, keep=min(5, most))
    out = front(X)
    rows, columns = -(-height // stride), -(-width // stride)
    assert out.shape == (20, front.kernels.shape[0], rows, columns)
    # The kernels are orthonormal, of one channel each, and rows of a transform.
    flat = front.kernels.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat)), rtol=0, atol=1e-5)
    # Each output is a kernel on a patch; beyond the edge lies what lies at the edge.
    raw = out * front.divisor[:, None, None] + front.mean[:, None, None]
    left, _, top, _ = front._padding()
    for i in range(rows):
        for j in range(columns):
            down = (i * stride - top + torch.arange(patch)).clamp(0, height - 1)
            across = (j * stride - left + torch.arange(patch)).clamp(0, width - 1)
            expected = X[:, :, down][..., across].flatten(1) @ flat.T
            torch.testing.assert_close(raw[:, :, i, j], expected, rtol=1e-3, atol=1e-3)


def test_patches_lie_evenly_and_cover_the_image():
    for length, patch, stride in [(8, 4, 2), (28, 4, 2), (9, 4, 3), (10, 3, 1), (5, 6, 4), (8, 2, 2)]:
        front = PatchFrontEnd.fit(noise(4, 1, length, length), patch=patch, stride=stride, keep=1)
        left, right, top, bottom = front._padding()
        assert 0 <= right - left <= 1 and (left, right) == (top, bottom)
        assert (-(-length // stride) - 1) * stride + patch >= length


def test_patch_coefficients_are_ranked_by_response_times_variance(digits):
    every = PatchFrontEnd.fit(digits, keep=16, whiten=0)
    variance = every(digits).var((0, 2, 3))
    k = cosine_wavenumbers((4, 4)).flatten()
    for phi in (0.0, 1.618, 50.0):
        chosen = (variance / (1 + phi * k**2)).topk(5).indices.sort().values
        front = PatchFrontEnd.fit(digits, keep=5, phi=phi)
        torch.testing.assert_close(front.kernels, every.kernels[chosen])
    assert not torch.equal(
        PatchFrontEnd.fit(noise(50, 1, 8, 8), keep=5, phi=0.0).kernels,
        PatchFrontEnd.fit(noise(50, 1, 8, 8), keep=5, phi=50.0).kernels,
    )


def test_each_channel_is_ranked_by_its_own_waves(digits):
    X = torch.cat([digits, 0.5 * digits.flip(2), digits**2], 1)
    every = PatchFrontEnd.fit(X, keep=48, whiten=0)
    k = cosine_wavenumbers((4, 4)).flatten()
    chosen = (every(X).var((0, 2, 3)) / (1 + 5 * k.repeat(3) ** 2)).topk(12).indices.sort().values
    torch.testing.assert_close(PatchFrontEnd.fit(X, keep=12, phi=5).kernels, every.kernels[chosen])


def test_patch_outputs_are_centred_and_evened_out(digits):
    for whiten, same in ((1.0, True), (0.0, False)):
        out = PatchFrontEnd.fit(digits, keep=6, whiten=whiten)(digits)
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-4)
        spread = out.std((0, 2, 3), unbiased=False)
        assert float(spread.square().mean()) == pytest.approx(1, rel=1e-3)
        assert torch.allclose(spread, torch.ones(6), rtol=1e-3) == same


def test_fold_is_padding_and_a_convolution(digits):
    for options in ({"patch": 4, "stride": 2}, {"patch": 5, "stride": 3}, {"patch": 3, "stride": 1}):
        front = PatchFrontEnd.fit(digits, keep=6, whiten=0.5, **options)
        folded = front.fold()
        assert [type(layer) for layer in folded] == [nn.ReplicationPad2d, nn.Conv2d]
        torch.testing.assert_close(folded(digits), front(digits), rtol=1e-4, atol=1e-4)
        folded(digits).sum().backward()
        assert folded[1].weight.grad is not None and not list(front.parameters())
    assert front.double().fold()[1].weight.dtype == torch.float64


def test_patches_as_large_as_the_image_are_the_plain_front_end(digits):
    patches = PatchFrontEnd.fit(digits, patch=8, stride=8, keep=10)
    whole = FrontEnd.fit(digits[:, 0], keep=10, whiten=1.0)
    torch.testing.assert_close(patches(digits).flatten(1), whole(digits[:, 0]), rtol=1e-3, atol=1e-4)


def test_patch_multiply_adds_and_print():
    front = PatchFrontEnd.fit(noise(4, 3, 9, 8), patch=4, stride=2, keep=7)
    assert front.multiply_adds == 7 * 3 * 16 * 5 * 4
    assert repr(front) == "PatchFrontEnd(3 × 4×4 patches every 2 pixels → 7 coefficients)"


MAKERS = [lambda X: GridFrontEnd.fit(X, size=(4, 5)), lambda X: PatchFrontEnd.fit(X, keep=6)]
kinds = pytest.mark.parametrize("make", MAKERS, ids=["grid", "patch"])


@kinds
def test_a_state_dict_is_all_there_is(digits, make):
    front, other = make(digits), make(digits.flip(2) ** 2)
    assert not torch.allclose(front(digits), other(digits))
    other.load_state_dict(front.state_dict())
    assert torch.equal(front(digits), other(digits))


@kinds
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_inputs_does_not_matter(digits, make, scale):
    torch.testing.assert_close(make(digits * scale)(digits * scale), make(digits)(digits), rtol=1e-3, atol=1e-3)


@kinds
def test_dtypes_and_gradients(digits, make):
    front = make(digits)
    expected = front(digits)
    out = front.double()(digits)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out.float(), expected, rtol=1e-3, atol=1e-3)
    assert torch.autograd.gradcheck(front, digits[:2].double().requires_grad_())
    assert make(digits.half())(digits).dtype == torch.float32


@kinds
def test_images_that_do_not_fit(digits, make):
    front = make(digits.expand(-1, 3, -1, -1))
    for wrong in (digits, digits.expand(-1, 3, -1, -1)[..., :7], digits.expand(-1, 3, -1, -1)[0]):
        with pytest.raises(InvalidValueError, match=r"expected \(n, 3, 8, 8\)"):
            front(wrong)
    for wrong in (digits[:1], digits[:, 0]):
        with pytest.raises(InvalidValueError, match="two or more images"):
            make(wrong)
    with pytest.raises(InvalidDTypeError, match="uint8"):
        make(digits.byte())


@pytest.mark.parametrize("size", [(0, 4), (9, 4), (4, 9)])
def test_sizes_out_of_range(digits, size):
    with pytest.raises(InvalidValueError, match=rf"size is \({size[0]}, {size[1]}\); use \(1, 1\) to \(8, 8\)"):
        GridFrontEnd.fit(digits, size=size)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"stride": 0}, "stride is 0"), ({"stride": 5}, "1 ≤ stride ≤ patch"), ({"keep": 0}, "keep is 0"),
     ({"keep": 17}, "1 to 16 coefficients")],
)  # fmt: skip
def test_patches_out_of_range(digits, options, message):
    with pytest.raises(InvalidValueError, match=message):
        PatchFrontEnd.fit(digits, **options)


@pytest.mark.gpu
@kinds
def test_on_cuda(digits, make):
    for front in (make(digits.cuda()), make(digits).cuda()):
        torch.testing.assert_close(front(digits.cuda()).cpu(), make(digits)(digits), rtol=1e-2, atol=1e-2)
