"""A mean of independent values and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tithe.errors import InvalidValueError

__all__ = ["Interval", "interval", "student"]


class Interval(NamedTuple):
    """A mean and both ends of its confidence interval; the ends are ``None`` where one value gives no spread.

    >>> Interval(2.0, 1.5, 2.5).high
    2.5
    """

    mean: float
    low: float | None
    high: float | None


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of independent values with Student's interval around it.

    Args:
        values: one figure per seed; for a paired comparison, the differences per seed.
        confidence: of the interval, between 0 and 1.

    Returns:
        Mean, low, high. Raises ``InvalidValueError`` for no values at all. O(len(values)).

    >>> mean, low, high = interval([1.0, 2.0, 3.0])
    >>> round(mean, 2), round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)
    """
    if not len(values):
        raise InvalidValueError("no values: an interval needs at least one")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, None, None)
    half = student(len(values) - 1, confidence) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def student(freedom: int, confidence: float) -> float:
    """Half the width of the interval around 0 in which Student's t lies with this probability. O(1).

    >>> round(student(2, 0.95), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))
