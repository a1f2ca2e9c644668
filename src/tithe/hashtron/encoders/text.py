"""Columns of texts as sets of byte runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.encoders.byte_runs import runs
from tithe.hashtron.encoders.checks import fields, truth, whole, wholes
from tithe.hashtron.encoders.values import Values

__all__ = ["Text"]

_CHUNK = 4096  # texts whose runs are held at once
_MOST = 4096  # buckets
_PLACE, _FLAG = 4, 1  # bytes to keep a place; to keep that what is missing is marked


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
    def fit(cls, values: Values, buckets: int) -> Text:
        """The bits that differ between texts."""
        encoded = values.encoded()
        some, every = np.zeros(buckets, np.bool_), np.ones(buckets, np.bool_)
        for start in range(0, len(encoded), _CHUNK):
            seen = runs(encoded[start : start + _CHUNK], buckets) & ~values.absent[start : start + _CHUNK, None]
            some |= seen.any(0)
            every &= seen.all(0)
        return cls(buckets, tuple(np.flatnonzero(some & ~every).tolist()), bool(values.absent.any()))

    @property
    def length(self) -> int:
        """Bits."""
        return len(self.places) + self.absent

    def costs(self) -> NDArray[np.int64]:
        """Bytes to keep each bit, (``length``,)."""
        return np.array([_PLACE] * len(self.places) + [_FLAG] * self.absent, np.int64)

    def keep(self, bits: NDArray[np.bool_]) -> Text:
        """With these bits only."""
        places = tuple(place for place, kept in zip(self.places, bits.tolist(), strict=False) if kept)
        return Text(self.buckets, places, self.absent and bool(bits[-1]))

    def bits(self, values: Values) -> NDArray[np.bool_]:
        """Values (n,) as bool (n, ``length``)."""
        out = runs(values.encoded(), self.buckets)[:, list(self.places)] & ~values.absent[:, None]
        return np.column_stack((out, values.absent)) if self.absent else out

    def says(self) -> list[str]:
        """What each bit says of a value."""
        return [f"has a byte run of bucket {place}" for place in self.places] + ["is missing"] * self.absent

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Text:
        """What ``asdict`` gave; ``TypeError`` or ``ValueError`` for what it did not."""
        buckets, places, absent = fields(data, "buckets", "places", "absent")
        buckets = whole(buckets, "buckets", 1, _MOST)
        return cls(buckets, wholes(places, "places", 0, buckets - 1), truth(absent, "absent"))
