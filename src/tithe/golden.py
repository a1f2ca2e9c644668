"""The golden ratio φ: its sequence spreads points evenly however many are drawn, and its hash spreads keys."""

from __future__ import annotations

from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["PHI", "fibonacci_hash", "golden_indices", "golden_sequence"]

PHI = (1.0 + 5.0**0.5) / 2.0

# The odd integer nearest to 2^64/φ: points of the sequence are kept as 64-bit integers, so none of them drifts.
_STEP = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_MAX_N = 1 << 53

_Int = TypeVar("_Int", bound=np.integer)


def golden_sequence(k: int, *, start: int = 0) -> NDArray[np.float64]:
    """The first ``k`` points of the golden-ratio (Kronecker) sequence ``frac(i/φ)``, for i from ``start``.

    Any run of them cuts the circle into gaps of at most three lengths (three-distance theorem), so it is evenly
    spread whenever one stops; the next point always falls into one of the largest gaps.

    Args:
        k: how many points, at least 0.
        start: the index of the first one; another start gives the same points turned round the circle.

    Returns:
        float64 array of shape (k,), in the order of the sequence, each in [0, 1).
        Raises ``InvalidValueError`` for a negative ``k`` and ``InvalidDTypeError`` for what is no integer. O(k).

    Source: Weyl 1916; Sós 1958 (three-distance theorem); Knuth, TAOCP vol. 3, section 6.4.

    >>> golden_sequence(4).round(3).tolist()
    [0.0, 0.618, 0.236, 0.854]
    """
    k, start = _integer("k", k), _integer("start", start)
    if k < 0:
        raise InvalidValueError(f"k is {k}; the number of points must be at least 0")
    indices = np.arange(k, dtype=np.uint64) + np.uint64(start & _MASK)
    points: NDArray[np.float64] = (_scramble(indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return points


def golden_indices(n: int, k: int, *, start: int = 0) -> NDArray[np.int64]:
    """Choose ``k`` distinct ones of the indices 0 … n−1, evenly spread, by the golden-ratio sequence.

    Each point x of the sequence names the index floor(n·x); one that was named before is passed over. No randomness:
    the same arguments give the same indices. The choice is nested: that of ``k`` begins that of ``k + 1``.

    Args:
        n: how many indices there are, 0 ≤ n ≤ 2^53.
        k: how many to choose, 0 ≤ k ≤ n.
        start: index of the first point of the sequence that is used; vary it for another choice.

    Returns:
        int64 array of shape (k,), in the order of the sequence; ``np.sort`` it where ascending order is wanted.
        Raises ``InvalidValueError`` where ``n`` or ``k`` is out of range and ``InvalidDTypeError`` for what is no
        integer. O(k log k): fewer than 2n + 8 points are needed even for k = n.

    Source: MISSION, golden-ratio sampling; ``golden_sequence``.

    >>> golden_indices(100, 5).tolist()
    [0, 61, 23, 85, 47]
    """
    n, k, start = _integer("n", n), _integer("k", k), _integer("start", start)
    if not 0 <= n <= _MAX_N:
        raise InvalidValueError(f"n is {n}; the number of indices must lie between 0 and 2^53")
    if not 0 <= k <= n:
        raise InvalidValueError(f"k is {k} of n = {n}; choose between 0 and n distinct indices")
    points = k
    while True:
        named = np.floor(golden_sequence(points, start=start) * n).astype(np.int64)
        first = np.sort(np.unique(named, return_index=True)[1])
        if len(first) >= k:
            return named[first[:k]]
        points = 2 * points + 8


@overload
def fibonacci_hash(key: int, bits: int) -> int: ...
@overload
def fibonacci_hash(key: NDArray[_Int], bits: int) -> NDArray[np.uint64]: ...
def fibonacci_hash(key: int | NDArray[_Int], bits: int) -> int | NDArray[np.uint64]:
    """Hash integers to ``bits`` bits: the upper bits of ``key · 2^64/φ`` modulo 2^64.

    Neighbouring keys land far apart, and of 2^64 keys as many fall into each slot. It is quick, not secure.

    Args:
        key: an integer, or an integer array of any shape; taken modulo 2^64, so −1 and 2^64 − 1 hash alike.
        bits: width of the hash, 1 … 64.

    Returns:
        An int below 2^bits, or a uint64 array of the shape of ``key``. Raises ``InvalidValueError`` for ``bits`` out
        of range and ``InvalidDTypeError`` for keys that are no integers. O(1) per key.

    Source: Knuth, TAOCP vol. 3, section 6.4 (multiplicative hashing with the golden ratio).

    >>> [fibonacci_hash(key, 8) for key in range(4)]
    [0, 158, 60, 218]
    """
    bits = _integer("bits", bits)
    if not 1 <= bits <= 64:
        raise InvalidValueError(f"bits is {bits}; the width of the hash must lie between 1 and 64")
    if isinstance(key, np.ndarray):
        if not np.issubdtype(key.dtype, np.integer):
            raise InvalidDTypeError(f"key has dtype {key.dtype}; hash an integer array, for instance uint64")
        return np.asarray(_scramble(key.astype(np.uint64)) >> np.uint64(64 - bits))  # asarray: also for shape ()
    return ((_integer("key", key) & _MASK) * _STEP & _MASK) >> (64 - bits)


def _scramble(indices: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return indices * np.uint64(_STEP)  # arrays wrap modulo 2^64 without a warning, which is what is wanted


def _integer(name: str, value: object) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise InvalidDTypeError(f"{name} is {value!r} of type {type(value).__name__}; pass an integer")
