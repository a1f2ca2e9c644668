"""The orthonormal cosine transform (DCT-II) as matrices, and the wavenumbers of its coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tithe.errors import InvalidValueError

__all__ = ["cosine_basis", "cosine_wavenumbers"]


def cosine_basis(length: int, count: int | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The longest waves of the orthonormal DCT-II as rows.

    Args:
        length: n samples.
        count: rows, 1 to n; all by default.
        dtype: of the result.

    Returns:
        (count, n) with orthonormal rows, so ``basis @ x`` are coefficients and ``basis.T @ c`` is the signal.
        Raises ``InvalidValueError`` for a count that is out of range. O(count · n).

    >>> (cosine_basis(4) @ torch.ones(4)).round(decimals=4)
    tensor([2., 0., 0., 0.])
    """
    count = length if count is None else count
    if not 1 <= count <= length:
        raise InvalidValueError(f"count is {count} of {length} samples; use a number from 1 to {length}")
    samples, waves = torch.arange(length, dtype=torch.float64) + 0.5, torch.arange(count, dtype=torch.float64)
    basis = torch.cos(math.pi / length * waves[:, None] * samples) * math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return basis.to(dtype)


def cosine_wavenumbers(shape: Sequence[int]) -> Tensor:
    """|k| of every coefficient of a DCT over some axes: π·u/n along each, float32 in that shape.

    >>> cosine_wavenumbers((2, 2))
    tensor([[0.0000, 1.5708],
            [1.5708, 2.2214]])
    """
    total = torch.zeros(())
    for length in shape:
        total = total[..., None] + (math.pi * torch.arange(length) / length).square()
    return total.sqrt()
