"""Three ways to keep a premodulo from swinging with every new sum: two weigh the sums, one limits the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.checks import decimal, integer
from tithe.hashtron.fitting import UNCAPPED

__all__ = ["DAMPERS", "Damper", "ExponentialSmoothing", "FixedPercent", "MovingAverage", "limited"]

_LEFT_OUT = Fraction(1, 100)  # the weight that an exponential window may cut off


class Damper(Protocol):
    """Keeps a premodulo from swinging with every new sum."""

    @property
    def reads(self) -> int:
        """How many of the newest sums it reads."""

    def weights(self, count: int) -> Sequence[int]:
        """What the newest sums count, newest first, where there are ``count`` of them; at most ``reads`` numbers."""

    def limit(self, target: int, given: int) -> int:
        """The premodulo nearest to ``target`` that may follow ``given``."""


@dataclass(frozen=True, slots=True)
class MovingAverage:
    """The last ``window`` |S| and M count alike.

    Bound: from one sum to the next the damped |S| changes by at most 1/window of the range of the last window + 1
    sums. Under sums that alternate between two values not at all where the window is even and full.

    >>> MovingAverage(3).weights(2)
    (1, 1)
    """

    window: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", integer("window", self.window, 1))

    @property
    def reads(self) -> int:
        """``window``. O(1)."""
        return self.window

    def weights(self, count: int) -> Sequence[int]:
        """1 for each. O(window)."""
        return (1,) * min(count, self.window)

    def limit(self, target: int, given: int) -> int:
        """The target itself: the damping is in the sums. O(1)."""
        return target


@dataclass(frozen=True, slots=True)
class ExponentialSmoothing:
    """The newest |S| and M count ``weight``, each one before it 1 − ``weight`` times as much as the next.

    What is older than a window whose tail weighs under 1 % is left out, so that nothing but a few sums is ever needed.
    Bound: under sums that alternate between two values the damped |S| swings by weight/(2 − weight) of their
    difference as soon as the window is full.

    Attributes:
        weight: in [0.05, 1], taken as the decimal that it is written as.

    >>> ExponentialSmoothing(0.5).weights(3), ExponentialSmoothing(0.5).reads
    ((128, 64, 32), 8)
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        if not Fraction(1, 20) <= decimal("weight", self.weight) <= 1:
            raise InvalidValueError(f"weight is {self.weight!r}; use a number from 0.05 to 1")

    @property
    def reads(self) -> int:
        """The window, an even number. O(window)."""
        rest = left = 1 - decimal("weight", self.weight)
        window = 1
        while left > _LEFT_OUT:
            left, window = left * rest, window + 1
        return window + window % 2  # the swing of an odd window would be larger than weight/(2 - weight)

    def weights(self, count: int) -> Sequence[int]:
        """Whole numbers in the ratio 1 − weight from each to the one before it. O(window)."""
        window, new = self.reads, decimal("weight", self.weight)
        rest = (new.denominator - new.numerator, new.denominator)
        return tuple(rest[0] ** age * rest[1] ** (window - 1 - age) for age in range(min(count, window)))

    def limit(self, target: int, given: int) -> int:
        """The target itself: the damping is in the sums. O(1)."""
        return target


@dataclass(frozen=True, slots=True)
class FixedPercent:
    """The premodulo changes by at most ``percent`` of itself a step, or by 1 where that is more.

    Bound: this, whatever the sums are. Up is × (1 + percent/100) and down is ÷ by it, so that a step up and one down
    end where they began.

    Attributes:
        percent: above 0, taken as the decimal that it is written as.

    >>> FixedPercent(20).limit(5000, 100), FixedPercent(20).limit(1, 100), FixedPercent(20).limit(9, 1)
    (120, 84, 2)
    """

    percent: float = 20.0

    def __post_init__(self) -> None:
        if not decimal("percent", self.percent) > 0:
            raise InvalidValueError(f"percent is {self.percent!r}; use a number above 0")

    @property
    def reads(self) -> int:
        """1: the newest sum alone. O(1)."""
        return 1

    def weights(self, count: int) -> Sequence[int]:
        """1 for the newest. O(1)."""
        return (1,) * min(count, 1)

    def limit(self, target: int, given: int) -> int:
        """What is nearest to the target and near enough to ``given``. O(1)."""
        return limited(target, given, 1 + decimal("percent", self.percent) / 100)


DAMPERS: dict[str, type[Damper]] = {
    "moving_average": MovingAverage,
    "exponential": ExponentialSmoothing,
    "percent": FixedPercent,
}


def limited(target: int, given: int, ratio: int | Fraction) -> int:
    """The whole number nearest to ``target`` from given/ratio to given·ratio, or one off ``given``. O(1).

    >>> limited(10**6, 50, 10), limited(1, 57, 10), limited(9, 3, Fraction(11, 10))
    (500, 6, 4)
    """
    low, high = -(-given // Fraction(ratio)), given * Fraction(ratio) // 1
    return max(1, min(given - 1, int(low)), min(target, max(given + 1, int(high)), UNCAPPED))
