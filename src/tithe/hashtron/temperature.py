"""How sure votes may make a model: losses of votes for samples that were left out, and how they are made small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

__all__ = ["Loss", "calibrated", "log_loss", "lowest"]

#: Of votes (n, classes) for targets (n,) with weights (n,), where votes are divided by a number before the softmax.
Loss = Callable[[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32], float], float]

_REACH = 3.0  # natural logarithm of the factor by which calibration changes a temperature, at most


def log_loss(votes: NDArray[np.int32], y: NDArray[np.int64], weight: NDArray[np.float32], temperature: float) -> float:
    """Weighted mean of −log probability of the targets, where probabilities are the softmax of votes / temperature.

    Args:
        votes: (n, classes).
        y: targets, (n,).
        weight: of the samples, (n,).
        temperature: positive.

    >>> round(log_loss(np.array([[0, 0]], np.int32), np.array([1]), np.ones(1, np.float32), 1.0), 3)
    0.693
    """
    scaled = votes / temperature
    return float(np.average(logsumexp(scaled, axis=1) - scaled[np.arange(len(y)), y], weights=weight))


def calibrated(
    votes: NDArray[np.int32], y: NDArray[np.int64], weight: NDArray[np.float32], temperature: float, loss: Loss
) -> float:
    """The temperature near ``temperature`` (up to 20 times as high or low) with the least loss."""
    found = minimize_scalar(
        lambda log: loss(votes, y, weight, temperature * math.exp(log)), bounds=(-_REACH, _REACH), method="bounded"
    )
    return temperature * math.exp(found.x)


def lowest(loss: Callable[[float], float], ascending: Sequence[float]) -> float:
    """The first of some temperatures after which the loss does not fall.

    >>> lowest(lambda temperature: (temperature - 3) ** 2, (1, 2, 3, 4, 5))
    3
    """
    best, least = ascending[0], loss(ascending[0])
    for temperature in ascending[1:]:
        found = loss(temperature)
        if found >= least:
            break
        best, least = temperature, found
    return best
