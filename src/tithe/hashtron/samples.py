"""What a model learns from: encoded samples, their order, what their weights mean, and which are held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError

__all__ = ["Samples", "copies", "effective", "folds", "held_out", "in_canonical_order", "repeated", "some"]

_MOST_COPIES = 4  # on average


class Samples(NamedTuple):
    """Encoded samples (n, …), their targets int64 (n,) and weights float32 (n,), which add up to how many they are."""

    packed: NDArray[np.uint8]
    y: NDArray[np.int64]
    weight: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Samples:
        """Some of them."""
        return Samples(self.packed[rows], self.y[rows], self.weight[rows])


def repeated(weight: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which samples to learn from, some of them several times, and with which weights.

    Args:
        weight: of the samples, (n,).

    Returns:
        Indices (m,) and weights (m,). A sample of weight 0 is absent. Whole weights are repetitions, unless they are
        larger than 4 on average; others are scaled so that they add up to as many equal ones as they are worth,
        (Σw)²/Σw². Raises ``InvalidValueError`` for negative weights and where nothing is left. O(m).

    >>> [part.tolist() for part in repeated(np.array([1.0, 0.0, 2.0]))]
    [[0, 2, 2], [1.0, 1.0, 1.0]]
    >>> [part.tolist() for part in repeated(np.array([0.5, 0.0, 1.5]))]
    [[0, 2], [0.4000000059604645, 1.2000000476837158]]
    """
    if (weight < 0).any():
        raise InvalidValueError(f"sample_weight has {(weight < 0).sum()} negative values; weights are 0 or more")
    present = np.flatnonzero(weight)
    if not len(present):
        raise InvalidValueError("all of sample_weight is 0: give at least one sample a positive weight")
    there = weight[present]
    if (there == np.rint(there)).all() and there.mean() <= _MOST_COPIES:
        rows = np.repeat(present, there.astype(np.int64))
        return rows, np.ones(len(rows), np.float32)
    scaled = effective(there).astype(np.float32)
    return present[scaled > 0], scaled[scaled > 0]


def effective(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive weights (n,) in proportion, so that they add up to (Σw)²/Σw².

    Source: Kish 1965, the effective sample size.

    >>> effective(np.array([3.0, 3.0, 0.0])).tolist()
    [1.0, 1.0, 0.0]
    """
    share = weight / weight.max()
    scaled: NDArray[np.float64] = share * (share.sum() / (share**2).sum())
    return scaled


def in_canonical_order(
    packed: NDArray[np.uint8], y: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.int64]:
    """An order of the samples that depends on what they are and not on how they came; O(n log n)."""
    order = np.lexsort((weight, y))
    rows = np.ascontiguousarray(packed.reshape(len(packed), -1))[order]
    return order[np.argsort(rows.view(f"V{rows.shape[1]}").ravel(), kind="stable")]


def copies(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which samples, in canonical order, must stay together where some are held out: their numbers, ascending, (n,).

    Equal ones, as whole weights make of one sample, would otherwise be learned from and held out. But where there are
    more than four of each on average, few different samples exist: then those to predict will have been seen as well,
    and each stands for itself. O(n · bytes).

    >>> copies(np.array([[1], [1], [5]], np.uint8)).tolist()
    [0, 0, 1]
    """
    rows = packed.reshape(len(packed), -1)
    new = np.ones(len(rows), np.bool_)
    for start in range(1, len(rows), 4096):
        stop = min(start + 4096, len(rows))
        new[start:stop] = (rows[start:stop] != rows[start - 1 : stop - 1]).any(1)
    return np.cumsum(new) - 1 if new.sum() * _MOST_COPIES >= len(rows) else np.arange(len(rows))


def held_out(samples: Samples, fraction: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which samples are held out: about ``fraction`` of those with each target, copies together; bool (n,).

    Raises ``InvalidValueError`` where so few samples give none. O(n log n).

    >>> samples = Samples(np.arange(6, dtype=np.uint8)[:, None], np.array([0, 0, 0, 0, 1, 1]), np.ones(6, np.float32))
    >>> held_out(samples, 0.5, np.random.default_rng(0)).sum()
    np.int64(3)
    """
    group = copies(samples.packed)
    y = samples.y[np.flatnonzero(np.diff(group, prepend=-1))]
    shuffled = random.permutation(len(y))
    by_target = shuffled[np.argsort(y[shuffled], kind="stable")]
    out = np.zeros(len(y), np.bool_)
    out[by_target[np.diff(np.floor(np.arange(len(y) + 1) * fraction)) > 0]] = True
    if not out.any() or out.all():
        raise InvalidValueError(
            f"validation_fraction {fraction} of {len(y)} different samples leaves one part empty; give more"
        )
    return out[group]


def folds(
    samples: Samples, count: int, most: int, random: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each of ``count`` parts, the samples of the others and its own, of about ``most`` in all; copies together.

    Args:
        samples: in canonical order.
        count: parts, alike in their targets.
        most: samples; where there are more, some are taken at random.
        random: a NumPy generator.
    """
    group = copies(samples.packed)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    taken = random.permutation(len(first))[: max(1, most * len(first) // len(group))]
    part = np.full(len(first), -1)
    part[taken[np.argsort(samples.y[first[taken]], kind="stable")]] = np.arange(len(taken)) % count
    mine = part[group]
    return [(np.flatnonzero((mine >= 0) & (mine != f)), np.flatnonzero(mine == f)) for f in range(count)]


def some(
    weight: NDArray[np.float32], most: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """At most ``most`` samples, heavier ones likelier, and what each then weighs, so that sums are as those of all.

    Source: Duffield, Lund & Thorup 2007, priority sampling. O(n log n).

    >>> rows, weights = some(np.array([9, 0.5, 0.5], np.float32), 2, np.random.default_rng(0))
    >>> sorted(rows.tolist())[0], weights.max()
    (0, np.float32(9.0))
    """
    if len(weight) <= most or (weight == weight[0]).all():
        rows = random.permutation(len(weight))[:most]
        return rows, weight[rows]
    priority = weight / (1 - random.random(len(weight)))
    order = np.argsort(-priority, kind="stable")
    rows = order[:most]
    return rows, np.maximum(weight[rows], priority[order[most]]).astype(np.float32)
