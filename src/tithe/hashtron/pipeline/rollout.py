"""Two settings side by side on more and more data sets, until all were seen or the second has shown to be worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.meter.intervals import Interval, interval

__all__ = ["SHARES", "Look", "Outcome", "Pair", "Rollout", "rollout", "sizes"]

SHARES = (0.05, 0.2, 0.5, 1.0)
_ALL_SIGNS = 14  # differences up to which every way to give them signs is counted


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting came to on one data set.

    Attributes:
        train: accuracy on the training data.
        eval: accuracy on held-out data.
        seconds: of training.
    """

    train: float
    eval: float
    seconds: float

    @property
    def gap(self) -> float:
        """Training minus held-out accuracy."""
        return self.train - self.eval


@dataclass(frozen=True, slots=True)
class Pair:
    """Both settings on one data set with one seed: the same split, the same network to start from.

    Attributes:
        name: of the data set.
        seed: of the split, the start and the training.
        a: of the setting that is in use.
        b: of the one that should take its place.
    """

    name: str
    seed: int
    a: Outcome
    b: Outcome


@dataclass(frozen=True, slots=True)
class Look:
    """What was known when a stage had ended.

    Attributes:
        sets: how many data sets that was.
        mean: held-out accuracy of b minus that of a.
        upper: the bound above which the difference is not, with the confidence that is left for one look; ``None``
            for data sets too few to tell.
        worse: whether the bound is below the tolerance, so that it ends here.
    """

    sets: int
    mean: float
    upper: float | None
    worse: bool


@dataclass(frozen=True, slots=True)
class Rollout:
    """A comparison.

    Attributes:
        pairs: all that were trained, in order.
        looks: one a stage.
        sets: how many data sets there were.
    """

    pairs: tuple[Pair, ...]
    looks: tuple[Look, ...]
    sets: int

    @property
    def stopped(self) -> bool:
        """Whether b has shown to be worse, and was given no more data sets."""
        return any(look.worse for look in self.looks)

    def differences(self, of: str) -> list[float]:
        """``eval``, ``gap`` or ``seconds`` of b minus that of a: a mean over seeds for each data set. O(pairs).

        Where there is one data set alone, one for each seed. Seeds share what is peculiar to a data set, so they count
        as independent only where nothing is said of others.
        """
        found: dict[object, list[float]] = {}
        alone = len({pair.name for pair in self.pairs}) == 1
        for pair in self.pairs:
            key = pair.seed if alone else pair.name
            found.setdefault(key, []).append(getattr(pair.b, of) - getattr(pair.a, of))
        return [float(np.mean(values)) for values in found.values()]

    def interval(self, of: str) -> Interval:
        """The mean of the differences with its 95 % interval, not corrected for the looks. O(pairs)."""
        return interval(self.differences(of))


def sizes(sets: int, shares: Sequence[float] = SHARES) -> tuple[int, ...]:
    """How many data sets each stage ends with; stages that add none are left out.

    Args:
        sets: how many there are, at least 1.
        shares: rising, the last one 1.

    Returns:
        Rising numbers, the last one ``sets``. Raises ``InvalidValueError`` for other shares. O(shares).

    >>> sizes(140), sizes(3)
    ((7, 28, 70, 140), (1, 2, 3))
    """
    rising = all(low < high for low, high in zip((0.0, *shares), shares, strict=False))
    if not shares or not rising or shares[-1] != 1:
        raise InvalidValueError(f"shares are {tuple(shares)}; rising numbers above 0 are expected, the last of them 1")
    if sets < 1:
        raise InvalidValueError("there are no data sets; at least 1 is expected")
    return tuple(sorted({max(math.ceil(share * sets - 1e-9), 1) for share in shares}))  # 7 % of 100 are 7


