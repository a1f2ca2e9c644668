"""How wrong pronunciations are: edits from what was found to what was expected, a phoneme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError

__all__ = ["edit_distances", "phoneme_error_rate"]

_jit: Any = numba.njit(nogil=True, cache=True)


def edit_distances(found: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """The fewest phonemes to insert, delete or replace, so that one pronunciation becomes the other.

    Args:
        found: pronunciations, each some phonemes, or none.
        expected: as many.

    Returns:
        int64 (n,), 0 where both are equal, never more than the longer one has. Raises ``InvalidValueError`` where
        there are not as many of both. O(Σ phonemes found · phonemes expected).

    Source: Wagner & Fischer 1974.

    >>> edit_distances([("k", "a", "t")], [("a", "t", "s")]).tolist()
    [2]
    """
    if len(found) != len(expected):
        raise InvalidValueError(f"{len(found)} pronunciations for {len(expected)} expected ones: give as many")
    numbers: dict[str, int] = {}
    here, here_edges = _numbered(found, numbers)
    there, there_edges = _numbered(expected, numbers)
    out = np.empty(len(found), np.int64)
    _distances(here, here_edges, there, there_edges, np.empty(np.diff(there_edges).max(initial=0) + 1, np.int64), out)
    return out


def phoneme_error_rate(found: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> float:
    """Edits from the pronunciations found to those expected, divided by the phonemes expected.

    Args:
        found: pronunciations.
        expected: as many; at least one phoneme in all.

    Returns:
        0 where all are equal, 1 where nothing was found; more where more was found than was expected, and wrong.
        Raises ``InvalidValueError`` where there are not as many of both, or no phonemes expected. O as the edits.

    >>> phoneme_error_rate([("k", "a", "t"), ("a",)], [("a", "t", "s"), ("a",)])
    0.5
    """
    edits = edit_distances(found, expected).sum()
    phonemes = sum(map(len, expected))
    if not phonemes:
        raise InvalidValueError("no phonemes are expected, of which a share could be wrong: give at least one")
    return float(edits / phonemes)


def _numbered(
    pronunciations: Sequence[Sequence[str]], numbers: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    edges = np.cumsum([0, *map(len, pronunciations)])
    return np.array([numbers.setdefault(p, len(numbers)) for row in pronunciations for p in row], np.int64), edges


def _all_distances(found: Any, found_edges: Any, expected: Any, expected_edges: Any, row: Any, out: Any) -> None:
    for k in range(len(out)):
        start, m = expected_edges[k], expected_edges[k + 1] - expected_edges[k]
        for j in range(m + 1):
            row[j] = j
        for i in range(found_edges[k], found_edges[k + 1]):
            before = row[0]
            row[0] += 1
            for j in range(m):
                replaced = before + (found[i] != expected[start + j])
                before = row[j + 1]
                row[j + 1] = min(replaced, before + 1, row[j] + 1)
        out[k] = row[m]


_distances: Any = _jit(_all_distances)
