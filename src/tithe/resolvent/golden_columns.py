"""Which columns a row of a golden layout keeps, computed where they are needed: on the fly, in kernels, as a tensor."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.parallel import run_parts

__all__ = ["collect", "expand", "golden_columns", "never_collide", "row_products"]

_STEP = 0x9E3779B97F4A7C15  # as in tithe.golden: the odd integer nearest to 2^64/φ
_HIGH, _LOW = _STEP >> 32, _STEP & 0xFFFFFFFF
_HALF = 0xFFFFFFFF
_LARGEST = 1 << 31  # up to which no product of the arithmetic in halves leaves 63 bits
_ROWS_OF_A_PART = 64  # fewer are done before another thread has begun


def golden_columns(n: int, k: int, starts: Tensor) -> Tensor:
    """The columns of many rows: row i is ``golden_indices(n, k, start=starts[i])``.

    Integers and one exactly rounded product decide, so every platform and device gives the same columns.

    Args:
        n: how many columns there are.
        k: how many each row keeps, 0 ≤ k ≤ n.
        starts: (rows,) int64, where each row enters the sequence, from 0; below 2^31 together with k.

    Returns:
        (rows, k) int64 on the device of ``starts``, in the order of the sequence, each column at most once in a row.
        Raises ``InvalidValueError`` where k or a start is out of range. O(rows · k); more where k is over 0.4 · n.
        Source: MISSION R6; ``tithe.golden.golden_indices``.

    >>> golden_columns(100, 5, torch.tensor([0, 5]))
    tensor([[ 0, 61, 23, 85, 47],
            [ 9, 70, 32, 94, 56]])
    """
    if not 0 <= k <= n:
        raise InvalidValueError(f"k is {k} of n = {n}; keep between 0 and n columns")
    if len(starts) and not 0 <= int(starts.min()) <= int(starts.max()) < _LARGEST - 2 * n - 8:
        raise InvalidValueError(
            f"starts go from {int(starts.min())} to {int(starts.max())}; use integers from 0 to {_LARGEST - 2 * n - 9}"
        )
    if starts.device.type == "mps":  # which has no float64
        return golden_columns(n, k, starts.cpu()).to(starts.device)
    points = k
    while True:
        columns = _named(n, points, starts)
        new = _first_of_their_kind(columns, _collisions(n, points))
        if new is None:
            return columns
        order = new.cumsum(1)
        if not len(starts) or int(order[:, -1].min()) >= k:
            return columns[new & (order <= k)].reshape(len(starts), k)
        points = min(2 * points + 8, 2 * n + 8)


def never_collide(n: int, k: int) -> bool:
    """Whether any k points of the sequence, one after the other, name k different ones of n columns.

    True up to about k = 0.4 · n: points i and i + d are at least ‖d/φ‖ ≳ 1/(√5 · d) apart. O(k).

    >>> never_collide(1000, 377), never_collide(1000, 900)
    (True, False)
    """
    return not len(_collisions(n, k))


def expand(values: Tensor, n: int, starts: Tensor) -> Tensor:
    """The dense matrix (rows, n) of values (rows, k) at their columns, 0 elsewhere; differentiable. O(rows · n)."""
    dense: Tensor = _apply(_Expand, values, n, starts)
    return dense


def collect(dense: Tensor, k: int, starts: Tensor) -> Tensor:
    """What a matrix (rows, n) has at the columns of a layout, (rows, k); differentiable. O(rows · k)."""
    values: Tensor = _apply(_Collect, dense, k, starts)
    return values


def row_products(values: Tensor, x: Tensor, starts: Tensor) -> Tensor | None:
    """The product of x (batch, n) and the transposed matrix of a layout, or ``None`` where no kernel fits.

    No index and no dense matrix comes into being: (batch, rows) in O(batch · rows · k).
    """
    if not (_compiled(values, x.shape[1]) and x.dtype == values.dtype and x.device == values.device):
        return None
    result = values.new_empty(len(values), len(x))
    columns, own = x.detach().t().contiguous().numpy(), values.detach().contiguous().numpy()
    kernel = _kernels().multiply_one if len(x) == 1 else _kernels().multiply
    parts = max(1, min(torch.get_num_threads(), len(values) // _ROWS_OF_A_PART))

    def part(i: int) -> None:
        rows = slice(i * len(own) // parts, (i + 1) * len(own) // parts)
        kernel(result.numpy()[rows], own[rows], columns, starts.numpy()[rows], _STEP)

    run_parts(part, parts)
    return result.t()


class _Expand(torch.autograd.Function):
    """Values to their columns of a dense matrix."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, n: int, starts: Tensor) -> Tensor:
        ctx.k, ctx.starts = values.shape[1], starts
        dense = values.new_zeros(len(values), n)
        if not _compiled(values, n):
            return dense.scatter_(1, golden_columns(n, ctx.k, starts.to(values.device)), values)
        _kernels().fill(dense.numpy(), values.detach().contiguous().numpy(), starts.numpy(), _STEP)
        return dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _apply(_Collect, gradient, ctx.k, ctx.starts), None, None


class _Collect(torch.autograd.Function):
    """Values from their columns of a dense matrix: the adjoint."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, k: int, starts: Tensor) -> Tensor:
        ctx.n, ctx.starts = dense.shape[1], starts
        if not _compiled(dense, ctx.n, k):
            return dense.gather(1, golden_columns(ctx.n, k, starts.to(dense.device)))
        values = dense.new_empty(len(dense), k)
        _kernels().take(values.numpy(), dense.detach().contiguous().numpy(), starts.numpy(), _STEP)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _apply(_Expand, gradient, ctx.n, ctx.starts), None, None


def _apply(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)


def _compiled(tensor: Tensor, n: int, k: int | None = None) -> bool:
    simple = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    return simple and never_collide(n, tensor.shape[1] if k is None else k)


@functools.cache
def _kernels() -> Any:
    """The compiled loops, imported when they are needed: numba takes its time."""
    return importlib.import_module("tithe.resolvent.golden_kernels")


def _named(n: int, points: int, starts: Tensor) -> Tensor:
    """floor(n · frac(i/φ)) for ``points`` indices from each start, (rows, points)."""
    indices = starts[:, None] + torch.arange(points, device=starts.device)
    low = indices * _LOW
    high = (indices * _HIGH + (low >> 32)) & _HALF
    fraction = (high << 21) | ((low & _HALF) >> 11)  # the upper 53 of 64 bits, which a float64 holds
    return (fraction.double() * 2.0**-53 * n).long()


@functools.lru_cache(maxsize=256)
def _collisions(n: int, points: int) -> NDArray[np.int64]:
    """The distances along the sequence at which two of ``points`` points may name the same one of n columns."""
    turns = np.arange(1, max(points, 1), dtype=np.uint64) * np.uint64(_STEP)
    gaps = np.minimum(turns, np.uint64(0) - turns).astype(np.float64) * 2.0**-64
    return np.flatnonzero(gaps * n < 1 + 1e-9) + 1


def _first_of_their_kind(columns: Tensor, distances: NDArray[np.int64]) -> Tensor | None:
    """Which columns of each row were not named before in it; ``None`` where all are new."""
    if not len(distances):
        return None
    new = torch.ones_like(columns, dtype=torch.bool)
    for distance in distances.tolist():
        new[:, distance:] &= columns[:, distance:] != columns[:, :-distance]
    return new
