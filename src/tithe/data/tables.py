"""The sets that scikit-learn carries, with one fixed split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.data.records import Labelled

__all__ = ["bundled", "stratified_split"]

_BINS = 10  # strata of a target that is a quantity: its deciles


def stratified_split(
    strata: NDArray[np.int64], share: float = 0.3, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of a train and a test part in which every stratum has the same share.

    Rows are ranked by the raw output of the PCG64 bit generator, which no release of NumPy changes; of each stratum
    the first ``round(share · size)`` rows are the test part.

    Args:
        strata: int64 (n,), the stratum (class) of each row.
        share: share of the test part, between 0 and 1.
        seed: seed of the generator.

    Returns:
        Train rows and test rows, int64, each ascending; together every row once. O(n log n).
        Source: Cochran 1977, Sampling Techniques, ch. 5.

    >>> train, test = stratified_split(np.array([0] * 10 + [1] * 20))
    >>> len(train), (test < 10).sum(), (test >= 10).sum()
    (21, np.int64(3), np.int64(6))
    """
    ranks = np.random.PCG64(seed).random_raw(len(strata))
    held_out = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        held_out[rows[np.argsort(ranks[rows], kind="stable")][: round(share * len(rows))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def bundled(name: str) -> Labelled:
    """One of scikit-learn's own sets: ``digits``, ``breast_cancer``, ``wine`` or ``diabetes``.

    The split holds out 30 % of every class (of every tenth of the target's range of ranks for ``diabetes``), seed 0.

    Args:
        name: which set.

    Returns:
        ``digits``: uint8 (n, 8, 8) with values 0 to 16; the others float64 (n, features), as scikit-learn gives them
        (``diabetes``: columns centred and of unit length over all rows). Classes int64; the target of ``diabetes``
        float64. O(n log n).

    >>> bundled("wine").test_x.shape
    (53, 13)
    """
    from sklearn import datasets

    source = getattr(datasets, f"load_{name}")()
    x: NDArray[Any] = source.images.astype(np.uint8) if name == "digits" else source.data.astype(np.float64)
    y: NDArray[Any] = source.target
    if name == "diabetes":
        y = y.astype(np.float64)
        strata = np.argsort(np.argsort(y, kind="stable"), kind="stable") * _BINS // len(y)
    else:
        y = strata = y.astype(np.int64)
    train, test = stratified_split(strata)
    return Labelled(x[train], y[train], x[test], y[test])
