"""The state of a sum cache: records in columns, and the index over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.columns import Column, Columns
from tithe.hashtron.backward.margin import TAU
from tithe.hashtron.backward.neuron_index import NeuronIndex
from tithe.hashtron.backward.records import Rows
from tithe.hashtron.backward.staleness import StaleRule

__all__ = ["CHUNK", "Sum", "SumTable"]

Sum = Literal["votes", "outputs"]
_SUMS = get_args(Sum)

CHUNK = 1 << 14  # records that are handled at once, so that memory is taken for these twice and not for all


class SumTable:
    """Records in the order in which they came, and where those of each neuron are.

    Args:
        tau: τ, the upper edge of the gold zone as a margin.

    >>> from tithe.hashtron.backward.records import Record, as_rows
    >>> table = SumTable()
    >>> table.extend(as_rows([Record(0, 7, 1, 0.0, votes=30, outputs=0, samples=99, pivotal=60)]))
    >>> table.mark(StaleRule(before=2)), table.index.gold().tolist()
    (1, [])
    """

    def __init__(self, tau: float = TAU) -> None:
        self.tau = tau
        self._columns, self._index = Columns(), NeuronIndex(tau)
        self._changing = False

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def columns(self) -> Columns:
        """The records. O(1), as everything here, but O(n log n) after a change that was interrupted."""
        if self._changing:
            self._mend()
        return self._columns

    @property
    def index(self) -> NeuronIndex:
        """Where they are."""
        if self._changing:
            self._mend()
        return self._index

    @property
    def nbytes(self) -> int:
        """Bytes of memory. O(layers)."""
        return self.columns.nbytes + self.index.nbytes

    def sums(self, of: Sum) -> Column:
        """The column of either sum. Raises ``InvalidValueError`` for another. O(1)."""
        if of not in _SUMS:
            raise InvalidValueError(f"of is {of!r}; {' or '.join(_SUMS)} is expected")
        return self.columns[of]

    def chunks(self, first: int = 0) -> Iterator[Rows]:
        """Copies of all records from a row on, some at a time. O(number of them)."""
        for start in range(first, len(self), CHUNK):
            yield self.columns.rows(slice(start, start + CHUNK))

    def extend(self, rows: Rows) -> None:
        """Add records that have been checked. O(n log n) for n of them."""
        columns, index = self.columns, self.index
        self._changing = True
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            columns.extend(part)
            index.extend(len(columns) - len(part), part)
        self._changing = False

    def mark(self, rule: StaleRule) -> int:
        """Mark records as stale. Returns how many were not before. O(n)."""
        columns, index = self.columns, self.index
        stale = columns["stale"].values
        marked = rule.holds(columns) & ~stale
        self._changing = True
        stale |= marked
        index.refresh(columns.rows(index.latest_rows()))
        self._changing = False
        return int(marked.sum())

    def kept(self, mask: NDArray[np.bool_]) -> SumTable:
        """A table of the records where the mask, (n,), is true. O(n log n)."""
        table = SumTable(self.tau)
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            table.extend(self.columns.rows(part)[mask[part]])
        return table

    def history(self, layer: int, position: int) -> Iterator[int]:
        """The rows of a neuron's records, the latest first. O(1) each."""
        row = self.index.latest(layer, position)
        while row >= 0:
            yield row
            row = self.index.previous(row)

    def _mend(self) -> None:
        """A change was interrupted (Ctrl-C, say): the records that are whole stay, and the index is made anew."""
        self._columns.mend()
        index = NeuronIndex(self.tau)
        for start in range(0, len(self), CHUNK):
            index.extend(start, self._columns.rows(slice(start, start + CHUNK)))
        self._index, self._changing = index, False
