"""Which capacity has served so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.records import Record, Rows, as_rows

__all__ = ["Recommendation", "recommended_capacity"]

_TRIMMED = 5  # a fifth of the gains counts at neither end: a few neurons change much, for better or worse


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A capacity that has served, and what speaks for it.

    Attributes:
        capacity: the median of those tried in the recommended octave, the root of the premodulo.
        low: a quarter of these were below.
        high: a quarter were above.
        gain: the trimmed mean of what a training with them added to held-out accuracy.
        error: standard error of the gain.
        records: how many trainings these are.
        compared: how many trainings there were in all octaves that had enough of them.
    """

    capacity: float
    low: float
    high: float
    gain: float
    error: float
    records: int
    compared: int


def recommended_capacity(records: Rows | Sequence[Record], *, least: int = 20) -> Recommendation | None:
    """The smallest capacity that has added as much to held-out accuracy as the best, by the records so far.

    What a training added is the difference of ``eval`` from the record before it in the same run on the same data.
    Trainings of hidden neurons that are not stale are sorted into octaves of their capacity, the root of the premodulo:
    1 to 2, 2 to 4, and so on. An octave is as good as the one with the largest mean where it is below that by no more
    than the standard error of their difference. It is an observation, no experiment: when a neuron was trained, and
    with which capacity, may have depended on each other.

    It has not shown to be of use: on five real yes-or-no tasks, new runs in which all neurons had the capacity that was
    recommended by four earlier runs differed in test accuracy from runs with a random octave by 1.0 [-2.5, 4.6] points,
    from the capacity law by -1.0 [-2.7, 0.8] and from no cap by -0.4 [-5.5, 4.6]. On one task it was better than no cap
    (Italian s, 5.5 [4.0, 7.1] points), on one worse (breast cancer, -5.8 [-9.9, -1.7])
    (``python -m benchmarks.capacity_advice``).

    Args:
        records: in the order of training, with none between them left out.
        least: how many trainings an octave must have, 5 or more.

    Returns:
        The recommendation; ``None`` where fewer than two octaves have enough trainings, for then there is nothing to
        compare. Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what are no records. O(n log n).

    Source: MISSION H11; trimmed means (Tukey and McLaughlin, 1963), the rule of one standard error (Breiman and
    others, 1984).

    >>> steps = [(16, 0.01), (400, 0.0)] * 25
    >>> accuracies = np.cumsum([0.1, *(gain for _, gain in steps)])
    >>> recommended_capacity([
    ...     Record(0, i, 1, float(i), votes=1, outputs=0, samples=100, pivotal=9, premodulo=premodulo, eval=accuracy)
    ...     for i, ((premodulo, _), accuracy) in enumerate(zip([(16, 0), *steps], accuracies))
    ... ]).capacity
    4.0
    """
    rows, least = as_rows(records), integer("least", least, 5)
    rows = rows[np.argsort(rows["run"], kind="stable")]
    gains = np.full(len(rows), np.nan)
    gains[1:] = np.diff(rows["eval"].astype(np.float64))
    gains[1:][(np.diff(rows["run"]) != 0) | (rows["data"][1:] != rows["data"][:-1])] = np.nan
    used = (rows["premodulo"] > 0) & ~rows["stale"] & ~rows["final"] & ~np.isnan(gains)
    capacities, gains = np.sqrt(rows["premodulo"][used].astype(np.float64)), gains[used]
    octaves = np.frexp(capacities)[1]
    groups = [group for group in (octaves == octave for octave in np.unique(octaves)) if group.sum() >= least]
    if len(groups) < 2:
        return None
    means = [_trimmed_mean(gains[group]) for group in groups]
    top, top_error = max(means)
    chosen = next(i for i, (mean, error) in enumerate(means) if top - mean <= math.hypot(error, top_error))
    tried = capacities[groups[chosen]]
    low, middle, high = np.quantile(tried, [0.25, 0.5, 0.75]).tolist()
    compared = sum(int(group.sum()) for group in groups)
    return Recommendation(middle, low, high, *means[chosen], len(tried), compared)


def _trimmed_mean(values: NDArray[Any]) -> tuple[float, float]:
    """The mean without a fifth of the values at either end, and its standard error."""
    ordered = np.sort(values)
    cut = len(ordered) // _TRIMMED
    kept = ordered[cut : len(ordered) - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    return float(kept.mean()), float(winsorised.std(ddof=1)) * math.sqrt(len(ordered)) / len(kept)
