"""What is kept of a history that would grow without end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.columns import Columns
from tithe.hashtron.backward.records import ROW

__all__ = ["Retention"]


@dataclass(frozen=True, slots=True)
class Retention:
    """A pruning policy; a record goes if any part of it says so, ``None`` leaves a part out.

    Attributes:
        last: so many of each neuron's latest records are kept.
        seconds: records older than that go.
        bytes: records are kept to at most that many bytes, at 64 a record. The oldest go first, but each neuron's
            latest only after all others.

    Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what cannot be.

    >>> Retention(last=3).last
    3
    """

    last: int | None = None
    seconds: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if not all(value is None or type(value) is int for value in (self.last, self.bytes)):
            raise InvalidDTypeError(f"{self}: last and bytes must be integers")
        if any(value is not None and not value >= 0 for value in (self.last, self.seconds, self.bytes)):
            raise InvalidValueError(f"{self}: last, seconds and bytes must not be negative")

    def kept(self, columns: Columns, now: float) -> NDArray[np.bool_]:
        """Which records of a table stay.

        Args:
            columns: the table, older records first.
            now: seconds since 1970, to which ages are measured.

        Returns:
            (n,). O(n log n).

        >>> columns = Columns()
        >>> columns.extend(np.zeros(3, ROW))
        >>> Retention(last=2).kept(columns, now=0.0).tolist()
        [False, True, True]
        """
        kept = np.ones(len(columns), np.bool_)
        if self.seconds is not None:
            kept &= now - columns["time"].values <= self.seconds
        if self.last is not None:
            kept &= _rank(columns, kept) < self.last
        if self.bytes is not None:
            left = np.flatnonzero(kept)
            superseded = _rank(columns, kept)[left] > 0
            dropped = max(0, len(left) - self.bytes // ROW.itemsize)
            kept[left[np.argsort(~superseded, kind="stable")[:dropped]]] = False
        return kept


def _rank(columns: Columns, among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many later records there are of the same neuron, among some; −1 for the others."""
    rows = np.flatnonzero(among)
    keys = columns["layer"].values[rows].astype(np.int64) << 32 | columns["position"].values[rows]
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.concatenate([keys[order[1:]] != keys[order[:-1]], [True]])) if len(rows) else rows
    counts = np.diff(ends, prepend=-1)
    ranks = np.full(len(columns), -1, np.int64)
    ranks[rows[order]] = np.repeat(ends, counts) - np.arange(len(rows))
    return ranks
