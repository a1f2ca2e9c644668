"""Margins: how one-sided the votes for a neuron are, and what that says of how much it should be able to learn.

All functions take numbers or arrays, which broadcast against each other. |S| is the size of a sum of votes, M how many
could have voted. Between the noise of M coin tosses and a foregone conclusion lies the *gold zone*, √M < |S| < τ·M.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["TAU", "capacity", "gold_zone", "in_gold_zone", "margin", "noise", "population"]

TAU = 0.8  # the margin from which on a neuron counts as collapsed


def population(samples: ArrayLike, pivotal: ArrayLike, final: ArrayLike) -> NDArray[np.int64]:
    """M, how many votes there could have been: N for a final neuron, V for a hidden one.

    A hidden neuron hears only from the V samples whose answers depend on it, mostly a few per cent of N: measured
    against N, all hidden neurons would look undecided.

    Args:
        samples: N, the size of the data set.
        pivotal: V, how many samples voted.
        final: whether the neuron gives the answer itself.

    Returns:
        M, int64. Raises ``InvalidDTypeError`` for what are no integers, ``InvalidValueError`` for negative ones.
        O(size). Source: MISSION H, BASELINES (Hashtron).

    >>> population(1000, [40, 1000], [False, True]).tolist()
    [40, 1000]
    """
    return np.where(np.asarray(final, bool), _counts(samples, "samples"), _counts(pivotal, "pivotal"))


def margin(total: ArrayLike, votes: ArrayLike) -> Any:
    """|S|/M, from 0 for a tie (or no votes at all) to 1 for votes that all agree.

    Args:
        total: S, the sum of ±1 votes; may be an average of some.
        votes: M, see :func:`population`.

    Returns:
        float64 of the common shape. Raises as :func:`in_gold_zone` does. O(size). Source: MISSION H.

    >>> margin([-30, 0, 0], [40, 40, 0]).tolist()
    [0.75, 0.0, 0.0]
    """
    size, votes = _sizes(total, votes)
    return size / np.maximum(votes, 1)


def noise(votes: ArrayLike) -> Any:
    """ε = 1/√M, the margin that M coin tosses reach; 1 where there are no votes.

    Args:
        votes: M, not negative.

    Returns:
        float64. Raises as :func:`population` does. O(size). Source: MISSION H4.

    >>> float(noise(400))
    0.05
    """
    return 1 / np.sqrt(np.maximum(_counts(votes, "votes"), 1))


def gold_zone(votes: ArrayLike, tau: float = TAU) -> tuple[Any, Any]:
    """The margins between which the gold zone lies, both exclusive; empty where the first is not below the second.

    Args:
        votes: M, not negative.
        tau: τ, above 0 and at most 1.

    Returns:
        (ε, τ), float64 of the shape of ``votes``. Raises as :func:`in_gold_zone` does. O(size). Source: MISSION H4.

    >>> low, high = gold_zone(400)
    >>> float(low), float(high)
    (0.05, 0.8)
    """
    low = noise(votes)
    return low, np.full_like(low, _checked(tau))


def in_gold_zone(total: ArrayLike, votes: ArrayLike, tau: float = TAU) -> Any:
    """Whether √M < |S| < τ·M: more than chance, and not decided yet.

    Args:
        total: S, at most M in size; may be an average of some.
        votes: M, not negative.
        tau: τ, above 0 and at most 1.

    Returns:
        bool of the common shape; exact at the lower edge for integers. Raises ``InvalidDTypeError`` for what are no
        numbers, ``InvalidValueError`` for NaN, a negative M, |S| > M or another τ. O(size). Source: MISSION H4.

    >>> in_gold_zone([0, 20, 21, -300, 320], 400).tolist()
    [False, False, True, True, False]
    """
    size, votes = _sizes(total, votes)
    return (size * size > votes) & (size < _checked(tau) * votes)


def capacity(total: ArrayLike, votes: ArrayLike) -> Any:
    """M/(|S|+1), from 1 to M: how many cells a neuron should be able to tell apart.

    Args:
        total: S, at most M in size; may be an average of some.
        votes: M, not negative.

    Returns:
        float64 of the common shape, 1 where there are no votes. Raises as :func:`in_gold_zone` does. O(size).
        Source: MISSION H3.

    >>> capacity([0, 4, -100], 100).tolist()
    [100.0, 20.0, 1.0]
    """
    size, votes = _sizes(total, votes)
    return np.maximum(votes / (size + 1), 1.0)


def _sizes(total: ArrayLike, votes: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """|S| as int64 or float64, and M."""
    counts, sums = _counts(votes, "votes"), np.asarray(total)
    if sums.dtype.kind not in "iuf":
        raise InvalidDTypeError(f"total has dtype {sums.dtype}; a sum of votes is a number")
    size = np.abs(sums.astype(np.float64 if sums.dtype.kind == "f" else np.int64))
    if not (size <= counts).all():
        raise InvalidValueError(f"a sum of {_first(size, counts)} votes cannot be; |S| is at most M")
    return size, counts


def _counts(values: ArrayLike, name: str) -> NDArray[np.int64]:
    counts = np.asarray(values)
    if counts.dtype.kind not in "iu":
        raise InvalidDTypeError(f"{name} has dtype {counts.dtype}; integers are expected")
    if counts.size and (counts.min() < 0 or counts.max() >= 1 << 31):
        raise InvalidValueError(f"{name} is from {counts.min()} to {counts.max()}; 0 to 2^31 - 1 are expected")
    return counts.astype(np.int64)


def _first(size: NDArray[Any], counts: NDArray[np.int64]) -> str:
    size, counts = np.broadcast_arrays(size, counts)
    where = np.flatnonzero(~(size <= counts))[0]
    return f"{size.flat[where]} of {counts.flat[where]}"


def _checked(tau: float) -> float:
    if not 0 < tau <= 1:
        raise InvalidValueError(f"tau is {tau}; above 0 and at most 1 is expected")
    return tau
