"""Front ends for convolutions, which need a grid: an image of fewer pixels, or few cosine coefficients a patch."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn

from tithe.errors import InvalidValueError
from tithe.golden import PHI
from tithe.resolvent.cosine import cosine_basis, cosine_wavenumbers
from tithe.resolvent.frontend import evened_out
from tithe.resolvent.operator import checked, response

__all__ = ["GridFrontEnd", "PatchFrontEnd"]

_LEAST_SPREAD = 1e-6


class GridFrontEnd(nn.Module):
    """The longest h × w cosine waves of images, as images of h × w pixels, each pixel standardised.

    Source: MISSION R11. A convolutional net on the small image spends h·w/(H·W) of its multiply–adds on each layer.

    >>> images = torch.rand(10, 1, 28, 28)
    >>> front = GridFrontEnd.fit(images, size=(14, 14))
    >>> front(images).shape, front.multiply_adds
    (torch.Size([10, 1, 14, 14]), 16464)
    """

    down: Tensor
    across: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, shape: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        if not (1 <= size[0] <= shape[0] and 1 <= size[1] <= shape[1]):
            raise InvalidValueError(f"size is {size}; use (1, 1) to {shape}, that of the images")
        for name, length, count in zip(("down", "across"), shape, size, strict=True):
            # Scaled so that a constant image keeps its brightness.
            matrix = cosine_basis(count).T @ cosine_basis(length, count) * math.sqrt(count / length)
            self.register_buffer(name, matrix)
        self.register_buffer("mean", torch.zeros(channels, *size))
        self.register_buffer("spread", torch.ones(channels, *size))

    @classmethod
    def fit(cls, X: Tensor, size: tuple[int, int]) -> Self:
        """Measure mean and standard deviation of each small pixel.

        Args:
            X: training images (n, channels, H, W), real.
            size: (h, w), at most (H, W).

        Returns:
            The front end. Raises ``InvalidValueError`` for other shapes. O(n · H · W · (h + w)).
        """
        _images(X)
        front = cls(X.shape[1], (X.shape[2], X.shape[3]), size).to(X.device)
        small = front(X)
        front.mean = small.mean(0)
        spread = small.std(0, unbiased=False)
        front.spread = torch.where(spread > _LEAST_SPREAD * spread.max(), spread, 1.0)
        return front

    @property
    def multiply_adds(self) -> int:
        """What one image costs."""
        (h, height), (w, width) = self.down.shape, self.across.shape
        return len(self.mean) * (h * height * width + h * w * width)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, H, W) as (n, channels, h, w). ``InvalidValueError`` for images of another shape."""
        _fits(x, (len(self.mean), self.down.shape[1], self.across.shape[1]))
        small = self.down @ x.to(self.down.dtype) @ self.across.T
        return (small - self.mean) / self.spread

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        (h, height), (w, width) = self.down.shape, self.across.shape
        return f"{height}×{width} → {h}×{w} pixels"


