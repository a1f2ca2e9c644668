"""The kinds of columns, and how the values of each become bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.encoders.values import Name, missing, names, numbers
from tithe.hashtron.hashing import hash32

__all__ = ["Categories", "Column", "Numbers", "Text", "column_from_dict"]

_ONE_HOT = 32  # categories that get a bit each; where there are more, they share _CODE bits
_CODE = 32
_SALT, _ALL = 0x9E3779B9, (1 << 32) - 1
_MOST = 4096  # categories that are kept: the most frequent ones
_NUMBER, _PLACE = 8, 4  # bytes to keep a level, a place


@dataclass(frozen=True)
class Numbers:
    """A number is its thermometer: bit k says whether it is larger than level k.

    Attributes:
        levels: ascending, each half-way between two values that occurred.
        absent: whether there is one more bit, for missing values; below all levels they are in either case.
    """

    levels: tuple[float, ...]
    absent: bool = False
    kind: ClassVar[str] = "numbers"

    @classmethod
    def fit(cls, column: NDArray[Any], most: int, label: str) -> Numbers:
        """Levels at quantiles, at most ``most``; between all values where they are so few, none where it is one."""
        values = numbers(column, label)
        there = values[~np.isnan(values)]
        distinct = np.unique(there)
        below = distinct[:-1]
        if len(below) > most:
            quantiles = np.quantile(there, np.arange(1, most + 1) / (most + 1), method="lower")
            below = np.unique(quantiles[quantiles < distinct[-1]])
        above = distinct[np.searchsorted(distinct, below, side="right")] if len(below) else below
        return cls(tuple((below / 2 + above / 2).tolist()), len(there) < len(values))

    @property
    def length(self) -> int:
        """Bits."""
        return len(self.levels) + self.absent

    @property
    def bytes(self) -> int:
        """What has to be kept."""
        return _NUMBER * len(self.levels)

    def bits(self, column: NDArray[Any], label: str) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        values = numbers(column, label)
        with np.errstate(invalid="ignore"):
            out = values[:, None] > np.array(self.levels)
        return np.column_stack((out, np.isnan(values))) if self.absent else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        return [f"> {level:g}" for level in self.levels] + ["is missing"] * self.absent


@dataclass(frozen=True)
class Categories:
    """A category is one bit; or, where there are more than 32, a code of 32 bits, each set for half of them.

    A category that was not seen at fitting, or is none of the 4096 most frequent ones, has no bit set.

    Attributes:
        names: of the categories, the most frequent first.
        absent: whether missing values are one more category.
    """

    names: tuple[Name, ...]
    absent: bool = False
    kind: ClassVar[str] = "categories"

    @classmethod
    def fit(cls, column: NDArray[Any], label: str) -> Categories:
        """The categories that occur; none where it is one."""
        counts = Counter(names(column, label))
        absent = counts.pop(None, 0) > 0
        known = sorted(counts, key=lambda name: (-counts[name], str(type(name)), name))[:_MOST]
        return cls(tuple(known) if len(known) + absent > 1 else (), absent)  # type: ignore[arg-type]  # None is gone

    @property
    def length(self) -> int:
        """Bits."""
        if not self.names:
            return 0
        return min(len(self.names), _CODE) + self.absent

    @property
    def bytes(self) -> int:
        """What has to be kept."""
        return sum(len(name.encode()) + 1 if isinstance(name, str) else _NUMBER for name in self.names)

    def bits(self, column: NDArray[Any], label: str) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        place: dict[Name | None, int] = {name: number for number, name in enumerate(self.names)}
        places = np.array([place.get(name, -1) for name in names(column, label)], np.int64)
        out = self._codes()[places]  # the last code is that of none
        return np.column_stack((out, missing(column))) if self.absent and self.names else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        if not self.names:
            return []
        coded = len(self.names) > _ONE_HOT
        said = [f"code bit {i}" for i in range(_CODE)] if coded else [f"is {name!r}" for name in self.names]
        return said + ["is missing"] * self.absent

    def _codes(self) -> NDArray[np.bool_]:
        count = len(self.names)
        if count <= _ONE_HOT:
            codes = np.eye(count, dtype=np.bool_)
        else:
            once = hash32(np.arange(count), _SALT, _ALL)
            codes = (hash32(once, _SALT, _ALL)[:, None] >> np.arange(_CODE) & 1).astype(np.bool_)
        return np.vstack((codes, np.zeros((1, codes.shape[1]), np.bool_)))


@dataclass(frozen=True)
class Text:
    """A text is the set of its runs of one to three bytes (UTF-8, with a zero byte at both ends), each hashed to a bit.

    Attributes:
        buckets: to how many bits they are hashed.
        places: those of them that are not the same for all texts.
        absent: whether there is one more bit, for missing values.
    """

    buckets: int
    places: tuple[int, ...]
    absent: bool = False
    kind: ClassVar[str] = "text"

    @classmethod
    def fit(cls, column: NDArray[Any], buckets: int, label: str) -> Text:
        """The bits that differ between texts."""
        seen = _runs(column, buckets, label)
        varied = np.flatnonzero(seen.any(0) & ~seen.all(0))
        return cls(buckets, tuple(varied.tolist()), bool(missing(column).any()))

    @property
    def length(self) -> int:
        """Bits."""
        return len(self.places) + self.absent

    @property
    def bytes(self) -> int:
        """What has to be kept."""
        return _PLACE * len(self.places)

    def bits(self, column: NDArray[Any], label: str) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        out = _runs(column, self.buckets, label)[:, list(self.places)]
        return np.column_stack((out, missing(column))) if self.absent else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        return [f"has a byte run of bucket {place}" for place in self.places] + ["is missing"] * self.absent


def _runs(column: NDArray[Any], buckets: int, label: str) -> NDArray[np.bool_]:
    out = np.zeros((len(column), buckets), np.bool_)
    for row, name in zip(out, names(column, label), strict=True):
        if name is None:
            continue
        read = np.frombuffer(b"\0" + str(name).encode() + b"\0", np.uint8)
        value = np.zeros(len(read), np.uint32)
        for start in range(min(3, len(read))):
            value = hash32(value[: len(read) - start], read[start:], _ALL)
            row[value % buckets] = True
    return out


Column: TypeAlias = Numbers | Categories | Text
_KINDS: dict[str, Any] = {cls.kind: cls for cls in (Numbers, Categories, Text)}


def column_to_dict(column: Column) -> dict[str, Any]:
    """A column as plain JSON types."""
    return {"kind": column.kind, **asdict(column)}


def column_from_dict(data: Mapping[str, Any]) -> Column:
    """The column that ``column_to_dict`` wrote."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "kind"}
    column: Column = _KINDS[data["kind"]](**fields)
    return column
