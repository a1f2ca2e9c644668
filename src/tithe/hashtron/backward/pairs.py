"""Which two neurons to train together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.checks import integer

__all__ = ["Pair", "anti_correlated_pairs"]

_SAMPLES_AT_ONCE = 1 << 14  # their products sum up exactly in float32
_TRIED = 16  # times as many pairs are tested as are wanted


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neurons that the same samples push in opposite directions.

    Attributes:
        neurons: their positions, ascending.
        correlation: of their votes over the samples that vote for both, from −1 on.
        together: how many samples that are.
        chance: at most so likely is it that any pair of independent neurons looks like this one or worse.
    """

    neurons: tuple[int, int]
    correlation: float
    together: int
    chance: float


def anti_correlated_pairs(votes: ArrayLike, *, most: int = 10, significance: float = 0.05) -> list[Pair]:
    """The pairs of neurons whose votes are most anti-correlated, as far as that is no chance.

    The same samples push them in opposite directions, so what is right for one depends on what the other does. The
    probability of a pair is exact: if the votes of one neuron were dealt to the samples at random, the number for both
    would be hypergeometric. It is multiplied by the number of all pairs, tested or not.

    Args:
        votes: bool, or numbers of which −1 and 1 are votes and 0 is none, (N, H); ``LayerVotes.signs`` transposed.
        most: how many pairs at most, 1 or more.
        significance: the largest ``chance`` of a pair, in (0, 1].

    Returns:
        Pairs, the most anti-correlated first; of equal ones the first neurons. The 16·``most`` pairs whose correlations
        are the most standard deviations below 0 are tested. Raises ``InvalidValueError`` and ``InvalidDTypeError`` for
        other arguments. O(N · H²), three products of matrices; O(H²) in memory.

    Source: MISSION H11; Fisher's exact test, with Bonferroni's correction.

    >>> one = np.tile([True, False], 20)
    >>> anti_correlated_pairs(np.stack([one, ~one, one], 1))[0].neurons
    (0, 1)
    """
    array = np.asarray(votes)
    if array.dtype.kind not in "biuf":
        raise InvalidDTypeError(f"votes are {array.dtype}; bool, or -1, 0 and 1 are expected")
    if array.ndim != 2:
        raise InvalidValueError(f"votes have shape {array.shape}; (samples, neurons) is expected")
    most = integer("most", most, 1)
    if not 0 < significance <= 1:
        raise InvalidValueError(f"significance is {significance}; above 0 and at most 1 is expected")
    together, own, common = _products(array)
    counts = np.triu(together, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt((counts**2 - own**2) * (counts**2 - own.T**2))
        correlation = (counts * common - own * own.T) / spread
    correlation[~((spread > 0) & (counts > 0))] = 0  # one of them votes always the same
    strength = (correlation * np.sqrt(counts)).ravel()
    tried = np.argsort(strength, kind="stable")[: _TRIED * most]
    neurons = array.shape[1]
    pairs, logs = [], np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(array) + 1)))])
    for place in tried[strength[tried] < 0].tolist():
        i, j = divmod(place, neurons)
        n, a, b = int(together[i, j]), int(own[i, j]), int(own[j, i])
        both = (n + a + b + int(common[i, j])) // 4  # how many of the n vote true for both
        chance = _at_most(both, (n + a) // 2, (n + b) // 2, n, logs) * neurons * (neurons - 1) / 2
        if chance <= significance:
            pairs.append(Pair((i, j), float(correlation[i, j]), n, chance))
    return sorted(pairs, key=lambda pair: (pair.correlation, pair.neurons))[:most]


def _products(votes: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(H, H) each: samples that vote for both, the sum of the votes for i among these, and of products of votes."""
    neurons = votes.shape[1]
    together, own, common = (np.zeros((neurons, neurons)) for _ in range(3))
    for start in range(0, len(votes), _SAMPLES_AT_ONCE):
        block = votes[start : start + _SAMPLES_AT_ONCE]
        signs = block.astype(np.float32)
        if block.dtype == np.bool_:
            signs = 2 * signs - 1
        elif not ((signs == 0) | (np.abs(signs) == 1)).all():
            raise InvalidValueError("votes must be bool, or -1, 0 and 1 alone")
        common += signs.T @ signs
        if signs.all():  # then two of the products are plain sums
            together += len(signs)
            own += signs.sum(0)[:, None]
        else:
            voting = np.abs(signs)
            together += voting.T @ voting
            own += signs.T @ voting
    return together, own, common


def _at_most(both: int, first: int, second: int, n: int, logs: NDArray[np.float64]) -> float:
    """P(X ≤ both), X hypergeometric: of n, ``first`` and ``second`` are marked independently, X with both marks."""
    x = np.arange(max(0, first + second - n), both + 1)
    ways = logs[first] - logs[x] - logs[first - x] + logs[n - first] - logs[second - x] - logs[n - first - second + x]
    return float(np.exp(ways - (logs[n] - logs[second] - logs[n - second])).sum())
