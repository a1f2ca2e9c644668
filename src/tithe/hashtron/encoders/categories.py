"""Columns of categories: a bit for each of a few, or a code of 32 bits for each of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.encoders.byte_runs import codes
from tithe.hashtron.encoders.checks import fields, number, truth, wholes
from tithe.hashtron.encoders.values import Name, Values

__all__ = ["Categories", "Codes", "fit_categories"]

_MOST, _LONGEST = 32, 64  # categories that get a bit each; bytes of their names; what is beyond is coded
_CODE = 32
_NUMBER, _END, _PLACE = 8, 1, 1  # bytes to keep a number, the end of a name, a place in a code or a flag


@dataclass(frozen=True)
class Categories:
    """A category is one bit. One that was not seen at fitting has no bit set.

    Attributes:
        names: of the categories, the most frequent first.
        absent: whether missing values are one more category.
    """

    names: tuple[Name, ...]
    absent: bool = False
    kind: ClassVar[str] = "categories"

    @property
    def length(self) -> int:
        """Bits."""
        return len(self.names) + self.absent

    def costs(self) -> NDArray[np.int64]:
        """Bytes to keep each bit, (``length``,)."""
        return np.array([_bytes(name) for name in self.names] + [_PLACE] * self.absent, np.int64)

    def keep(self, bits: NDArray[np.bool_]) -> Categories:
        """With these bits only."""
        names = tuple(name for name, kept in zip(self.names, bits.tolist(), strict=False) if kept)
        return Categories(names, self.absent and bool(bits[-1]))

    def bits(self, values: Values) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        place: dict[Name | None, int] = {name: number for number, name in enumerate(self.names)}
        places = np.array([place.get(name, len(place)) for name in values.names()], np.int64)
        out = np.eye(len(place) + 1, len(place), dtype=np.bool_)[places]  # the last line is that of none
        return np.column_stack((out, values.absent)) if self.absent else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        return [f"is {name!r}" for name in self.names] + ["is missing"] * self.absent

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Categories:
        """What ``asdict`` gave; ``TypeError`` or ``ValueError`` for what it did not."""
        names, absent = fields(data, "names", "absent")
        if not isinstance(names, list) or len(names) > _MOST:
            raise ValueError(f"names of categories are no list of at most {_MOST}")
        known = tuple(name if isinstance(name, str) else number(name, "a category") for name in names)
        return cls(known, truth(absent, "absent"))


@dataclass(frozen=True)
class Codes:
    """A category is a code of 32 bits, the hash of its name: nothing is kept of the names, however many there are.

    Attributes:
        places: those bits of the code that are made.
        absent: whether there is one more bit, for missing values, whose code is 0.
    """

    places: tuple[int, ...] = tuple(range(_CODE))
    absent: bool = False
    kind: ClassVar[str] = "codes"

    @property
    def length(self) -> int:
        """Bits."""
        return len(self.places) + self.absent

    def costs(self) -> NDArray[np.int64]:
        """Bytes to keep each bit, (``length``,)."""
        return np.full(self.length, _PLACE, np.int64)

    def keep(self, bits: NDArray[np.bool_]) -> Codes:
        """With these bits only."""
        places = tuple(place for place, kept in zip(self.places, bits.tolist(), strict=False) if kept)
        return Codes(places, self.absent and bool(bits[-1]))

    def bits(self, values: Values) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        places = np.array(self.places, np.uint32)
        out = (codes(values.encoded())[:, None] >> places & 1).astype(np.bool_) & ~values.absent[:, None]
        return np.column_stack((out, values.absent)) if self.absent else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        return [f"code bit {place}" for place in self.places] + ["is missing"] * self.absent

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Codes:
        """What ``asdict`` gave; ``TypeError`` or ``ValueError`` for what it did not."""
        places, absent = fields(data, "places", "absent")
        return cls(wholes(places, "places", 0, _CODE - 1), truth(absent, "absent"))


def fit_categories(values: Values, weight: NDArray[np.floating]) -> Categories | Codes:
    """The categories that occur; none where it is one; ``Codes`` where they are more than 32, or their names long."""
    numbers: dict[Name | None, int] = {}
    found = np.array([numbers.setdefault(name, len(numbers)) for name in values.names()], np.int64)
    totals = dict(zip(numbers, np.bincount(found, weight).tolist(), strict=True))
    absent = totals.pop(None, None) is not None
    if len(totals) + absent <= 1:
        return Categories(())
    try:
        long = any(_bytes(name) > _LONGEST for name in totals if name is not None)
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"{values.label} holds a text that is not Unicode ({error}): repair it") from error
    if len(totals) > _MOST or long:
        return Codes(absent=absent)
    known = sorted(totals, key=lambda name: (-round(totals[name], 6), str(type(name)), name))
    return Categories(tuple(known), absent)  # type: ignore[arg-type]  # None is gone


def _bytes(name: Name) -> int:
    return len(name.encode()) + _END if isinstance(name, str) else _NUMBER
