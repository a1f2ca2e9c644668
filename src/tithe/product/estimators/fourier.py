"""Both operands in the cosine basis of the contraction axis, of which the heaviest frequencies are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tithe.product.estimators.budget import affordable, wide
from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.estimators.sampled import check_share
from tithe.product.estimators.truncated import Truncated
from tithe.product.pair import Pair, RankOne

__all__ = ["Fourier", "cosines"]


@dataclass(frozen=True, slots=True)
class Fourier:
    """A·B = (A·F)·(Fᵀ·B) for the orthonormal cosine basis F: an exact identity, then truncated to few frequencies.

    Pays where the slices have an order and the operands change slowly along it (fields on a grid, time series,
    kernels of sorted points): the product then lives in few frequencies, though all slices are equally heavy. Where
    they have none, frequencies are as heavy as slices were and the transform is paid for nothing. Source: MISSION M6;
    the transform is Makhoul 1980, IEEE TASSP 28(1).

    >>> smooth = torch.cos(torch.pi * (torch.arange(64) + 0.5) / 64 * 3).expand(5, 64)
    >>> product = Fourier(0.5).multiply(Pair(smooth, smooth.T)).tensor(torch.float32)
    >>> torch.allclose(product, torch.full((5, 5), 32.0))
    True
    """

    ratio: float

    def __post_init__(self) -> None:
        check_share(self.ratio)

    @property
    def name(self) -> str:
        """``fourier(ratio)``."""
        return f"fourier({self.ratio:g})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product over the heaviest frequencies."""
        share = self._frequencies(pair.m, pair.k, pair.n, pair.A.dtype) / pair.k
        return Truncated(share).multiply(_turned(pair), generator=generator, plus=plus)

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """Both transforms, and a product over what ``ratio`` then pays for."""
        return _work(self._frequencies(m, k, n, dtype), m, k, n, dtype)

    def expected_error(self, pair: Pair, look: Look) -> float:
        """That of truncating what the transform makes of the pair."""
        share = self._frequencies(*pair.whole, pair.A.dtype) / pair.k
        return Truncated(share).expected_error(_turned(pair), look)

    def _frequencies(self, m: int, k: int, n: int, dtype: torch.dtype) -> int:
        return affordable(self.ratio, float(m) * k * n, k, lambda count: _work(count, m, k, n, dtype))


def cosines(X: Tensor) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of each row of ``X`` (lines, k), float32 or float64; O(size·log k).

    >>> cosines(torch.ones(1, 4)).round().abs()
    tensor([[2., 0., 0., 0.]])
    """
    k = X.shape[1]
    spectrum = torch.fft.rfft(torch.cat((X[:, ::2], X[:, 1::2].flip(1)), 1))
    angle = torch.arange(k // 2 + 1, dtype=X.dtype, device=X.device) * (-math.pi / (2 * k))
    turned = spectrum * torch.polar(torch.full_like(angle, math.sqrt(2 / k)), angle)
    upper = -turned.imag[:, 1 : (k + 1) // 2].flip(1)
    turned.real[:, 0] *= math.sqrt(0.5)
    return torch.cat((turned.real, upper), 1)


def _turned(pair: Pair) -> Pair:
    turned = Pair(cosines(pair.left.to(pair.wide)), cosines(pair.right.to(pair.wide).mT).mT)
    turned.whole = pair.whole
    return turned


def _work(count: int, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
    area = float(m * k + k * n)
    transform = area * (2.5 * math.log2(max(k, 2)) + 3)  # of real numbers, and turning what comes out
    return {"fourier": transform, **Truncated(count / k).work(m, k, n, wide(dtype))}
