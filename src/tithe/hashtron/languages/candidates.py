"""The labels that a letter may have: those that it had in training; a model has but to choose among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.languages.samples import Part

__all__ = ["Candidates", "Pairs", "best", "seen_candidates"]


class Pairs(NamedTuple):
    """Letters of words, each with each of its candidates.

    Attributes:
        rows: the letter, int64 (pairs,), ascending.
        labels: the candidate, int64 (pairs,).
        ranks: 0 for the candidate that is most frequent for this letter, int64 (pairs,).
        choices: how many candidates each letter has, at least 1, int64 (rows,).
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    ranks: NDArray[np.int64]
    choices: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of each letter, the most frequent first.

    Attributes:
        labels: those of all letters, one letter after the other, int64.
        edges: where those of each code begin and the last ones end, int64 (codes + 1,), ascending.
    """

    labels: NDArray[np.int64]
    edges: NDArray[np.int64]

    def of(self, codes: NDArray[np.uint32]) -> Pairs:
        """Letters with their candidates; O(pairs).

        >>> Candidates(np.array([4, 2, 9]), np.array([0, 2, 3])).of(np.array([1, 0], np.uint32)).labels.tolist()
        [9, 4, 2]
        """
        choices = np.diff(self.edges)[codes]
        rows = np.repeat(np.arange(len(codes)), choices)
        ranks = np.arange(len(rows)) - np.repeat(np.cumsum(choices) - choices, choices)
        return Pairs(rows, self.labels[self.edges[codes[rows]] + ranks], ranks, choices)


def seen_candidates(train: Part, codes: int, most: int) -> Candidates:
    """The labels that letters have in training.

    Args:
        train: what to count in; at least one word in it is aligned.
        codes: how many codes letters may have. One that has no label gets the most frequent of all.
        most: labels of a letter at most; rarer ones are left out.

    Returns:
        The candidates; of equally frequent ones, the lower label comes first. Raises ``InvalidValueError`` unless
        ``most`` is at least 1. O(n log n).

    >>> part = Part((), (), np.array([[2], [2], [2], [3]], np.uint32), np.zeros(1, int), np.array([4, 5, 5, 4]))
    >>> found = seen_candidates(part, codes=4, most=9)
    >>> found.labels.tolist(), found.edges.tolist()
    ([4, 4, 5, 4, 4], [0, 1, 2, 4, 5])
    """
    if most < 1:
        raise InvalidValueError(f"most is {most}; a letter has 1 candidate or more")
    known = train.labels >= 0
    middle = train.windows[known, train.windows.shape[1] // 2].astype(np.int64)
    pairs, counts = np.unique(np.column_stack((middle, train.labels[known])), axis=0, return_counts=True)
    usual = int(np.bincount(train.labels[known]).argmax())
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    of = [pairs[order, 1][pairs[order, 0] == code][:most].tolist() or [usual] for code in range(codes)]
    edges = np.cumsum([0, *map(len, of)])
    return Candidates(np.array([label for labels in of for label in labels], np.int64), edges)


def best(pairs: Pairs, scores: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label of each letter whose candidate has the highest score; of equal ones, the most frequent.

    Args:
        pairs: letters and candidates.
        scores: int64 (pairs,), not negative.

    Returns:
        int64 (rows,). O(pairs).

    >>> pairs = Candidates(np.array([4, 2, 9]), np.array([0, 2, 3])).of(np.array([1, 0, 0], np.uint32))
    >>> best(pairs, np.array([0, 3, 3, 1, 2])).tolist()
    [9, 4, 2]
    """
    most = int(pairs.choices.max(initial=1))
    starts = np.cumsum(pairs.choices) - pairs.choices
    combined = scores * most + (most - 1 - pairs.ranks)
    highest = np.maximum.reduceat(combined, starts) if len(starts) else combined
    labels: NDArray[np.int64] = pairs.labels[starts + (most - 1 - highest % most)]
    return labels
