"""How sure votes may make a model: the temperature with the least loss on samples that were left out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = ["Loss", "best_temperature", "log_loss"]

#: Of votes (n, classes) for targets (n,), where the votes are divided by a number before the softmax.
Loss = Callable[[NDArray[np.int32], NDArray[np.int64], float], float]

_FOLDS = 3
_GRID = tuple(1.5 * 2**k for k in range(6))
_MOST = 4000  # samples to choose by
_FEW, _USUAL = 12, 6.0  # samples too few to choose by, and what is taken then


def best_temperature(
    y: NDArray[np.int64],
    votes: Callable[[NDArray[np.int64], NDArray[np.int64], float], tuple[NDArray[np.int32], float]],
    loss: Loss,
    random: np.random.Generator,
) -> float:
    """The temperature of ``Schedule`` that suits samples: higher for noise and few samples, lower for clear classes.

    From 1.5 on it is doubled as long as the loss on left-out thirds of at most 4000 samples falls.

    Args:
        y: targets, (n,).
        votes: learns from the samples with the first indices at a temperature, and gives its votes for those with the
            second ones, and the number by which they are to be divided.
        loss: what to make small.
        random: a NumPy generator.

    At most 18 calls of ``votes``.
    """
    rows = random.permutation(len(y))[:_MOST]
    if len(rows) < _FEW or y.min() == y.max():
        return _USUAL
    fold = np.empty(len(rows), np.int64)
    fold[np.argsort(y[rows], kind="stable")] = np.arange(len(rows)) % _FOLDS
    best, least = _USUAL, math.inf
    for temperature in _GRID:
        total = 0.0
        for f in range(_FOLDS):
            left_out = rows[fold == f]
            found, scale = votes(rows[fold != f], left_out, temperature)
            total += loss(found, y[left_out], scale) * len(left_out)
        if total >= least:
            break
        best, least = temperature, total
    return best


def log_loss(votes: NDArray[np.int32], y: NDArray[np.int64], temperature: float) -> float:
    """Mean of −log probability of the targets (n,), where probabilities are the softmax of votes / temperature.

    >>> round(log_loss(np.array([[0, 0]], np.int32), np.array([1]), 1.0), 3)
    0.693
    """
    scaled = votes / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(y)), y]))