def rollout(
    names: Sequence[str],
    measure: Callable[[str, int], Pair | None],
    *,
    seeds: Sequence[int] = (0,),
    shares: Sequence[float] = SHARES,
    tolerance: float = 0.0,
    alpha: float = 0.05,
    order: int = 0,
    look: Callable[[Look], None] | None = None,
) -> Rollout:
    """Compare two settings on growing shares of the data sets, and stop where the second is worse.

    After each stage it stops if the upper end of a one-sided interval of Student's for the difference in held-out
    accuracy is below minus the tolerance. Looking several times is paid for as by Bonferroni: each of L looks has the
    level ``alpha``/L, whatever the others found, so that of two settings that are equally good the second is stopped at
    most with probability ``alpha``. Student's interval needs means that are normal; up to 14 differences it must
    therefore also be that of all ways to give them signs at most ``alpha``/L have so low a mean, which is exact
    wherever the settings could change places. So below log2(L/``alpha``) differences none is worse yet.

    Args:
        names: of the data sets, all different.
        measure: trains both settings on a data set with a seed; ``None`` where that cannot be done, so that it is left
            out.
        seeds: of each data set.
        shares: of the data sets after each stage.
        tolerance: by how much held-out accuracy may fall, at least 0.
        alpha: the probability above, between 0 and 0.5.
        order: seed of the order in which data sets are taken, so that a stage is no choice.
        look: told what each stage found.

    Returns:
        What was found. Raises ``InvalidValueError`` for other arguments, and where nothing could be measured. O(data
        sets · seeds) trainings.

    Source: MISSION H6, H10; Bonferroni's inequality; Fisher's test by signs (The Design of Experiments, 1935).

    >>> def measure(name, seed):
    ...     return Pair(name, seed, Outcome(0.9, 0.8, 1.0), Outcome(0.9, 0.7 + 0.001 * len(name), 1.0))
    >>> found = rollout(["x" * i for i in range(1, 41)], measure)
    >>> found.stopped, [look.sets for look in found.looks]
    (True, [2, 8])
    """
    stages = sizes(len(names), shares)
    if len(set(names)) < len(names) or not seeds or len(set(seeds)) < len(seeds):
        raise InvalidValueError(f"names {names} and seeds {seeds} must differ among themselves, and there must be some")
    if not 0 < alpha < 0.5 or not tolerance >= 0:
        raise InvalidValueError(f"alpha is {alpha} and tolerance {tolerance}; use 0 to 0.5, and 0 or more")
    ordered = [names[place] for place in np.random.default_rng(order).permutation(len(names)).tolist()]
    pairs: list[Pair] = []
    looks: list[Look] = []
    for before, after in zip((0, *stages), stages, strict=False):
        for name in ordered[before:after]:
            pairs += [pair for seed in seeds if (pair := measure(name, seed)) is not None]
        found = Rollout(tuple(pairs), (), len(names)).differences("eval")
        looks.append(_look(after, found, tolerance, alpha / len(stages)))
        if look is not None:
            look(looks[-1])
        if looks[-1].worse:
            break
    if not pairs:
        raise InvalidValueError(f"none of {len(names)} data sets could be measured; there is nothing to compare")
    return Rollout(tuple(pairs), tuple(looks), len(names))


def _look(sets: int, differences: Sequence[float], tolerance: float, alpha: float) -> Look:
    mean = float(np.mean(differences)) if len(differences) else math.nan
    if len(differences) < max(2, math.log2(1 / alpha)):
        return Look(sets, mean, None, False)
    upper = interval(differences, 1 - 2 * alpha).high
    worse = upper is not None and upper < -tolerance
    return Look(sets, mean, upper, worse and _chance(np.add(differences, tolerance)) <= alpha)


def _chance(values: NDArray[np.float64]) -> float:
    """The share of all ways to give the values signs in which their sum is as low; 0 where these are too many."""
    count = len(values)
    if count > _ALL_SIGNS:
        return 0.0
    signs = 1 - 2 * (np.arange(1 << count)[:, None] >> np.arange(count) & 1)
    return float((signs @ np.abs(values) <= values.sum() + 1e-12).mean())
