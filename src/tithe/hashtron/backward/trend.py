"""How a quantity of a neuron goes from run to run: its slope, and how sure that is; and its recent average."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError

__all__ = ["WEIGHTS", "Trend", "of_last_runs", "trend", "weighted_average"]

WEIGHTS = (3.0, 2.0, 1.0)  # of the last three, the latest first


class Trend(NamedTuple):
    """A straight line through some records.

    Attributes:
        slope: change per run; NaN for fewer than two different runs.
        error: standard error of the slope; NaN for fewer than three records.
        records: how many there were.
        runs: of how many different runs.
    """

    slope: float
    error: float
    records: int
    runs: int


def trend(runs: NDArray[Any], values: NDArray[Any]) -> Trend:
    """The least-squares line of values over the numbers of their runs.

    Args:
        runs: (n,), numbers of runs.
        values: (n,).

    Returns:
        The slope with its standard error. O(n log n). Source: MISSION H2, H11.

    >>> trend(np.array([1, 2, 3]), np.array([0.1, 0.2, 0.4])).slope.__round__(3)
    0.15
    """
    n, distinct = len(runs), len(np.unique(runs))
    if distinct < 2:
        return Trend(nan, nan, n, distinct)
    x = runs.astype(np.float64) - np.mean(runs, dtype=np.float64)
    y = values.astype(np.float64) - np.mean(values, dtype=np.float64)
    slope = x @ y / (x @ x)
    rest = y - slope * x
    error = np.sqrt(rest @ rest / (n - 2) / (x @ x)) if n > 2 else nan
    return Trend(float(slope), float(error), n, distinct)


def of_last_runs(runs: NDArray[Any], last: int | None) -> NDArray[np.bool_]:
    """Which records are of the last so many different runs among them.

    Args:
        runs: (n,), numbers of runs.
        last: how many; ``None`` for all.

    Returns:
        (n,). Raises ``InvalidValueError`` unless ``last`` is at least 1. O(n log n).

    >>> of_last_runs(np.array([1, 7, 7, 9]), 2).tolist()
    [False, True, True, True]
    """
    if last is not None and last < 1:
        raise InvalidValueError(f"runs is {last}; at least 1 is expected")
    return np.isin(runs, np.unique(runs)[-last if last else None :])


def weighted_average(latest_first: Sequence[float], weights: Sequence[float] = WEIGHTS) -> float | None:
    """The average of the latest few values; the weights of those that are missing are shared out among the others.

    Args:
        latest_first: values.
        weights: of the latest, the one before it, and so on. The source asks for an average of the last three and
            gives no weights; 3 : 2 : 1 is this project's choice.

    Returns:
        Σ wᵢ·xᵢ / Σ wᵢ over the values that there are, ``None`` where there are none. Raises ``InvalidValueError``
        unless the weights are finite and positive. O(weights). Source: MISSION H2.

    >>> weighted_average([60, 30, 0]), weighted_average([60, 30]), weighted_average([])
    (40.0, 48.0, None)
    """
    if not weights or not all(0 < weight < float("inf") for weight in weights):
        raise InvalidValueError(f"weights are {weights}; at least one is expected, all positive and finite")
    pairs = list(zip(weights, latest_first, strict=False))
    return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs) if pairs else None
