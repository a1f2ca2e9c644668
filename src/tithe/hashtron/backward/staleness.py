"""When a record becomes doubtful: rules that are written down, so that a replay marks the same records."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.columns import Columns

__all__ = ["StaleRule", "fingerprint"]

_PACKED = struct.Struct("<BBQQ")


@dataclass(frozen=True, slots=True)
class StaleRule:
    """Marks all records of other data than these, and all of runs before this one; ``None`` leaves that out.

    Attributes:
        data: a fingerprint.
        before: number of a run.

    >>> StaleRule.unpack(StaleRule(data=7).pack())
    StaleRule(data=7, before=None)
    """

    data: int | None = None
    before: int | None = None

    @staticmethod
    def of(columns: Columns, data: int | None, runs: int | None) -> StaleRule:
        """The rule that marks records of other data, and those of all but the latest so many numbers of runs.

        Raises ``InvalidValueError`` for what is no fingerprint, and fewer than one run. O(n).
        """
        if (data is not None and not 0 <= data < 1 << 64) or (runs is not None and runs < 1):
            raise InvalidValueError(f"data is {data} and runs {runs}; a fingerprint, and at least 1, are expected")
        newest = int(columns["run"].values.max(initial=0))
        return StaleRule(data, None if runs is None else max(0, newest + 1 - runs))

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """Which records of a table it marks, (n,). O(n)."""
        marked = np.zeros(len(columns), np.bool_)
        if self.data is not None:
            marked |= columns["data"].values != np.uint64(self.data)
        if self.before is not None:
            marked |= columns["run"].values < self.before
        return marked

    def pack(self) -> bytes:
        """The rule as bytes. O(1)."""
        return _PACKED.pack(self.data is not None, self.before is not None, self.data or 0, self.before or 0)

    @staticmethod
    def unpack(packed: bytes) -> StaleRule:
        """The rule of :meth:`pack`. Raises ``CorruptFileError`` for other bytes. O(1)."""
        if len(packed) != _PACKED.size or packed[0] > 1 or packed[1] > 1:
            raise CorruptFileError("a stale rule that cannot be")
        by_data, by_run, data, before = _PACKED.unpack(packed)
        return StaleRule(data if by_data else None, before if by_run else None)


def fingerprint(*arrays: NDArray[Any]) -> int:
    """A number that changes when data do: 64 bits of the SHA-256 of dtypes, shapes and values, never 0.

    Args:
        arrays: such as samples and targets, in a fixed order; not of objects.

    Returns:
        From 1 to 2^64 − 1. Raises ``InvalidDTypeError`` for arrays of objects. O(bytes).

    >>> fingerprint(np.arange(3)) == fingerprint(np.arange(3)), fingerprint(np.arange(3)) == fingerprint(np.arange(4))
    (True, False)
    """
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        if array.dtype.hasobject:
            raise InvalidDTypeError("an array of objects has no fingerprint; give numbers, booleans or fixed strings")
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(digest.digest()[:8], "little") or 1
