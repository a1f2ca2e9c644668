"""The orthonormal cosine transform (DCT-II), its matrices, and the wavenumbers of its coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tithe.errors import InvalidValueError

__all__ = ["along", "cosine_basis", "cosine_rows", "cosine_transform", "cosine_wavenumbers"]


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


def cosine_transform(x: Tensor, dims: Sequence[int], counts: Sequence[int | None] | None = None) -> Tensor:
    """The longest waves of ``x`` along each of ``dims``: so many as ``counts`` says, all by default.

    >>> cosine_transform(torch.ones(4, 4), (0, 1), (1, 2))
    tensor([[4., 0.]])
    """
    counts = counts or [None] * len(dims)
    return along(x, dims, [cosine_basis(x.shape[d], c, dtype=x.dtype) for d, c in zip(dims, counts, strict=True)])


def along(x: Tensor, dims: Sequence[int], matrices: Sequence[Tensor]) -> Tensor:
    """``x`` times one matrix (new length, length) along each of ``dims``. O(elements · new lengths)."""
    for d, matrix in zip(dims, matrices, strict=True):
        x = (x.movedim(d, -1) @ matrix.T.to(x.device)).movedim(-1, d)
    return x


def cosine_rows(shape: Sequence[int], dims: Sequence[int], chosen: Tensor) -> Tensor:
    """Coefficients at the places ``chosen`` of a flattened transform as linear functions of a flattened input.

    Returns:
        (chosen, elements) float32 with orthonormal rows, on the CPU. O(chosen · elements · lengths).

    >>> cosine_rows((2, 2), (0, 1), torch.tensor([0, 3]))
    tensor([[ 0.5000,  0.5000,  0.5000,  0.5000],
            [ 0.5000, -0.5000, -0.5000,  0.5000]])
    """
    unit = torch.zeros(len(chosen), math.prod(shape))
    unit[torch.arange(len(chosen)), chosen.cpu()] = 1
    waves = unit.reshape(-1, *shape)
    for d in dims:
        waves = (waves.movedim(d + 1, -1) @ cosine_basis(shape[d])).movedim(-1, d + 1)
    return waves.flatten(1)


def cosine_wavenumbers(shape: Sequence[int], dims: Sequence[int] | None = None) -> Tensor:
    """|k| of every coefficient of a DCT over some axes, all by default: π·u/n along each, float32 in that shape.

    >>> cosine_wavenumbers((2, 2))
    tensor([[0.0000, 1.5708],
            [1.5708, 2.2214]])
    >>> cosine_wavenumbers((2, 2), dims=[1])
    tensor([[0.0000, 1.5708],
            [0.0000, 1.5708]])
    """
    total = torch.zeros(())
    for d, length in enumerate(shape):
        k = math.pi * torch.arange(length) / length
        total = total[..., None] + (k.square() if dims is None or d in dims else torch.zeros(length))
    return total.sqrt()
