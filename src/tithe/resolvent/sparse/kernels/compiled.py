"""Products that skip small inputs, compiled by numba for float32 on the CPU.

An input's outgoing weights lie next to each other, so a skipped input is a stretch of memory that is never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from tithe.parallel import run_parts

__all__ = ["skipping"]

_SPLIT = 1 << 18  # multiply-adds that a thread should have before it is worth starting
_LANES = 16  # outputs are shared out in whole cache lines
_compile: Any = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})  # sums may be reordered


def skipping(floors: Tensor, columns: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """As ``tithe.resolvent.sparse.kernels.skipping``: float32 on the CPU.

    >>> skipping(torch.tensor([0.5, 0.5]), torch.tensor([[2.0], [3.0]]), torch.ones(1))(torch.tensor([[1.0, 0.1]]))
    tensor([[3.]])
    """
    least, weights, outputs = floors.numpy(), columns.numpy(), columns.shape[1]
    start = np.zeros(outputs, np.float32) if bias is None else bias.detach().numpy()

    def product(x: Tensor) -> Tensor:
        given = x.detach().contiguous().numpy()
        out = np.empty((len(given), outputs), np.float32)
        threads = torch.get_num_threads()
        if threads == 1:
            _alone(given, least, weights, start, out)
        else:
            active = _find(given, least)
            parts = min(threads, max(1, active[2].sum() * outputs // _SPLIT), max(1, outputs // _LANES))
            edges = [outputs * i // (parts * _LANES) * _LANES for i in range(parts)] + [outputs]
            run_parts(lambda i: _accumulate(edges[i], edges[i + 1], *active, weights, start, out), parts)
        return torch.from_numpy(out)

    return product


def _find_active(x: Any, floors: Any) -> Any:
    """The active inputs of every row, packed: which they are, their values, and how many."""
    which, values = np.empty(x.shape, np.int64), np.empty(x.shape, np.float32)
    counts = np.empty(x.shape[0], np.int64)
    for i in range(x.shape[0]):
        n = 0
        for j in range(x.shape[1]):
            which[i, n] = j
            values[i, n] = x[i, j]
            n += not (abs(x[i, j]) < floors[j])  # without a branch; not ≥: NaN is active
        counts[i] = n
    return which, values, counts


def _accumulate_columns(
    first: Any, last: Any, which: Any, values: Any, counts: Any, columns: Any, bias: Any, out: Any
) -> None:
    """The outputs from ``first`` to ``last`` of every row: eight inputs at a time, so that sums are seldom moved."""
    for i in range(out.shape[0]):
        y, w, v = out[i, first:last], which[i], values[i]
        y[:] = bias[first:last]
        eights = counts[i] // 8 * 8
        for k in range(0, eights, 8):
            c0, c1 = columns[w[k], first:last], columns[w[k + 1], first:last]
            c2, c3 = columns[w[k + 2], first:last], columns[w[k + 3], first:last]
            c4, c5 = columns[w[k + 4], first:last], columns[w[k + 5], first:last]
            c6, c7 = columns[w[k + 6], first:last], columns[w[k + 7], first:last]
            v0, v1, v2, v3, v4, v5, v6, v7 = v[k], v[k + 1], v[k + 2], v[k + 3], v[k + 4], v[k + 5], v[k + 6], v[k + 7]
            for o in range(y.size):
                near = (v0 * c0[o] + v1 * c1[o]) + (v2 * c2[o] + v3 * c3[o])
                far = (v4 * c4[o] + v5 * c5[o]) + (v6 * c6[o] + v7 * c7[o])
                y[o] += near + far
        for k in range(eights, counts[i]):
            c = columns[w[k], first:last]
            for o in range(y.size):
                y[o] += v[k] * c[o]


_find: Any = _compile(_find_active)
_accumulate: Any = _compile(_accumulate_columns)


def _in_one_go(x: Any, floors: Any, columns: Any, bias: Any, out: Any) -> None:
    """Both at once: on one thread, every call into compiled code counts."""
    which, values, counts = _find(x, floors)
    _accumulate(0, columns.shape[1], which, values, counts, columns, bias, out)


_alone: Any = _compile(_in_one_go)
