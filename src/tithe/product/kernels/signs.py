"""Products of signs: one bit for each entry, and for each row of A and column of B the mean magnitude as its scale.

The best one-bit approximation of a line in the mean-square sense (Rastegari et al. 2016, arXiv 1603.05279). Bits are
multiplied 512 or 256 at a time by counting those that differ, at a tenth of what a float32 product takes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.parallel import run_parts_beside_torch
from tithe.product.kernels import integers
from tithe.product.kernels.int8_panels import ranges
from tithe.product.kernels.popcount import COLUMNS, LONGEST, ROWS, WORD, add_products, signs_across, signs_along
from tithe.product.kernels.weaving import copy, scale
from tithe.product.pair import Pair, RankOne
from tithe.simd import host_features

__all__ = ["available", "multiply", "pack", "product"]

_jit: Any = numba.njit(nogil=True, cache=True)
_PACKED = 1 << 18  # entries that are packed in one part of the work, at least
_MULTIPLIED = 1 << 25  # multiply–adds in a part of the work, at least


@cache
def available() -> bool:
    """Whether there are kernels for bits here; elsewhere signs are multiplied as int8, no faster than those.

    >>> isinstance(available(), bool)
    True
    """
    return not numba.config.DISABLE_JIT and "avx2" in host_features()


def multiply(pair: Pair, plus: RankOne | None = None) -> Tensor:
    """The product of the signs of the (shifted) pair, scaled, plus a rank-one matrix; float32 (m, n). O(mkn)."""
    extra = None if plus is None else (plus.u.float(), plus.v.float())
    if not (available() and _can_pack(pair.A) and _can_pack(pair.B)):
        left, row_scale = _as_int8(pair.A, pair.a)
        right, column_scale = _as_int8(pair.B.T, pair.b)
        return integers.scaled_sums(left, right.T, row_scale, column_scale, extra)
    return product(*pack(pair.A, pair.a), *pack(pair.B.T, pair.b), pair.k, extra)


def pack(X: Tensor, shift: Tensor | None) -> tuple[NDArray[np.int32], Tensor]:
    """The signs of ``X − shift``, as bits, and the mean magnitude of each line.

    Args:
        X: float32 (lines, length) on the CPU, contiguous or the transpose of a contiguous matrix.
        shift: what each line loses first, (lines,), or ``None``.

    Returns:
        Words of 32 signs along the line, int32: (lines, words), or (strips, words, ``COLUMNS`` lines) where ``X`` is a
        transpose; and float32 (lines,). Bits beyond a line's end are 0. O(size).
    """
    lines, length = X.shape
    s = np.zeros(lines, np.float32) if shift is None else shift.float().numpy()
    words = -(-length // WORD)
    totals = np.zeros(lines, np.float32)
    if X.is_contiguous():
        bits = np.empty((lines, words), np.int32)
        source = X.numpy()
        _run(lines, X.numel() // _PACKED, lambda i, j: _pack_along(i, j, source, s, bits, totals))
    else:
        source, strips = X.T.numpy(), -(-lines // COLUMNS)
        bits = np.empty((strips, words, COLUMNS), np.int32)
        whole = lines // COLUMNS
        _run(whole, X.numel() // _PACKED, lambda i, j: _pack_across(i, j, source, s, bits, totals))
        if whole < strips:
            rest = slice(whole * COLUMNS, lines)
            padded = np.zeros((length, COLUMNS), np.float32)
            padded[:, : lines % COLUMNS] = source[:, rest]
            shifts, sums = np.zeros(COLUMNS, np.float32), np.zeros(COLUMNS, np.float32)
            shifts[: lines % COLUMNS] = s[rest]
            _pack_across(0, 1, padded, shifts, bits[whole:], sums)
            totals[rest] = sums[: lines % COLUMNS]
    return bits, torch.from_numpy(totals / np.float32(length))


def product(
    rows: NDArray[np.int32],
    row_scale: Tensor,
    columns: NDArray[np.int32],
    column_scale: Tensor,
    length: int,
    plus: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """What ``pack`` made of A (m lines) and of Bᵀ (n lines), each line of ``length``, multiplied; float32 (m, n).

    Each element is ``(sum·row_scale)·column_scale + u·v``, as of int8 operands. O(m·n·length).
    """
    m, n = len(row_scale), len(column_scale)
    out = torch.empty(m, n, dtype=torch.float32, device="cpu")
    u, v = plus if plus is not None else (torch.zeros(m), torch.zeros(n))
    arrays = [x.contiguous().numpy() for x in (out, row_scale, column_scale, u, v)]
    lines, strips = _by_lines(rows), _by_strips(columns)
    parts = max(torch.get_num_threads(), m * n * length // _MULTIPLIED)
    _run(-(-m // ROWS), parts, lambda i, j: _multiply_tiles(i, j, lines, strips, length, *arrays))
    return out


def _run(count: int, parts: int, part: Any) -> None:
    pieces = ranges(count, min(parts, count))
    run_parts_beside_torch(lambda i: part(*pieces[i]), len(pieces))


def _by_lines(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """(lines, words), lines filled up to whole tiles."""
    if bits.ndim == 3:
        bits = np.ascontiguousarray(bits.transpose(0, 2, 1).reshape(-1, bits.shape[1]))
    return np.concatenate((bits, np.zeros((-len(bits) % ROWS, bits.shape[1]), np.int32))) if len(bits) % ROWS else bits


def _by_strips(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """(strips, words, ``COLUMNS``)."""
    if bits.ndim == 3:
        return bits
    if extra := -len(bits) % COLUMNS:
        bits = np.concatenate((bits, np.zeros((extra, bits.shape[1]), np.int32)))
    return np.ascontiguousarray(bits.reshape(-1, COLUMNS, bits.shape[1]).transpose(0, 2, 1))


def _can_pack(X: Tensor) -> bool:
    return X.device.type == "cpu" and X.dtype == torch.float32 and (X.is_contiguous() or X.T.is_contiguous())


def _as_int8(X: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    shifted = X.float() if shift is None else X.float() - shift[:, None].float()
    return torch.where(shifted < 0, -1, 1).to(torch.int8), shifted.abs().mean(1)


@_jit
def _pack_along(first, last, X, shift, bits, totals):
    words = X.shape[1] // WORD
    partial = np.empty(WORD, np.float32)
    for i in range(first, last):
        partial[:] = 0
        if words:
            signs_along(X[i].ctypes.data, shift[i], words, bits[i].ctypes.data, partial.ctypes.data)
        word = np.int32(0)
        for j in range(words * WORD, X.shape[1]):
            x = X[i, j] - shift[i]
            word |= np.int32(X[i, j] < shift[i]) << (j - words * WORD)
            partial[0] += abs(x)
        if words * WORD < X.shape[1]:
            bits[i, words] = word
        totals[i] = partial.sum()


@_jit
def _pack_across(first, last, X, shift, bits, totals):
    stride = X.strides[0]
    for p in range(first, last):
        column = p * COLUMNS
        for w in range(bits.shape[1]):
            signs_across(
                X[w * WORD :, column:].ctypes.data, stride, shift[column:].ctypes.data,
                min(WORD, X.shape[0] - w * WORD), bits[p, w].ctypes.data, totals[column:].ctypes.data,
            )  # fmt: skip


@_jit
def _multiply_tiles(first, last, rows, strips, length, out, row_scale, column_scale, u, v):
    m, n = out.shape
    words, strip = rows.shape[1], strips.shape[1] * COLUMNS * 4
    start, sums = np.full(ROWS * COLUMNS, length, np.int32), np.empty((ROWS, COLUMNS), np.int32)
    tile, begin, scales, vs, target = (
        sums.ctypes.data, start.ctypes.data, column_scale.ctypes.data, v.ctypes.data, out.ctypes.data
    )  # fmt: skip
    left, right = rows.ctypes.data, strips.ctypes.data
    for p in range(strips.shape[0]):
        column = p * COLUMNS
        width = min(COLUMNS, n - column)
        octets = width // 8
        for t in range(first, last):
            copy(begin, tile, ROWS * COLUMNS // 8)
            for w in range(0, words, LONGEST):
                at = left + (t * ROWS * words + w) * 4, right + p * strip + w * COLUMNS * 4
                add_products(tile, at[0], words * 4, at[1], COLUMNS * 4, min(LONGEST, words - w))
            for i in range(t * ROWS, min((t + 1) * ROWS, m)):
                r = i - t * ROWS
                if octets:
                    scale(
                        tile + r * COLUMNS * 4, target + (i * n + column) * 4, octets,
                        row_scale[i], scales + column * 4, u[i], vs + column * 4,
                    )  # fmt: skip
                for j in range(octets * 8, width):
                    value = np.float32(sums[r, j]) * row_scale[i] * column_scale[column + j]
                    out[i, column + j] = value + u[i] * v[column + j]
