"""The few statistics that claims share: a mean with its interval, and the exponent of a power law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tithe.errors import InvalidValueError
from tithe.meter.intervals import Interval, interval, student

__all__ = ["Interval", "PowerLaw", "interval", "power_law"]


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
    half = student(len(x) - 2, 0.95) * math.sqrt(float(rest @ rest) / (len(x) - 2) / float(centred @ centred))
    return PowerLaw(factor, exponent, exponent - half, exponent + half)
