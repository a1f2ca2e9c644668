"""The O(n²) passes around an int8 product, each reading its matrix once: quantising lines, rescaling the sums.

Numba on contiguous float32 CPU tensors, Triton on CUDA, plain torch on everything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from tithe.product.kernels.threads import run_parts

__all__ = ["quantise_lines", "rescale"]

_SPLIT = 1 << 18  # elements a thread should have before it is worth starting


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
    if dtype != torch.int8 or not _numba_can(X):
        scaled = (X.float() - shift[:, None]) * inverse[:, None]
        return scaled.to(dtype) if dtype.is_floating_point else scaled.round_().to(dtype)
    by_rows = X.is_contiguous()
    source = X if by_rows else X.T
    out = torch.empty(source.shape, dtype=torch.int8)
    kernel = _quantise_rows if by_rows else _quantise_columns
    _over_rows(kernel, len(source), X.numel(), source.numpy(), shift.numpy(), inverse.numpy(), out.numpy())
    return out if by_rows else out.T


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
    _over_rows(
        _rescale, len(sums), sums.numel(),
        out.numpy(), row_scale.numpy(), column_scale.numpy(), u.numpy(), v.numpy(), plus is not None,
    )  # fmt: skip
    return out


def _over_rows(kernel: Callable[..., None], rows: int, elements: int, *arrays: Any) -> None:
    """Call ``kernel(first, last, *arrays)`` on ranges of rows that cover all of them."""
    parts = min(torch.get_num_threads(), max(1, elements // _SPLIT), rows)
    edges = [rows * i // parts for i in range(parts + 1)]
    run_parts(lambda i: kernel(edges[i], edges[i + 1], *arrays), parts)


@cache
def _triton() -> Any:
    """The Triton passes, or nothing where Triton is not installed."""
    try:
        return importlib.import_module("tithe.product.kernels.triton_passes")
    except ImportError:
        return None


def _numba_can(X: Tensor) -> bool:
    return X.device.type == "cpu" and X.dtype == torch.float32 and (X.is_contiguous() or X.T.is_contiguous())


@numba.njit(nogil=True, cache=True)
def _quantise_rows(first, last, X, shift, inverse, out):
    for i in range(first, last):
        s = shift[i]
        f = inverse[i]
        for j in range(X.shape[1]):
            out[i, j] = np.int8(np.rint((X[i, j] - s) * f))


@numba.njit(nogil=True, cache=True)
def _quantise_columns(first, last, X, shift, inverse, out):
    for i in range(first, last):
        for j in range(X.shape[1]):
            out[i, j] = np.int8(np.rint((X[i, j] - shift[j]) * inverse[j]))


@numba.njit(nogil=True, cache=True)
def _rescale(first, last, out, row_scale, column_scale, u, v, with_rank_one):
    row = np.empty(out.shape[1], np.int32)  # a copy: in place the loops would not vectorise
    for i in range(first, last):
        row[:] = out[i].view(np.int32)
        r = row_scale[i]
        w = u[i]
        if with_rank_one:
            for j in range(row.size):
                out[i, j] = (np.float32(row[j]) * r) * column_scale[j] + w * v[j]
        else:
            for j in range(row.size):
                out[i, j] = (np.float32(row[j]) * r) * column_scale[j]
