"""The few statistics that claims share: a mean with its interval, and the exponent of a power law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tithe.errors import InvalidValueError

__all__ = ["Interval", "PowerLaw", "interval", "power_law"]


class Interval(NamedTuple):
    """A mean and both ends of its confidence interval; the ends are ``None`` where one value gives no spread.

    >>> Interval(2.0, 1.5, 2.5).high
    2.5
    """

    mean: float
    low: float | None
    high: float | None


class PowerLaw(NamedTuple):
    """``y = factor · x**exponent``, with the 95 % interval of the exponent (``None`` from two points).

    >>> law = PowerLaw(factor=1 / 3, exponent=-0.5, low=-0.51, high=-0.49)
    >>> round(law.factor * 1024**law.exponent, 4)
    0.0104
    """

    factor: float
    exponent: float
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
    half = _student(len(values) - 1, confidence) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """The power law through positive points, by least squares on their logarithms.

    Args:
        x: at least two different positive values.
        y: as many positive values.

    Returns:
        Factor, exponent and the 95 % interval of the exponent. Raises ``InvalidValueError`` for unusable points. O(n).

    >>> fit = power_law([64, 256, 1024], [1 / 8, 1 / 16, 1 / 32])
    >>> round(fit.exponent, 6), round(fit.factor, 6)
    (-0.5, 1.0)
    """
    if len(x) != len(y) or len(set(x)) < 2 or min(*x, *y) <= 0:
        raise InvalidValueError(f"a power law needs two or more positive points; got x={list(x)}, y={list(y)}")
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    centred = log_x - log_x.mean()
    exponent = float(centred @ log_y / (centred @ centred))
    factor = math.exp(float(log_y.mean() - exponent * log_x.mean()))
    if len(x) == 2:
        return PowerLaw(factor, exponent, None, None)
    rest = log_y - log_y.mean() - exponent * centred
    half = _student(len(x) - 2, 0.95) * math.sqrt(float(rest @ rest) / (len(x) - 2) / float(centred @ centred))
    return PowerLaw(factor, exponent, exponent - half, exponent + half)


def _student(freedom: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))
