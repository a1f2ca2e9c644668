"""Loops over the kept columns of a golden layout, compiled: each is computed from the one before, none is stored.

``starts`` are the places in the sequence at which rows begin, ``step`` is the odd integer nearest to 2^64/φ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

__all__ = ["fill", "multiply", "multiply_one", "take"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _jit(function: _Function) -> _Function:
    compiled: _Function = numba.njit(nogil=True, cache=True)(function)
    return compiled


@_jit
def _column(state: Any, n: Any) -> Any:
    return np.int64(np.float64(np.int64(state >> np.uint64(11))) * 2.0**-53 * n)


@_jit
def fill(dense: Any, values: Any, starts: Any, step: Any) -> None:
    """Values (rows, k) to their columns of ``dense`` (rows, n)."""
    n = dense.shape[1]
    for row in range(len(values)):
        state = np.uint64(starts[row]) * np.uint64(step)
        for j in range(values.shape[1]):
            dense[row, _column(state, n)] = values[row, j]
            state += np.uint64(step)


@_jit
def take(values: Any, dense: Any, starts: Any, step: Any) -> None:
    """Values (rows, k) from their columns of ``dense`` (rows, n)."""
    n = dense.shape[1]
    for row in range(len(values)):
        state = np.uint64(starts[row]) * np.uint64(step)
        for j in range(values.shape[1]):
            values[row, j] = dense[row, _column(state, n)]
            state += np.uint64(step)


@_jit
def multiply_one(result: Any, values: Any, columns: Any, starts: Any, step: Any) -> None:
    """``result`` (rows, 1): the values of each row times ``columns`` (n, 1)."""
    n = len(columns)
    for row in range(len(values)):
        state = np.uint64(starts[row]) * np.uint64(step)
        total = columns.dtype.type(0)
        for j in range(values.shape[1]):
            total += values[row, j] * columns[_column(state, n), 0]
            state += np.uint64(step)
        result[row, 0] = total


@_jit
def multiply(result: Any, values: Any, columns: Any, starts: Any, step: Any) -> None:
    """``result`` (rows, batch): the values of each row times ``columns`` (n, batch)."""
    n, batch = columns.shape
    for row in range(len(values)):
        state = np.uint64(starts[row]) * np.uint64(step)
        result[row] = 0
        for j in range(values.shape[1]):
            value, column = values[row, j], _column(state, n)
            for b in range(batch):
                result[row, b] += value * columns[column, b]
            state += np.uint64(step)
