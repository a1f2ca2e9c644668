"""What a model of pronunciation has to beat: the most frequent label of each letter, whatever is around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.languages.samples import UNALIGNED, Part

__all__ = ["letter_accuracy", "majority"]


def majority(train: Part, windows: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The label that each letter has most often; of equally frequent ones, that with more letters in all.

    Args:
        train: what to count in; at least one word in it is aligned.
        windows: of the letters asked for, uint32 (rows, width). One that was not seen gets the most frequent label.

    Returns:
        int64 (rows,), at least 0. O(n log n).

    >>> part = Part((), (), np.array([[2], [2], [3]], np.uint32), np.zeros(1, np.int64), np.array([4, 4, 5]))
    >>> majority(part, np.array([[3], [2], [9]], np.uint32)).tolist()
    [5, 4, 4]
    """
    middle, known = windows.shape[1] // 2, train.labels >= 0
    seen = np.column_stack((train.windows[known, middle].astype(np.int64), train.labels[known]))
    pairs, counts = np.unique(seen, axis=0, return_counts=True)
    ascending = np.argsort(counts[::-1], kind="stable")  # backwards, so that the lower of equal labels comes last
    codes, labels = pairs[::-1][ascending].T
    best = np.full(max(int(codes.max()), int(windows.max(initial=0))) + 1, np.bincount(seen[:, 1]).argmax())
    best[codes] = labels  # the last one of a letter stays
    found: NDArray[np.int64] = best[windows[:, middle]]
    return found


def letter_accuracy(part: Part, labels: NDArray[np.int64]) -> float:
    """How many letters of the aligned words have the right label, 0 to 1.

    Args:
        part: with the right labels; a letter whose phonemes were not seen in training counts as wrong.
        labels: of all its letters, int64 (rows,), at least 0.

    Returns:
        The share. Raises ``InvalidValueError`` for another number of labels, or where no word is aligned. O(rows).

    >>> part = Part((), (), np.zeros((3, 1), np.uint32), np.zeros(1, np.int64), np.array([0, UNALIGNED, -1]))
    >>> letter_accuracy(part, np.zeros(3, np.int64))
    0.5
    """
    if labels.shape != part.labels.shape:
        raise InvalidValueError(f"labels of shape {labels.shape} for letters {part.labels.shape}: give one a letter")
    known = part.labels != UNALIGNED
    if not known.any():
        raise InvalidValueError("none of the words is aligned, so nobody knows the labels of their letters")
    return float((labels == part.labels)[known].mean())
