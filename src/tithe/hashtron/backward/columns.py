"""Columns that grow: records one below the other, each field in an array of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tithe.hashtron.backward.records import ROW, Rows

__all__ = ["Column", "Columns"]

_LEAST = 64  # elements
_SLACK = 8  # an eighth more than needed: few copies, and little memory that lies idle


class Column:
    """An array that grows at its end; elements are added in amortised O(1).

    Args:
        dtype: of its elements.

    >>> column = Column(np.int32)
    >>> column.put(0, np.arange(3))
    >>> column.values.tolist(), column.item(1)
    ([0, 1, 2], 1)
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._buffer: NDArray[Any] = np.empty(0, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def values(self) -> NDArray[Any]:
        """A view of all elements; of no use after the next ``put``. O(1)."""
        return self._buffer[: self._length]

    @property
    def nbytes(self) -> int:
        """Bytes of memory, what lies idle included. O(1)."""
        return self._buffer.nbytes

    def item(self, row: int) -> Any:
        """One element as a Python number; ``row`` is not checked against the length. O(1)."""
        return self._buffer.item(row)

    def put(self, start: int, values: NDArray[Any]) -> None:
        """Set what comes after the first ``start`` elements. O(number of values), amortised."""
        length = start + len(values)
        if length > len(self._buffer):
            larger = np.empty(max(_LEAST, length + length // _SLACK), self._buffer.dtype)
            larger[:start] = self._buffer[:start]
            self._buffer = larger
        self._buffer[start:length] = values
        self._length = length


class Columns:
    """A table of records, a column for each field of ``ROW``.

    >>> columns = Columns()
    >>> columns.extend(np.zeros(2, ROW))
    >>> len(columns), columns["votes"].values.tolist()
    (2, [0, 0])
    """

    def __init__(self) -> None:
        self._columns = {name: Column(ROW[name]) for name in ROW.names or ()}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    @property
    def nbytes(self) -> int:
        """Bytes of memory. O(1)."""
        return sum(column.nbytes for column in self._columns.values())

    def extend(self, rows: Rows) -> None:
        """Add records at the end. O(number of them), amortised."""
        for name, column in self._columns.items():
            column.put(self._length, rows[name])
        self._length += len(rows)  # last: whoever is interrupted has added none

    def rows(self, which: slice | NDArray[Any]) -> Rows:
        """A copy of some records, of dtype ``ROW``. O(number of them)."""
        layers = self._columns["layer"].values[which]
        rows = np.empty(len(layers), ROW)
        for name, column in self._columns.items():
            rows[name] = column.values[which]
        return rows

    def mend(self) -> None:
        """Take away what an interrupted ``extend`` has left. O(1)."""
        for column in self._columns.values():
            column.put(self._length, column.values[:0])
