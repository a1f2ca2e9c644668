"""Statistics of the lines of a matrix, each gathered in one pass.

Numba on contiguous float32 CPU tensors, plain torch on everything else; samples are always NumPy arrays.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.product.kernels.passes import FLOAT32_SUMS, any_order, numba_can, over_ranges

__all__ = ["Lines", "fold_lines", "line_sums", "survey_lines"]


_LEAST_WIDTH = 128  # entries that are folded at once


class Lines(NamedTuple):
    """What there is to know of lines (h, k): as they are [0], and less their means [1]."""

    means: Tensor  # (h,)
    squares: NDArray[np.float64]  # of all entries, (2,)
    reach: NDArray[np.float64]  # Euclidean norm of the lines' largest magnitudes, (2,)
    signs: NDArray[np.float64]  # squares of their best one-bit approximation, and of what turns in it, (2, 2)
    weights: NDArray[Any]  # sums of squares at each place, over either half of the lines, (2, 2, k)


def line_sums(X: Tensor) -> tuple[Tensor, Tensor]:
    """The sum and the sum of squares of each line, in one pass.

    Args:
        X: shape (lines, length), floating point.

    Returns:
        Both float64, (lines,). O(size).

    >>> line_sums(torch.tensor([[1.0, -2.0]]))
    (tensor([-1.], dtype=torch.float64), tensor([5.], dtype=torch.float64))
    """
    if not numba_can(X):
        wide = torch.float64 if X.dtype == torch.float64 else torch.float32
        norms: Tensor = torch.linalg.vector_norm(X, dim=1, dtype=wide)
        return X.sum(1, dtype=wide).double(), norms.double().square()
    sums, squares = np.zeros(len(X)), np.zeros(len(X))
    kernel, source = (_sum_rows, X) if X.is_contiguous() else (_sum_columns, X.T)
    over_ranges(kernel, len(X), X.numel(), source.numpy(), sums, squares)
    return torch.from_numpy(sums), torch.from_numpy(squares)


def fold_lines(X: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each line folded into ``count`` numbers, and its sum of squares, in one pass.

    Every count-th entry falls into the same number, under a sign that looks random and is the same in every call.

    Args:
        X: shape (lines, length), floating point.
        count: how many numbers to fold a line into.

    Returns:
        (lines, count), at least float32, and float64 (lines,). O(size).

    >>> folded, squares = fold_lines(torch.tensor([[1.0, 2.0, 4.0]]), 2)
    >>> folded.abs().tolist() in ([[3.0, 2.0]], [[5.0, 2.0]]), squares.item()
    (True, 21.0)
    """
    lines, length = X.shape
    signs = _signs(length)
    if not numba_can(X):
        wide = torch.float64 if X.dtype == torch.float64 else torch.float32
        signed = X * torch.from_numpy(signs).to(X)
        blocks = torch.nn.functional.pad(signed, (0, -length % count)).unflatten(1, (-1, count))
        norms: Tensor = torch.linalg.vector_norm(X, dim=1, dtype=wide)
        return blocks.sum(1, dtype=wide), norms.double().square()
    squares = np.zeros(lines)
    if X.is_contiguous():
        folded = torch.zeros(lines, count, device="cpu")
        over_ranges(_fold_rows, lines, X.numel(), X.numpy(), signs, folded.numpy(), squares)
    else:
        folded = torch.zeros(count, lines, device="cpu").T
        over_ranges(_fold_columns, lines, X.numel(), X.T.numpy(), signs, folded.T.numpy(), squares)
    return folded, torch.from_numpy(squares)


@lru_cache(maxsize=64)
def _signs(length: int) -> NDArray[np.float32]:
    return (2 * np.random.default_rng(0).integers(0, 2, length) - 1).astype(np.float32)


