"""The O(n²) passes around products, each reading its matrix as seldom as it can.

Numba on contiguous float32 CPU tensors, Triton on CUDA, plain torch on everything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from tithe.parallel import run_parts_beside_torch

__all__ = ["FLOAT32_SUMS", "any_order", "numba_can", "over_ranges", "quantise_lines", "rescale", "round_lines"]

_SPLIT = 1 << 18  # elements a thread should have before it is worth starting
FLOAT32_SUMS = 1024  # summands, after which a sum goes on in float64
any_order: Any = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})  # sums may be reordered


class Rounded(NamedTuple):
    """Lines in 8 bits.

    Attributes:
        values: int8 (lines, length), in the memory order of what was rounded if that is contiguous or a transpose.
        scale: float32 (lines,); the lines are about ``values·scale``.
        squares: float64 (lines,), sum of squares of each line before any shift, where it cost no other pass.
    """

    values: Tensor
    scale: Tensor
    squares: Tensor | None


def round_lines(X: Tensor, shift: Tensor | None, level: int) -> Rounded:
    """Each line of ``X − shift`` scaled so that its largest magnitude becomes ``level``, and rounded half to even.

    Args:
        X: shape (lines, length), floating point.
        shift: what each line loses first, (lines,), or ``None``.
        level: at most 127.

    Returns:
        The rounded lines and their scales, the same bits on every way. O(size).

    >>> round_lines(torch.tensor([[1.0, -2.0]]), None, 4).values
    tensor([[ 2, -4]], dtype=torch.int8)
    """
    shift = torch.zeros(len(X), dtype=torch.float32, device=X.device) if shift is None else shift.float()
    if not numba_can(X):
        low, high = X.amin(1).float(), X.amax(1).float()
        scale = torch.maximum(shift - low, high - shift) / level
        return Rounded(quantise_lines(X, shift, scale), scale, None)
    lines, by_rows = len(X), X.is_contiguous()
    source = X if by_rows else X.T
    out = torch.empty(source.shape, dtype=torch.int8, device="cpu")
    scale = torch.empty(lines, dtype=torch.float32, device="cpu")
    squares = torch.empty(lines, dtype=torch.float64, device="cpu")
    kernel = _round_rows if by_rows else _round_columns
    results = out.numpy(), scale.numpy(), squares.numpy()
    over_ranges(kernel, lines, X.numel(), source.numpy(), shift.numpy(), level, *results)
    return Rounded(out if by_rows else out.T, scale, squares)


def quantise_lines(X: Tensor, shift: Tensor | None, scale: Tensor, dtype: torch.dtype = torch.int8) -> Tensor:
    """``(X − shift)/scale``, rounded, line by line.

    Args:
        X: shape (lines, length), floating point.
        shift: what each line loses first, float32 (lines,), or ``None``.
        scale: float32 (lines,); 0 (a constant line) gives zeros. The caller sees to it that the result fits.
        dtype: int8 (half to even) or float8_e4m3fn.

    Returns:
        (lines, length) of ``dtype``, in the memory order of ``X`` if that is a contiguous matrix or its transpose.
        O(size), the same bits on every way for int8.

    >>> quantise_lines(torch.tensor([[1.0, -2.0]]), None, torch.tensor([0.5]))
    tensor([[ 2, -4]], dtype=torch.int8)
    """
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    shift = torch.zeros_like(scale) if shift is None else shift
    if X.is_cuda and _triton() is not None:
        quantised: Tensor = _triton().quantise(X, shift, inverse, dtype)
        return quantised
    scaled = (X.float() - shift[:, None]) * inverse[:, None]
    return scaled.to(dtype) if dtype.is_floating_point else scaled.round_().to(dtype)


def rescale(sums: Tensor, row_scale: Tensor, column_scale: Tensor, plus: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """``sums·row_scale·column_scale + u vᵀ`` as float32, written over the memory of ``sums`` where it can be.

    Args:
        sums: int32 (m, n); not to be used afterwards.
        row_scale: float32 (m,).
        column_scale: float32 (n,).
        plus: the vectors u (m,) and v (n,), float32, of a rank-one matrix to be added.

    O(mn).

    >>> rescale(torch.tensor([[6]], dtype=torch.int32), torch.tensor([0.5]), torch.tensor([2.0]))
    tensor([[6.]])
    """
    if sums.is_cuda and _triton() is not None:
        rescaled: Tensor = _triton().rescale(sums, row_scale, column_scale, plus)
        return rescaled
    if not (sums.device.type == "cpu" and sums.is_contiguous()):
        out = sums.float().mul_(row_scale[:, None]).mul_(column_scale)
        return out if plus is None else out.add_(plus[0][:, None] * plus[1])
    out = sums.view(torch.float32)
    u, v = plus if plus is not None else (row_scale, column_scale)
    over_ranges(
        _rescale, len(sums), sums.numel(),
        sums.numpy(), row_scale.numpy(), column_scale.numpy(), u.numpy(), v.numpy(), plus is not None, out.numpy(),
    )  # fmt: skip
    return out


def over_ranges(kernel: Callable[..., None], lines: int, elements: int, *arrays: Any) -> None:
    """Call ``kernel(first, last, *arrays)`` on ranges of lines that cover all of them."""
    parts = max(1, min(torch.get_num_threads(), elements // _SPLIT, lines))
    edges = [lines * i // parts for i in range(parts + 1)]
    run_parts_beside_torch(lambda i: kernel(edges[i], edges[i + 1], *arrays), parts)


@cache
def _triton() -> Any:
    """The Triton passes, or nothing where Triton is not installed."""
    try:
        return importlib.import_module("tithe.product.kernels.triton_passes")
    except ImportError:
        return None


def numba_can(X: Tensor) -> bool:
    """Whether the compiled loops take ``X``: float32 on the CPU, contiguous or the transpose of a contiguous matrix."""
    return X.device.type == "cpu" and X.dtype == torch.float32 and (X.is_contiguous() or X.T.is_contiguous())


@any_order
def _squares(line):
    total = np.float64(0)
    for begin in range(0, line.size, FLOAT32_SUMS):
        part = line[begin : begin + FLOAT32_SUMS]
        q = np.float32(0)
        for j in range(part.size):
            q += part[j] * part[j]
        total += q
    return total


@numba.njit(nogil=True, cache=True)
def _round_rows(first, last, X, shift, level, out, scale, squares):
    row = np.empty(X.shape[1], np.float32)
    bits = row.view(np.int32)
    for i in range(first, last):
        s = shift[i]
        for j in range(row.size):
            row[j] = X[i, j] - s
        reach = np.int32(0)  # magnitudes in the order of their bits: integer maxima vectorise
        for j in range(row.size):
            reach = max(reach, bits[j] & np.int32(0x7FFFFFFF))
        squares[i] = _squares(X[i])
        scale[i] = _from_bits(reach) / np.float32(level)
        inverse = np.float32(1) / scale[i] if scale[i] > 0 else np.float32(0)
        for j in range(row.size):
            out[i, j] = np.int8(np.rint(row[j] * inverse))


@numba.njit(nogil=True, cache=True)
def _round_columns(first, last, X, shift, level, out, scale, squares):
    width = last - first
    reach, inverse = np.zeros(width, np.float32), np.zeros(width, np.float32)
    s = shift[first:last].copy()
    squares[first:last] = 0
    for begin in range(0, X.shape[0], FLOAT32_SUMS):
        q = np.zeros(width, np.float32)
        for i in range(begin, min(begin + FLOAT32_SUMS, X.shape[0])):
            x = X[i, first:last]
            for j in range(width):
                d = abs(x[j] - s[j])
                reach[j] = d if d > reach[j] else reach[j]
                q[j] += x[j] * x[j]
        squares[first:last] += q
    for j in range(width):
        scale[first + j] = reach[j] / np.float32(level)
        inverse[j] = np.float32(1) / scale[first + j] if scale[first + j] > 0 else np.float32(0)
    for i in range(X.shape[0]):
        x = X[i, first:last]
        y = out[i, first:last]
        for j in range(width):
            y[j] = np.int8(np.rint((x[j] - s[j]) * inverse[j]))


@numba.njit(nogil=True, cache=True)
def _from_bits(bits):
    one = np.empty(1, np.int32)
    one[0] = bits
    return one.view(np.float32)[0]


@numba.njit(nogil=True, cache=True)
def _rescale(first, last, sums, row_scale, column_scale, u, v, with_rank_one, out):
    row = np.empty(sums.shape[1], np.int32)  # a copy: onto its own memory the loops would not vectorise
    for i in range(first, last):
        source, target = sums[i], out[i]
        for j in range(row.size):
            row[j] = source[j]
        r = row_scale[i]
        w = u[i]
        if with_rank_one:
            for j in range(row.size):
                target[j] = (np.float32(row[j]) * r) * column_scale[j] + w * v[j]
        else:
            for j in range(row.size):
                target[j] = (np.float32(row[j]) * r) * column_scale[j]