class PatchFrontEnd(nn.Module):
    """The cosine coefficients of overlapping patches with the most r(k)·variance, as channels of a smaller grid.

    It is a convolution with fixed kernels and a stride, in place of a net's first convolution and pooling; ``fold``
    gives that convolution. Source: MISSION R11; Ulicny et al. 2022, harmonic networks.

    >>> images = torch.rand(10, 1, 28, 28)
    >>> front = PatchFrontEnd.fit(images, patch=4, stride=2, keep=6)
    >>> front(images).shape, front.multiply_adds
    (torch.Size([10, 6, 14, 14]), 18816)
    """

    kernels: Tensor
    mean: Tensor
    divisor: Tensor

    def __init__(self, kernels: Tensor, stride: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.stride, self.shape = stride, shape
        self.register_buffer("kernels", kernels)  # (kept, channels, patch, patch)
        self.register_buffer("mean", torch.zeros(len(kernels)))
        self.register_buffer("divisor", torch.ones(len(kernels)))

    @classmethod
    def fit(
        cls, X: Tensor, *, patch: int = 4, stride: int = 2, keep: int = 8, whiten: float = 1.0, phi: float = PHI
    ) -> Self:
        """Choose coefficients by training images.

        Args:
            X: training images (n, channels, H, W), real.
            patch: edge of a patch in pixels.
            stride: pixels between patches, at most ``patch``; H and W become H/stride and W/stride, rounded up.
            keep: coefficients, of channels · patch² at most.
            whiten: how far coefficients are made equally large: 0 leaves their natural sizes, 1 gives each a standard
                deviation of 1; on average all have size 1.
            phi: of the resolvent by which they are ranked.

        Returns:
            The front end. Raises ``InvalidValueError`` for what is out of range. O(n · H · W · channels · patch²).
        """
        _images(X)
        channels, most = X.shape[1], X.shape[1] * patch * patch
        if not 1 <= stride <= patch:
            raise InvalidValueError(f"stride is {stride}, patch is {patch}; use 1 ≤ stride ≤ patch")
        if not 1 <= keep <= most:
            raise InvalidValueError(f"keep is {keep}; a patch of {channels} channels has 1 to {most} coefficients")
        basis = cosine_basis(patch)
        waves = torch.einsum("uy,vx->uvyx", basis, basis).reshape(-1, patch, patch)
        kernels = torch.zeros(channels, len(waves), channels, patch, patch)
        for channel in range(channels):
            kernels[channel, :, channel] = waves
        shape = (X.shape[2], X.shape[3])
        every = cls(kernels.flatten(0, 1), stride, shape).to(X.device)
        found = every(X)
        variance = found.var((0, 2, 3), unbiased=False)
        scores = variance * response(cosine_wavenumbers((patch, patch)), phi).flatten().repeat(channels).to(X.device)
        chosen = scores.argsort(descending=True, stable=True)[:keep].sort().values
        front = cls(every.kernels[chosen], stride, shape).to(X.device)
        front.mean = found.mean((0, 2, 3))[chosen]
        front.divisor = evened_out(variance[chosen].sqrt(), whiten)
        return front

    @property
    def multiply_adds(self) -> int:
        """What one image costs."""
        return self.kernels.numel() * math.prod(-(-length // self.stride) for length in self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, H, W) as (n, kept, H/stride, W/stride). ``InvalidValueError`` for another shape."""
        _fits(x, (self.kernels.shape[1], *self.shape))
        kernels = self.kernels / self.divisor[:, None, None, None]
        return nn.functional.conv2d(self._padded(x.to(kernels.dtype)), kernels, -self.mean / self.divisor, self.stride)

    def fold(self) -> nn.Sequential:
        """The same as plain layers: padding and an ``nn.Conv2d``, which may be trained."""
        kept, channels, patch, _ = self.kernels.shape
        plain = nn.Conv2d(channels, kept, patch, self.stride, device=self.kernels.device, dtype=self.kernels.dtype)
        with torch.no_grad():
            plain.weight.copy_(self.kernels / self.divisor[:, None, None, None])
            assert plain.bias is not None
            plain.bias.copy_(-self.mean / self.divisor)
        return nn.Sequential(nn.ReplicationPad2d(self._padding()), plain)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        kept, channels, patch, _ = self.kernels.shape
        return f"{channels} × {patch}×{patch} patches every {self.stride} pixels → {kept} coefficients"

    def _padding(self) -> tuple[int, int, int, int]:
        """Pixels at the left, right, top and bottom, so that patches lie evenly over the image."""
        patch = self.kernels.shape[-1]
        sides: list[int] = []
        for length in reversed(self.shape):
            missing = max(0, (-(-length // self.stride) - 1) * self.stride + patch - length)
            sides += [missing // 2, missing - missing // 2]
        return sides[0], sides[1], sides[2], sides[3]

    def _padded(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self._padding(), mode="replicate")


def _fits(x: Tensor, shape: tuple[int, ...]) -> None:
    if x.ndim != 4 or tuple(x.shape[1:]) != shape:
        raise InvalidValueError(f"x has shape {tuple(x.shape)}; expected (n, {', '.join(map(str, shape))})")


def _images(X: Tensor) -> None:
    checked(X)
    if X.ndim != 4 or len(X) < 2:
        raise InvalidValueError(f"X has shape {tuple(X.shape)}; pass two or more images (n, channels, H, W)")
