"""The loops of the alignment, compiled by numba: the steps of all words, their expected counts, the best path.

A step takes some letters of a word and gives them some phonemes. Cell (i, j) of a word is reached when i letters and
j phonemes are spent; its steps are those that end there, in the order of ``STEPS``. All cells of all words lie in one
row, those of word w from ``cells[w]`` on, by letters and then by phonemes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["NOWHERE", "STEPS", "best_paths", "expected_counts", "kinds", "letter_keys", "step_keys"]

Integers: TypeAlias = NDArray[np.int64]
_jit: Any = numba.njit(nogil=True, cache=True)

STEPS = np.array([(1, 1), (1, 0), (1, 2), (2, 1)], np.int64)
"""Letters and phonemes of a step. Two letters with two phonemes are two steps of one. Of equal paths, that one is best
whose last step comes first here."""

NOWHERE = -1
"""The key of a step that would begin outside of the word."""


def _step_keys(
    letters: Any, phonemes: Any, letter_edges: Any, phoneme_edges: Any, cells: Any, alphabet: Any, sounds: Any, out: Any
) -> None:
    runs_of_phonemes = 1 + sounds + sounds * sounds
    for w in range(len(cells) - 1):
        first, start = letter_edges[w], phoneme_edges[w]
        n, m = letter_edges[w + 1] - first, phoneme_edges[w + 1] - start
        for i in range(n + 1):
            for j in range(m + 1):
                cell = cells[w] + i * (m + 1) + j
                for s in range(len(STEPS)):
                    a, b = STEPS[s]
                    if a > i or b > j:
                        out[cell, s] = NOWHERE
                        continue
                    run = letters[first + i - 1]
                    if a == 2:
                        run = alphabet + letters[first + i - 2] * alphabet + run
                    sound = 0
                    if b == 1:
                        sound = 1 + phonemes[start + j - 1]
                    elif b == 2:
                        sound = 1 + sounds + phonemes[start + j - 2] * sounds + phonemes[start + j - 1]
                    out[cell, s] = run * runs_of_phonemes + sound


def _expected_counts(
    steps: Any, letter_edges: Any, phoneme_edges: Any, cells: Any, weight: Any, forward: Any, backward: Any, counts: Any
) -> None:
    for w in range(len(cells) - 1):
        n, m = letter_edges[w + 1] - letter_edges[w], phoneme_edges[w + 1] - phoneme_edges[w]
        last = (n + 1) * (m + 1) - 1
        forward[: last + 1] = 0.0
        backward[: last + 1] = 0.0
        forward[0] = 1.0
        for c in range(last + 1):
            for s in range(len(STEPS)):
                step = steps[cells[w] + c, s]
                if step != NOWHERE:
                    forward[c] += forward[c - STEPS[s, 0] * (m + 1) - STEPS[s, 1]] * weight[step]
        if not 0.0 < forward[last] < np.inf:  # beyond the range of floating point
            continue
        backward[last] = 1.0 / forward[last]
        for c in range(last, -1, -1):
            if backward[c] == 0.0:
                continue
            for s in range(len(STEPS)):
                step = steps[cells[w] + c, s]
                if step != NOWHERE:
                    before = c - STEPS[s, 0] * (m + 1) - STEPS[s, 1]
                    share = weight[step] * backward[c]
                    backward[before] += share
                    counts[step] += forward[before] * share


def _best_paths(
    scores: Any, letter_edges: Any, phoneme_edges: Any, cells: Any, best: Any, came: Any, taken: Any
) -> None:
    for w in range(len(cells) - 1):
        first = letter_edges[w]
        n, m = letter_edges[w + 1] - first, phoneme_edges[w + 1] - phoneme_edges[w]
        size = (n + 1) * (m + 1)
        best[:size] = -np.inf
        best[0] = 0.0
        for c in range(1, size):
            for s in range(len(STEPS)):
                a, b = STEPS[s]
                if a * (m + 1) > c or b > c % (m + 1):
                    continue
                found = best[c - a * (m + 1) - b] + scores[cells[w] + c, s]
                if found > best[c]:
                    best[c], came[c] = found, s
        c, i = size - 1, n
        while c > 0:
            s = came[c]
            i -= STEPS[s, 0]
            taken[first + i] = s
            c -= STEPS[s, 0] * (m + 1) + STEPS[s, 1]


_steps: Any = _jit(_step_keys)
_counts: Any = _jit(_expected_counts)
_paths: Any = _jit(_best_paths)


def step_keys(
    letters: Integers,
    phonemes: Integers,
    letter_edges: Integers,
    phoneme_edges: Integers,
    alphabet: int,
    sounds: int,
) -> tuple[Integers, Integers]:
    """A number for each step that could end in a cell, the same for the same letters and phonemes.

    Args:
        letters: of all words one after the other, numbers below ``alphabet``.
        phonemes: the same, below ``sounds``.
        letter_edges: (words + 1,) where the letters of each word begin, and the last ones end.
        phoneme_edges: the same for its phonemes.
        alphabet: how many letters there are.
        sounds: how many phonemes there are.

    Returns:
        The keys (cells, steps), and where the cells of each word begin, (words + 1,). O(Σ letters · phonemes).

    >>> one, edges = np.zeros(1, np.int64), np.array([0, 1])
    >>> keys, cells = step_keys(one, one, edges, edges, 1, 1)
    >>> keys.tolist(), cells.tolist()
    ([[-1, -1, -1, -1], [-1, -1, -1, -1], [-1, 0, -1, -1], [1, 0, -1, -1]], [0, 4])
    """
    cells = np.zeros_like(letter_edges)
    np.cumsum((np.diff(letter_edges) + 1) * (np.diff(phoneme_edges) + 1), out=cells[1:])
    out = np.empty((cells[-1], len(STEPS)), np.int64)
    _steps(letters, phonemes, letter_edges, phoneme_edges, cells, alphabet, sounds, out)
    return out, cells


def letter_keys(letters: Integers, phonemes: Integers | None, sounds: int) -> Integers:
    """The keys of steps of one letter, each with a phoneme, or all without any.

    >>> letter_keys(np.zeros(1, np.int64), np.zeros(1, np.int64), 1).tolist()
    [1]
    """
    return letters * _runs(sounds) + (0 if phonemes is None else 1 + phonemes)


def kinds(keys: Integers, alphabet: int, sounds: int) -> Integers:
    """Of which kind each step is: its place in ``STEPS``; of any kind for ``NOWHERE``.

    >>> kinds(np.array([0, 1]), 1, 1).tolist()
    [1, 0]
    """
    sound = keys % _runs(sounds)
    of_one_letter = np.array([1, 0, 2])[1 * (sound > 0) + (sound > sounds)]
    found: Integers = np.where(keys // _runs(sounds) < alphabet, of_one_letter, 3)
    return found


def expected_counts(
    steps: Integers,
    letter_edges: Integers,
    phoneme_edges: Integers,
    cells: Integers,
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How often each step is expected, where the probability of a path goes with the product of its steps' weights.

    ``steps`` (cells, steps) are places in ``weight``, or ``NOWHERE``. Words whose paths weigh more than a float can
    hold, or less, count for nothing. O(cells).
    """
    counts = np.zeros_like(weight)
    room = int(np.diff(cells).max(initial=0))
    _counts(steps, letter_edges, phoneme_edges, cells, weight, np.empty(room), np.empty(room), counts)
    return counts


def best_paths(
    scores: NDArray[np.float64], letter_edges: Integers, phoneme_edges: Integers, cells: Integers
) -> NDArray[np.int8]:
    """Which step of the best path begins at each letter, −1 at the second of two; int8 (letters,).

    ``scores`` (cells, steps) are finite and added up along a path. Every word must have one. O(cells).
    """
    room = int(np.diff(cells).max(initial=0))
    taken = np.full(letter_edges[-1], -1, np.int8)
    _paths(scores, letter_edges, phoneme_edges, cells, np.empty(room), np.empty(room, np.int8), taken)
    return taken


def _runs(sounds: int) -> int:
    """How many runs of at most two phonemes there are."""
    return 1 + sounds + sounds * sounds
