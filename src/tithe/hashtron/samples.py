"""What a model learns from: samples as arrays, their order, what their weights mean, and those held out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["as_images", "held_out", "holds_strings", "in_canonical_order", "repeated"]

_MOST_REPEATS = 8  # on average


def repeated(weight: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which samples to learn from, some of them several times, and with which weights.

    Args:
        weight: of the samples, (n,).

    Returns:
        Indices (m,) and weights (m,). A sample of weight 0 is absent. Whole weights are repetitions, unless they are
        larger than 8 on average; other weights are scaled to 1 on average. Raises ``InvalidValueError`` for negative
        weights and where nothing is left. O(m).

    >>> [part.tolist() for part in repeated(np.array([1.0, 0.0, 2.0]))]
    [[0, 2, 2], [1.0, 1.0, 1.0]]
    >>> [part.tolist() for part in repeated(np.array([0.5, 0.0, 1.5]))]
    [[0, 2], [0.5, 1.5]]
    """
    if (weight < 0).any():
        raise InvalidValueError(f"sample_weight has {(weight < 0).sum()} negative values; weights are 0 or more")
    present = np.flatnonzero(weight)
    if not len(present):
        raise InvalidValueError("all of sample_weight is 0: give at least one sample a positive weight")
    there = weight[present]
    if (there == np.rint(there)).all() and there.mean() <= _MOST_REPEATS:
        rows = np.repeat(present, there.astype(np.int64))
        return rows, np.ones(len(rows), np.float32)
    return present, (there / there.mean()).astype(np.float32)


def in_canonical_order(
    packed: NDArray[np.uint8], y: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.int64]:
    """An order of the samples that depends on what they are and not on how they came; O(n log n)."""
    order = np.lexsort((weight, y))
    rows = np.ascontiguousarray(packed.reshape(len(packed), -1))[order]
    return order[np.argsort(rows.view(f"V{rows.shape[1]}").ravel(), kind="stable")]


def held_out(y: NDArray[np.int64], fraction: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which samples are held out: about ``fraction`` of those with each target; bool (n,).

    Raises ``InvalidValueError`` for a fraction not between 0 and 1, and where so few samples give none. O(n log n).

    >>> held_out(np.array([0, 0, 0, 0, 1, 1]), 0.5, np.random.default_rng(0)).sum()
    np.int64(3)
    """
    if not 0 < fraction < 1:
        raise InvalidValueError(f"validation_fraction is {fraction}; take one between 0 and 1, for instance 0.1")
    shuffled = random.permutation(len(y))
    by_target = shuffled[np.argsort(y[shuffled], kind="stable")]
    out = np.zeros(len(y), np.bool_)
    out[by_target[np.diff(np.floor(np.arange(len(y) + 1) * fraction)) > 0]] = True
    if not out.any() or out.all():
        raise InvalidValueError(f"validation_fraction {fraction} of {len(y)} samples leaves one part empty; give more")
    return out


def as_images(X: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Images (n, H, W) from rows."""
    height, width = shape
    if X.shape[1] != height * width:
        raise InvalidValueError(f"image_shape {shape} needs {height * width} columns, X has {X.shape[1]}")
    if X.dtype.kind not in "buif":
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidDTypeError(f"X holds {X.dtype}, not grey values: give images of numbers") from error
    if X.dtype.kind == "f" and np.isnan(X).any():
        raise InvalidValueError("X holds NaN; the pixels of an image cannot be missing: fill them in")
    return X.reshape(-1, height, width)


def holds_strings(X: Any) -> bool:
    """Whether rows in lists hold strings, which NumPy would make of the numbers beside them, too."""
    return any(isinstance(value, str) for row in X if isinstance(row, list | tuple) for value in row)