def survey_lines(X: NDArray[Any]) -> Lines:
    """All of it for C-contiguous float32 or float64 ``X`` (h, k), O(hk).

    >>> survey_lines(np.array([[1.0, -3.0]])).squares
    array([10.,  8.])
    """
    h, k = X.shape
    means, squares, signs = np.empty(h, X.dtype), np.zeros(2), np.zeros((2, 2))
    bits = np.dtype(f"i{X.itemsize}")
    reach, weights, beyond = np.empty((2, h), bits), np.zeros((2, 2, k), X.dtype), np.empty(k, X.dtype)
    _gather(X, X.view(bits), beyond, beyond.view(bits), means, squares, reach, signs, weights)
    norms = np.linalg.norm(reach.view(X.dtype).astype(np.float64), axis=1)
    return Lines(torch.from_numpy(means), squares, norms, signs, weights)


@any_order
def _sum_rows(first, last, X, sums, squares):
    for i in range(first, last):
        for begin in range(0, X.shape[1], FLOAT32_SUMS):
            part = X[i, begin : begin + FLOAT32_SUMS]
            s, q = np.float32(0), np.float32(0)
            for j in range(part.size):
                s += part[j]
                q += part[j] * part[j]
            sums[i] += s
            squares[i] += q


@any_order
def _sum_columns(first, last, X, sums, squares):
    width = last - first
    for begin in range(0, X.shape[0], FLOAT32_SUMS):
        s, q = np.zeros(width, np.float32), np.zeros(width, np.float32)
        for i in range(begin, min(begin + FLOAT32_SUMS, X.shape[0])):
            x = X[i, first:last]
            for j in range(width):
                s[j] += x[j]
                q[j] += x[j] * x[j]
        sums[first:last] += s
        squares[first:last] += q


@any_order
def _fold_rows(first, last, X, signs, folded, squares):
    count = folded.shape[1]
    y = np.empty(count * -(-_LEAST_WIDTH // count), np.float32)  # the loops that are too short do not vectorise
    for i in range(first, last):
        for begin in range(0, X.shape[1], FLOAT32_SUMS):
            x, q = X[i, begin : begin + FLOAT32_SUMS], np.float32(0)
            for j in range(x.size):
                q += x[j] * x[j]
            squares[i] += q
        y[:] = 0
        for begin in range(0, X.shape[1], y.size):
            x, sign = X[i, begin : begin + y.size], signs[begin : begin + y.size]
            for j in range(x.size):
                y[j] += sign[j] * x[j]
        for j in range(count):
            total = np.float32(0)
            for begin in range(j, y.size, count):
                total += y[begin]
            folded[i, j] = total


@any_order
def _fold_columns(first, last, X, signs, folded, squares):
    width = last - first
    for begin in range(0, X.shape[0], FLOAT32_SUMS):
        q = np.zeros(width, np.float32)
        for i in range(begin, min(begin + FLOAT32_SUMS, X.shape[0])):
            x, sign, y = X[i, first:last], signs[i], folded[i % len(folded), first:last]
            for j in range(width):
                y[j] += sign * x[j]
            for j in range(width):
                q[j] += x[j] * x[j]
        squares[first:last] += q


@any_order
def _gather(X, bits, beyond, beyond_bits, means, squares, reach, signs, weights):
    for i in range(X.shape[0]):
        line, half = X[i], int(i >= X.shape[0] // 2)
        total = line.dtype.type(0)
        for j in range(line.size):
            total += line[j]
        means[i] = total / line.size
        for j in range(line.size):
            beyond[j] = line[j] - means[i]
        reach[0, i], reach[1, i] = _largest(bits[i]), _largest(beyond_bits)
        _look_at(line, squares[0:1], signs[0], weights[0, half])
        _look_at(beyond, squares[1:2], signs[1], weights[1, half])


@any_order
def _look_at(line, square, signs, weights):
    zero, one = line.dtype.type(0), line.dtype.type(1)
    size, negative = zero, zero
    for j in range(line.size):
        size += abs(line[j])
        negative += one if line[j] < zero else zero
    total = zero
    for j in range(line.size):
        weights[j] += line[j] * line[j]
        total += line[j] * line[j]
    square[0] += total
    share = negative / line.size
    signs[0] += size * size / line.size
    signs[1] += size * size / line.size * 4 * share * (1 - share)


@any_order
def _largest(bits):
    mask = ~(bits.dtype.type(1) << (8 * bits.itemsize - 1))  # magnitudes are in the order of their bits
    top = bits.dtype.type(0)
    for j in range(bits.size):
        top = max(top, bits[j] & mask)
    return top
