"""How much of a product lies beyond its first r directions, as far as a few of its rows and columns show."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["beyond", "tails"]

_APART = 10.0  # between what r − 1 and r directions leave
_SPARE = 8  # directions that are kept to judge the last one by


def tails(block: NDArray[Any]) -> NDArray[np.float64]:
    """Mean square of the entries that the first r singular directions of ``block`` leave, for r = 0, 1, ….

    What they leave has p − r rows and q − r columns that count: r directions fit as much of any noise. So the mean
    over those estimates that of the whole product, of which the block is a sample. The last eight directions are left
    out: too few lines would judge them.

    Args:
        block: some rows and columns of a product, (p, q), finite.

    Returns:
        float64, (max(1, min(p, q) − 8),), about falling. O(pq·min(p, q)).

    >>> tails(np.outer(np.arange(1.0, 11.0), np.ones(10))).round(9).tolist()
    [38.5, 0.0]
    """
    p, q = block.shape
    count = max(1, min(p, q) - _SPARE)
    values = torch.linalg.svdvals(torch.from_numpy(block)).numpy()  # NumPy's would start threads of its own
    squares = np.square(values, dtype=np.float64)
    r = np.arange(count)
    return np.asarray(np.cumsum(squares[::-1])[::-1][:count] / ((p - r) * (q - r)))


def beyond(left: NDArray[np.float64], count: int, smaller: int, *, iterations: int = 0, fitted: int = 0) -> float:
    """Mean square of an entry that ``count`` random directions of a product are expected to miss.

    Of r directions that matter, ``count`` > r + 1 random ones leave (1 + r/(count − r − 1)) times what lies beyond r,
    and the power 1/(2q + 1) of that after q power iterations (Halko, Martinsson and Tropp 2011, SIAM Review 53(2),
    theorem 10.5 and section 10.4). The best such r is taken.

    Args:
        left: what ``tails`` found.
        count: directions that are kept.
        smaller: the smaller side of the whole product, all of whose directions would leave nothing.
        iterations: power iterations that the directions went through.
        fitted: rows that what lies in the directions is fitted to, more than ``count``; by least squares that adds
            the share of directions that are fitted to the noise. None where it is projected.

    >>> beyond(np.array([1.0, 0.0]), 3, 100), beyond(np.array([1.0, 1.0]), 50, 100)
    (0.0, 0.5)
    """
    if count >= smaller:
        return 0.0
    r = np.arange(max(1, min(len(left), count - 1)))
    missed = (1 + r / np.maximum(count - r - 1, 1)) ** (1 / (2 * iterations + 1))
    if fitted:
        apart = np.append(False, left[r[:-1]] > _APART * left[r[1:]])  # directions that stand out from all others
        used = np.where(apart, r, count)
        missed = missed * (1 + used / np.maximum(fitted - used - 1, 1))
    return float(np.min(left[r] * missed)) * (1 - count / smaller)
