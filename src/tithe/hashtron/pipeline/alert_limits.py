"""When the alerts of a run go on, and when off."""

from __future__ import annotations

from dataclasses import dataclass

from tithe.errors import InvalidValueError

__all__ = ["Band", "Limits"]


@dataclass(frozen=True, slots=True)
class Band:
    """A threshold to go on and a lower one to go off; in between all stays as it is.

    Attributes:
        on: from above this on something is the case.
        off: below this it is no longer.

    Raises ``InvalidValueError`` unless ``off`` is below ``on``.

    >>> band, state, seen = Band(on=0.95, off=0.93), False, []
    >>> for value in (0.94, 0.96, 0.94, 0.92, 0.94):
    ...     state = band.state(value, state)
    ...     seen.append(state)
    >>> seen
    [False, True, True, False, False]
    """

    on: float
    off: float

    def __post_init__(self) -> None:
        if not self.off < self.on:
            raise InvalidValueError(f"off is {self.off} and on {self.on}; off below on is expected")

    def state(self, value: float, before: bool) -> bool:
        """Whether it is the case now. O(1)."""
        return value > self.on or (before and value >= self.off)


@dataclass(frozen=True, slots=True)
class Limits:
    """When alerts go on and off; all figures here are this project's choice but 95 % and 3 sweeps, which are H7's.

    Attributes:
        train: accuracy on the training data that counts as learnt by heart.
        gap: training minus held-out accuracy that shows it.
        change: mean change of a margin from sweep to sweep: below ``off`` a sweep has changed nothing, above ``on`` it
            has changed something.
        sweeps: sweeps that changed nothing, with none between them that changed something: more raise the alert.
        swing: factor by which a premodulo must have changed to have swung; up to ``off`` it has come to rest.
        swings: alternating swings that raise the alert.
        failures: steps in one layer, one after the other, without anything trained, that raise the alert.
        successes: neurons trained one after the other that take it back.
    """

    train: Band = Band(0.95, 0.93)
    gap: Band = Band(0.10, 0.08)
    change: Band = Band(0.02, 0.01)
    sweeps: int = 3
    swing: Band = Band(2.0, 1.25)
    swings: int = 4
    failures: int = 10
    successes: int = 3

    def __post_init__(self) -> None:
        for name in ("sweeps", "swings", "failures", "successes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidValueError(f"{name} is {value!r}; use a whole number from 1 on")
