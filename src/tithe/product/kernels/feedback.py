"""Rounding weights to int8 with error feedback: what one weight gets wrong, the ones after it make good.

A column's rounding error is spread over the columns that are still to be rounded, so that the product with inputs like
those of calibration changes as little as it can (Hassibi and Stork 1993; Frantar et al. 2023, arXiv 2210.17323).

Kernels that add up products in int16 want sums of neighbouring weights to be small. Weights of one *lane*, those that
share an int16, are clamped where they would not be; the feedback makes good for that, too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.parallel import run_parts
from tithe.product.kernels.int8_panels import ranges

__all__ = ["lanes", "round_weights"]

_jit: Any = numba.njit(nogil=True, cache=True)

_LEVELS = np.array([127, 107, 90, 76, 64, 54, 45, 38, 32, 27, 23, 19, 16], np.float32)  # six to an octave or so
_DAMPING = 0.01  # of the mean of the diagonal, for inputs that hardly vary
_BLOCK = 16  # rows that share a reading of the feedback


def lanes(length: int, group: int) -> NDArray[np.int64]:
    """The lane of each of ``length`` weights of a line: 2·group of them share an int16.

    >>> lanes(8, 1).tolist(), lanes(8, 2).tolist()
    ([0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 1, 1, 0, 0, 1, 1])
    """
    index = np.arange(length)
    return index // (4 * group) * 2 + index % 4 // 2


def round_weights(weight: Tensor, moments: Tensor, lane: NDArray[np.int64], most: int) -> tuple[Tensor, Tensor]:
    """Weights in 8 bits, line by line, such that products with inputs of the given moments change little.

    Args:
        weight: (n, k), floating point on the CPU.
        moments: E[x xᵀ] of the inputs, (k, k).
        lane: of each column, (k,), counted from 0.
        most: what the positive weights of a lane, and the negative ones, may add up to.

    Returns:
        int8 (n, k) and the scale of each line, float32 (n,). O(n·k² + k³).

    >>> values, scale = round_weights(torch.tensor([[1.0, -0.5]]), torch.eye(2), lanes(2, 1), 128)
    >>> values * scale[:, None]
    tensor([[ 1.0000, -0.5000]])
    """
    W = weight.detach().float().contiguous().numpy()
    H = moments.double().clone()
    importance = H.diagonal().clone()
    H.diagonal().add_(_DAMPING * importance.mean() + torch.finfo(torch.float32).tiny)
    order = torch.argsort(importance, descending=True, stable=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H[order][:, order]))
    spread = torch.linalg.cholesky(inverse, upper=True).float().numpy()
    first = order.numpy()
    scale = np.empty(len(W), np.float32)
    values = np.empty(W.shape, np.int8)
    given = W, importance.float().numpy(), spread, first, lane, int(lane.max()) + 1, most, scale, values
    parts = ranges(len(W), -(-len(W) // _BLOCK))
    run_parts(lambda i: partial(_round, *parts[i])(*given), len(parts))
    return torch.from_numpy(values), torch.from_numpy(scale)


@_jit
def _round(first, last, W, importance, spread, order, lane, count, most, scale, values):
    n, k = last - first, W.shape[1]
    w = np.empty((n, k), np.float32)
    for r in range(n):
        scale[first + r] = _best_scale(W[first + r], importance, order, lane, count, most)
        for i in range(k):
            w[r, i] = W[first + r, order[i]]
    up, down = np.zeros((n, count), np.float32), np.zeros((n, count), np.float32)
    for i in range(k):
        feed, at = spread[i], lane[order[i]]
        for r in range(n):
            line, s = w[r], scale[first + r]
            q = _clamped(line[i], s, up[r, at], down[r, at], most)
            up[r, at] += max(q, np.float32(0))
            down[r, at] += max(-q, np.float32(0))
            values[first + r, order[i]] = np.int8(q)
            error = (line[i] - q * s) / feed[i]
            for j in range(i, k):
                line[j] -= error * feed[j]


@_jit
def _best_scale(line, importance, order, lane, count, most):
    """Of the scales that make the largest weight one of ``_LEVELS``, that of the least weighted error."""
    reach = np.float32(0)
    for x in line:
        reach = max(reach, abs(x))
    best, least = np.float32(0), np.inf
    if reach == 0:
        return best
    for level in _LEVELS:
        s = reach / level
        up, down = np.zeros(count, np.float32), np.zeros(count, np.float32)
        total = 0.0
        for i in order:
            at = lane[i]
            q = _clamped(line[i], s, up[at], down[at], most)
            up[at] += max(q, np.float32(0))
            down[at] += max(-q, np.float32(0))
            total += importance[i] * (line[i] - q * s) ** 2
        if total < least:
            best, least = s, total
    return best


@_jit
def _clamped(x, scale, up, down, most):
    """``x/scale`` rounded, within int8 and what its lane leaves."""
    q = np.float32(np.rint(x / scale)) if scale > 0 else np.float32(0)
    q = min(max(q, np.float32(-127)), np.float32(127))
    return min(max(q, np.float32(down - most)), np.float32(most - up))
