"""The capacity law: the more one-sided a neuron's votes, the fewer keys it may tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.dampers import Damper, limited
from tithe.hashtron.backward.histories import History, Neuron
from tithe.hashtron.backward.margin import TAU
from tithe.hashtron.fitting import UNCAPPED

__all__ = ["CapacityLaw", "Regime", "premodulo_of", "regime"]

Regime = Literal["noisy", "gold", "collapsed"]


def regime(total: int, most: int, tau: float = TAU) -> Regime:
    """Whether a neuron's votes say next to nothing, all but everything, or something.

    *Noisy* is |S| ≤ √M, no more than chance makes of M votes; *collapsed* is |S| ≥ τ·M, unless it is noisy; *gold* is
    what lies between. So up to M = 1 all is noisy, and with M = 2 nothing is gold.

    Args:
        total: S, the sum of its votes of ±1.
        most: M, the largest |S| that could have been: V, how many votes there were.
        tau: τ, above 0 and at most 1.

    Returns:
        One of them. √M is exact, and so is 0.8·M; with another τ the product is rounded to float64. Raises
        ``InvalidValueError`` unless |S| ≤ M < 2^32. O(1).

    Source: MISSION H3, H4.

    >>> [regime(total, 100) for total in (10, -11, 79, 80)]
    ['noisy', 'gold', 'gold', 'collapsed']
    """
    if not 0 < tau <= 1:
        raise InvalidValueError(f"tau is {tau}; above 0 and at most 1 is expected")
    size, most = _checked(total, most)
    if size * size <= most:
        return "noisy"
    return "gold" if size < tau * most else "collapsed"


def premodulo_of(total: int, most: int) -> int:
    """The square of the capacity M/(|S| + 1), rounded down: to so many keys those of the neuron are hashed.

    From a capacity of 65,536 on the square does not fit in 32 bits; it is then 2^32 − 1, which is no cap.

    Args:
        total: S, the sum of its votes of ±1.
        most: M, the largest |S| that could have been.

    Returns:
        1 to min(M², 2^32 − 1), exactly; it never rises with |S|. Raises ``InvalidValueError`` unless |S| ≤ M and
        1 ≤ M < 2^32. O(1).

    Source: MISSION H3.

    >>> premodulo_of(24, 100), premodulo_of(1, 3), premodulo_of(0, 65_535), premodulo_of(0, 65_536)
    (16, 2, 4294836225, 4294967295)
    """
    size, most = _checked(total, most, 1)
    return _squared(most, size + 1)


@dataclass(frozen=True, slots=True)
class CapacityLaw:
    """Gives each neuron the premodulo that its sums ask for, a policy.

    What it gives depends on the neuron's history alone, so that after an interruption the same histories give the same
    premodulos, however often it is asked.

    Attributes:
        of: M, ``"pivotal"`` for V, or ``"samples"`` for N, the source's form, which caps hidden neurons hardly ever.
        damper: of :mod:`tithe.hashtron.backward.dampers`; ``None`` takes the newest sum as it is.
        most_change: by which factor a premodulo may differ from the one before at most, from 2 on; ``None`` for any.
        reverse: whether |S| counts as M − |S|, for comparison: the more one-sided, the more keys.

    Raises ``InvalidValueError`` for other values. Source: MISSION H3.

    >>> from tithe.hashtron.backward.histories import Sums
    >>> history = History().after(Sums(24, 100, 5000))
    >>> CapacityLaw().premodulo((0, 3), {(0, 3): history})
    16
    >>> CapacityLaw().premodulo((0, 3), {(0, 3): history.after(Sums(0, 100, 5000), given=16)})
    160
    """

    of: Literal["pivotal", "samples"] = "pivotal"
    damper: Damper | None = None
    most_change: int | None = 10
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.of not in ("pivotal", "samples"):
            raise InvalidValueError(f"of is {self.of!r}; use 'pivotal' or 'samples'")
        if self.most_change is not None:
            object.__setattr__(self, "most_change", integer("most_change", self.most_change, 2))

    @property
    def reads(self) -> int:
        """How many of the newest sums with votes it reads. O(1)."""
        return 1 if self.damper is None else self.damper.reads

    def premodulo(self, neuron: Neuron, histories: Mapping[Neuron, History]) -> int:
        """The premodulo for the next training of a neuron.

        Args:
            neuron: layer and position.
            histories: of the neurons; only its own is read.

        Returns:
            1 to 2^32 − 1. Raises ``InvalidValueError`` where it has no sum with votes. O(``reads``).
        """
        history = histories.get(neuron, History())
        if not history.sums:
            raise InvalidValueError(f"neuron {neuron[0]}.{neuron[1]} has no sum with votes to go by; tally it first")
        return self.step(history, history.given)

    def step(self, history: History, given: int | None) -> int:
        """The premodulo that the sums of a history ask for, as near as it may be to what was ``given``. O(``reads``).

        >>> from tithe.hashtron.backward.histories import Sums
        >>> CapacityLaw().step(History(None, (Sums(0, 100, 100),)), None)
        10000
        """
        size, most = self.smoothed(history)
        target = _squared(most, (most - size if self.reverse else size) + 1)
        if given is None:
            return target
        if self.damper is not None:
            target = self.damper.limit(target, given)
        return target if self.most_change is None else limited(target, given, self.most_change)

    def smoothed(self, history: History) -> tuple[Fraction | int, Fraction | int]:
        """|S| and M as the damper weighs them, exactly; their capacity lies between those of the sums. O(``reads``).

        Raises ``InvalidValueError`` where no sum has votes.

        >>> from tithe.hashtron.backward.dampers import MovingAverage
        >>> from tithe.hashtron.backward.histories import Sums
        >>> past = History(None, (Sums(9, 10, 10), Sums(0, 10, 10), Sums(-5, 7, 10)))
        >>> CapacityLaw(damper=MovingAverage(2)).smoothed(past)
        (Fraction(5, 2), Fraction(17, 2))
        """
        newest = history.sums[: -self.reads - 1 : -1]
        if not newest:
            raise InvalidValueError("the history has no sum with votes to go by; tally the neuron first")
        if self.damper is None:
            return abs(newest[0].total), getattr(newest[0], self.of)
        weights = self.damper.weights(len(newest))
        size = sum(weight * abs(sums.total) for weight, sums in zip(weights, newest, strict=True))
        most = sum(weight * getattr(sums, self.of) for weight, sums in zip(weights, newest, strict=True))
        return Fraction(size, sum(weights)), Fraction(most, sum(weights))


def _squared(most: Fraction | int, parts: Fraction | int) -> int:
    """(``most``/``parts``)², rounded down and within 32 bits, exactly."""
    return max(1, min(UNCAPPED, most**2 // parts**2))


def _checked(total: int, most: int, least: int = 0) -> tuple[int, int]:
    """|S| and M, as integers of Python, whose squares do not overflow."""
    size, most = abs(integer("total", total)), integer("most", most, least, UNCAPPED)
    if size > most:
        raise InvalidValueError(f"|total| is {size}, more than most, {most}; the votes of +-1 cannot sum to that")
    return size, most
