"""How much of a product lies beyond its first r directions, as far as a few of its rows and columns show."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = ["beyond", "tails"]

_SPARE = 8  # lines that are kept to judge the last direction by


def tails(block: NDArray[Any]) -> NDArray[np.float64]:
    """Mean square of the entries that the first r pivots of ``block`` leave, for r = 0, 1, ….

    Pivoted QR takes the heaviest column that is left, again and again. What it leaves has p − r rows and q − r columns
    that count, so the mean over those estimates that of the whole product, of which the block is a sample. The last
    eight directions are left out: too few lines would judge them.

    Args:
        block: some rows and columns of a product, (p, q), finite.

    Returns:
        float64, (max(1, min(p, q) − 8),), about falling. O(pq·min(p, q)). Source: Businger and Golub 1965.

    >>> tails(np.outer(np.arange(1.0, 11.0), np.ones(10))).round(9).tolist()
    [38.5, 0.0]
    """
    p, q = block.shape
    count = max(1, min(p, q) - _SPARE)
    triangle = linalg.qr(block, mode="r", pivoting=True, check_finite=False)[0][: min(p, q)]
    rows = np.square(np.triu(triangle), dtype=np.float64).sum(1)
    left = np.cumsum(rows[::-1])[::-1][:count]
    r = np.arange(count)
    return np.asarray(left / ((p - r) * (q - r)))


def beyond(left: NDArray[np.float64], count: int, smaller: int) -> float:
    """Mean square of an entry that ``count`` random directions of a product are expected to miss.

    Of r directions that matter, ``count`` > r + 1 random ones leave (1 + r/(count − r − 1)) times what lies beyond r
    (Halko, Martinsson and Tropp 2011, SIAM Review 53(2), theorem 10.5); the best such r is taken.

    Args:
        left: what ``tails`` found.
        count: directions that are kept.
        smaller: the smaller side of the whole product, all of whose directions would leave nothing.

    >>> beyond(np.array([1.0, 0.0]), 3, 100), beyond(np.array([1.0, 1.0]), 50, 100)
    (0.0, 0.5)
    """
    if count >= smaller:
        return 0.0
    r = np.arange(max(1, min(len(left), count - 1)))
    return float(np.min(left[r] * (1 + r / np.maximum(count - r - 1, 1)))) * (1 - count / smaller)
