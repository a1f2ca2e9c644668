"""The loops around the micro-kernel: packing operands in the order in which it reads them, blocking, writing results.

Matrices that are packed are handed over as addresses and strides in bytes, all whole panels; the caller keeps them
alive. That, and no edges, keeps the compilation short.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tithe.product.kernels.simd import accumulate, weave_lines, weave_lines_wide, weave_step, weave_step_wide

__all__ = ["add_lines", "add_rows", "multiply_tiles", "pack_lines", "pack_rows"]

_jit: Any = numba.njit(nogil=True, cache=True)

_DEPTH = 256  # steps of a right panel that stay in the first-level cache while left tiles pass by
_BLOCK = 1 << 18  # bytes of packed left operand that stay in the second level
_LINE = 64  # bytes


@_jit
def pack_lines(first, last, source, stride, steps, wide, offset, target, panel, height):  # type: ignore[no-untyped-def]
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
def pack_rows(first, last, source, stride, steps, wide, target, panel, width):  # type: ignore[no-untyped-def]
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
def add_lines(first, last, x, sums):  # type: ignore[no-untyped-def]
    """Sums of the lines ``first``..``last`` of int8 x."""
    for i in range(first, last):
        total = np.int32(0)
        for j in range(x.shape[1]):
            total = np.int32(total + x[i, j])
        sums[i] = total


@_jit
def add_rows(first, last, x, sums):  # type: ignore[no-untyped-def]
    """Sums of the columns ``first``..``last`` of int8 x."""
    sums[first:last] = 0
    for i in range(x.shape[0]):
        for j in range(first, last):
            sums[j] += x[i, j]


@_jit
def multiply_tiles(  # type: ignore[no-untyped-def]
    first, last, kernel, left, right, steps, start, exact, scaled, row_scale, column_scale, u, v
):
    """Rows of tiles ``first``..``last`` of the product, into ``exact`` (int32) or, if that is empty, ``scaled``.

    ``start`` (n,) is what the sums start from: it takes back the offset that made the left operand unsigned.
    """
    height, width = kernel.rows, kernel.columns
    tile = height * width
    group = max(kernel.group, 1)
    n = len(start)
    block = max(8, min(64, _BLOCK // (steps * height * 4)))
    tiles = np.empty(block * tile + 16, np.int32)
    base = (-tiles.ctypes.data) % 64 // 4
    acc = tiles.ctypes.data + base * 4
    for top in range(first, last, block):
        count = min(block, last - top)
        low, high = top * height, (top + count) * height
        for column in range(0, n, width):
            columns = min(width, n - column)
            for t in range(base, base + count * tile, width):
                for j in range(columns):
                    tiles[t + j] = start[column + j]
            for begin in range(0, steps, _DEPTH):
                end = min(steps, begin + _DEPTH)
                for t in range(count):
                    a = left + ((top + t) * steps + begin) * height * 4
                    b = right + (column * steps + begin * width) * 4
                    accumulate(kernel, kernel.group, acc + t * tile * 4, a, b, (end - begin) // group)
                    # the last steps that do not fill a group
                    rest = (end - begin) % group
                    if rest:
                        done = end - begin - rest
                        accumulate(
                            kernel, 1, acc + t * tile * 4, a + done * height * 4, b + done * width * 4, rest
                        )
            if len(exact):
                for i in range(low, min(high, len(exact))):
                    t = base + (i - low) * width
                    for j in range(columns):
                        exact[i, column + j] = tiles[t + j]
            else:
                for i in range(low, min(high, len(scaled))):
                    t = base + (i - low) * width
                    r, w = row_scale[i], u[i]
                    for j in range(columns):
                        scaled[i, column + j] = np.float32(tiles[t + j]) * r * column_scale[column + j] + w * v[column + j]
