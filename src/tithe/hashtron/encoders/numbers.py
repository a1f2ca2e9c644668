"""Columns of numbers as thermometers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.encoders.checks import ascending, fields, truth
from tithe.hashtron.encoders.values import Values

__all__ = ["Numbers"]

_BYTES, _FLAG = 8, 1  # to keep a level; to keep that what is missing is marked
_EXACT = 1 << 52  # whole numbers below have a float64 half-way between neighbours


@dataclass(frozen=True)
class Numbers:
    """A number is its thermometer: bit k says whether it is larger than level k.

    Attributes:
        levels: ascending, each half-way between two values that occurred, or as near to that as their type allows.
        absent: whether there is one more bit, for missing values; below all levels they are in either case.
    """

    levels: tuple[float, ...]
    absent: bool = False
    kind: ClassVar[str] = "numbers"

    @classmethod
    def fit(cls, values: Values, weight: NDArray[np.floating], most: int) -> Numbers:
        """Levels at quantiles of the weight, at most ``most``; between all values where they are so few.

        Where one value is so frequent that quantiles coincide, the others are spread over the values that occur.
        """
        there = values.numbers()[~values.absent]
        distinct = np.unique(there)
        below = distinct[:-1]
        if len(below) > most:
            order = np.argsort(there, kind="stable")
            total = np.cumsum(weight[~values.absent][order], dtype=np.float64)
            shares = np.arange(1, most + 1) / (most + 1) * max(total[-1] - 1, 0)
            quantiles = there[order][np.minimum(np.searchsorted(total, shares, side="right"), len(there) - 1)]
            at_quantiles = np.unique(quantiles[quantiles < distinct[-1]])
            left = most - len(at_quantiles)
            spread = np.arange(1, left + 1) * len(below) // (left + 1)
            below = np.union1d(at_quantiles, below[spread])
        above = distinct[np.searchsorted(distinct, below, side="right")] if len(below) else below
        return cls(tuple(_between(below, above).tolist()), bool(values.absent.any()))

    @property
    def length(self) -> int:
        """Bits."""
        return len(self.levels) + self.absent

    def costs(self) -> NDArray[np.int64]:
        """Bytes to keep each bit, (``length``,)."""
        return np.array([_BYTES] * len(self.levels) + [_FLAG] * self.absent, np.int64)

    def keep(self, bits: NDArray[np.bool_]) -> Numbers:
        """With these bits only."""
        levels = tuple(level for level, kept in zip(self.levels, bits.tolist(), strict=False) if kept)
        return Numbers(levels, self.absent and bool(bits[-1]))

    def bits(self, values: Values) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        with np.errstate(invalid="ignore"):
            out: NDArray[np.bool_] = values.numbers()[:, None] > np.array(self.levels)
        return np.column_stack((out, values.absent)) if self.absent else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        return [f"> {level:g}" for level in self.levels] + ["is missing"] * self.absent

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Numbers:
        """What ``asdict`` gave; ``TypeError`` or ``ValueError`` for what it did not."""
        levels, absent = fields(data, "levels", "absent")
        return cls(ascending(levels, "levels"), truth(absent, "absent"))


def _between(below: NDArray[Any], above: NDArray[Any]) -> NDArray[Any]:
    """Half-way, but at least ``below`` and less than ``above``; whole where float64 has no such numbers."""
    if below.dtype.kind in "iu" and len(below) and max(-int(below[0]), int(above[-1])) >= _EXACT:
        apart = above.astype(np.uint64) - below.astype(np.uint64)  # which int64 may not hold
        return np.asarray(below + (apart // 2).astype(below.dtype))
    low, high = below.astype(np.float64), above.astype(np.float64)
    middle = low / 2 + high / 2
    return np.where((low <= middle) & (middle < high), middle, low)
