"""The loops around the micro-kernel: packing operands in the order in which it reads them, blocking, writing results.

The compiled loops take packed and unpacked matrices as addresses and strides in bytes, and whole panels only: ragged
edges are copied and filled up before. That keeps the compilation short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.product.kernels.vnni import ROUND, accumulate
from tithe.product.kernels.weaving import (
    copy,
    scale,
    shift_line,
    shift_line_wide,
    weave_lines,
    weave_lines_wide,
    weave_step,
    weave_step_wide,
)

__all__ = ["PACKED", "UNIT", "add_lines", "add_rows", "extremes", "filled", "multiply_tiles", "pack", "ranges"]

_jit: Any = numba.njit(nogil=True, cache=True)

_DEPTH = 256  # steps of a right panel that stay in the first-level cache while left tiles pass by
_LINE = 64  # bytes
UNIT = 32  # elements along k that both operands are padded to: whole weavings, rounds and groups of steps
PACKED = 1 << 18  # elements that are packed in one part of the work, at least


def pack(
    x: NDArray[np.int8], size: int, steps: int, wide: bool, offset: int, lines: bool
) -> tuple[NDArray[np.int8], list[Callable[[], None]]]:
    """Panels of ``size`` lines (k along the line) or columns (k down the rows), and the tasks that will fill them."""
    per_step, step = 2 if wide else 4, size * 4
    panel = steps * step
    count = -(-x.shape[0 if lines else 1] // size)
    memory = np.empty(count * panel + _LINE, np.int8)
    packed = memory[-memory.ctypes.data % _LINE :][: count * panel]
    tasks: list[Callable[[], None]] = []
    for piece, row, column in _pieces(x, (size, UNIT) if lines else (UNIT, size)):
        at, depth = (row, column) if lines else (column, row)
        across, along = piece.shape if lines else piece.shape[::-1]
        target = packed.ctypes.data + at // size * panel + depth // per_step * step
        whole = _copy_lines if size == 1 else _pack_lines
        kernel = partial(whole, offset=offset) if lines else _pack_rows
        tasks += [
            partial(_fill, kernel, piece, first, last, along // per_step, wide, (target, panel, size))
            for first, last in ranges(across // size, piece.size // PACKED)
        ]
    return packed, tasks


def _fill(kernel: Any, piece: NDArray[np.int8], first: int, last: int, steps: int, wide: bool, to: Any) -> None:
    kernel(first, last, piece.ctypes.data, piece.strides[0], steps, wide, *to)


def ranges(count: int, parts: int) -> list[tuple[int, int]]:
    """``range(count)`` in ``parts`` (at least 1) even ranges, without those that are empty.

    >>> ranges(10, 3)
    [(0, 3), (3, 6), (6, 10)]
    """
    edges = [count * i // max(parts, 1) for i in range(max(parts, 1) + 1)]
    return [(first, last) for first, last in pairwise(edges) if first < last]


def filled(x: NDArray[Any], size: int) -> NDArray[Any]:
    """A vector with zeros after it, up to a multiple of ``size``.

    >>> filled(np.ones(3, np.int32), 4)
    array([1, 1, 1, 0], dtype=int32)
    """
    return np.pad(x, (0, -len(x) % size))


def _pieces(x: NDArray[np.int8], units: tuple[int, int]) -> Iterator[tuple[NDArray[np.int8], int, int]]:
    """Parts of x that cover it, with where they begin; whole units, the ragged edges copied and filled with zeros."""
    rows, columns = (size // unit * unit for size, unit in zip(x.shape, units, strict=True))
    for part, i, j in ((x[:rows, :columns], 0, 0), (x[rows:, :columns], rows, 0), (x[:, columns:], 0, columns)):
        if not part.size:
            continue
        shape = tuple(-(-size // unit) * unit for size, unit in zip(part.shape, units, strict=True))
        if shape == part.shape:
            yield part, i, j
        else:
            full = np.zeros(shape, np.int8)
            full[: part.shape[0], : part.shape[1]] = part
            yield full, i, j


@_jit
def extremes(x):
    """The least and the greatest of int8 x, one-dimensional and not empty."""
    low = high = x[0]
    for e in x:
        low, high = min(low, e), max(high, e)
    return low, high


@_jit
def _copy_lines(first, last, source, stride, steps, wide, target, panel, height, offset):
    """Lines ``first``..``last``, ``panel`` bytes apart; k runs along the line."""
    for i in range(first, last):
        if wide:
            shift_line_wide(source + i * stride, offset, target + i * panel, steps // 8)
        else:
            shift_line(source + i * stride, offset, target + i * panel, steps // 4)


@_jit
def _pack_lines(first, last, source, stride, steps, wide, target, panel, height, offset):
    """Panels ``first``..``last``, ``panel`` bytes apart, of ``height`` lines each; k runs along the line."""
    step = height * 4
    for p in range(first, last):
        for i in range(0, height, 4):
            line = source + (p * height + i) * stride
            at = target + p * panel + i * 4
            for s in range(0, steps, 4):
                if wide:
                    weave_lines_wide(line + s * 2, stride, offset, at + s * step, step)
                else:
                    weave_lines(line + s * 4, stride, offset, at + s * step, step)


@_jit
def _pack_rows(first, last, source, stride, steps, wide, target, panel, width):
    """Panels ``first``..``last``, ``panel`` bytes apart, of ``width`` columns each; k runs down the rows."""
    for begin in range(first * width, last * width, _LINE):
        end = min(begin + _LINE, last * width)
        for s in range(steps):
            for c in range(begin, end, 8):
                p = c // width
                at = target + p * panel + (s * width + c - p * width) * 4
                if wide:
                    weave_step_wide(source + s * 2 * stride + c, stride, at)
                else:
                    weave_step(source + s * 4 * stride + c, stride, at)


@_jit
def add_lines(first, last, x, sums):
    """Sums of the lines ``first``..``last`` of int8 x."""
    for i in range(first, last):
        total = np.int32(0)
        for j in range(x.shape[1]):
            total = np.int32(total + x[i, j])
        sums[i] = total


@_jit
def add_rows(first, last, x, sums):
    """Sums of the columns ``first``..``last`` of int8 x."""
    part = sums[first:last]
    part[:] = 0
    for i in range(x.shape[0]):
        row = x[i, first:last]
        for j in range(len(row)):
            part[j] += row[j]


@_jit
def multiply_tiles(first, last, kernel, left, right, steps, start, exact, scaled, row_scale, column_scale, u, v):
    """Rows of tiles ``first``..``last`` of the product, into ``exact`` (int32) or, if that is empty, ``scaled``.

    Those rows of ``left`` should fit into the second-level cache. ``start`` (whole panels) is what the sums start from:
    it takes back the offset that made the left operand unsigned.
    """
    height, width = kernel.rows, kernel.columns
    m, n = max(exact.shape[0], scaled.shape[0]), max(exact.shape[1], scaled.shape[1])
    tile = height * width
    tiles = np.empty((last - first) * tile + 16, np.int32)
    base = (-tiles.ctypes.data) % 64 // 4
    acc = tiles.ctypes.data + base * 4
    for column in range(0, n, width):
        for t in range(0, (last - first) * tile * 4, width * 4):
            copy(start.ctypes.data + column * 4, acc + t, width // 8)
        for begin in range(0, steps, _DEPTH):
            rounds = min(_DEPTH, steps - begin) // ROUND
            for t in range(last - first):
                a = left + ((first + t) * steps + begin) * height * 4
                accumulate(kernel, acc + t * tile * 4, a, right + (column * steps + begin * width) * 4, rounds)
        octets, whole = min(width, n - column) // 8, min(width, n - column) // 8 * 8
        for i in range(first * height, min(last * height, m)):
            t = (i - first * height) * width
            if len(exact):
                if octets:
                    copy(acc + t * 4, exact.ctypes.data + (i * n + column) * 4, octets)
                for j in range(whole, min(width, n - column)):
                    exact[i, column + j] = tiles[base + t + j]
            else:
                if octets:
                    scale(
                        acc + t * 4, scaled.ctypes.data + (i * n + column) * 4, octets,
                        row_scale[i], column_scale.ctypes.data + column * 4, u[i], v.ctypes.data + column * 4,
                    )  # fmt: skip
                for j in range(whole, min(width, n - column)):
                    value = np.float32(tiles[base + t + j]) * row_scale[i] * column_scale[column + j]
                    scaled[i, column + j] = value + u[i] * v[column + j]
