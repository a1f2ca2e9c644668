"""The sum cache: what every training of every neuron gave, in memory, and on the disk should that be lost."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.hashtron.backward.cache_files import CacheFiles
from tithe.hashtron.backward.distribution import LayerMargins, layer_margins, row_margins
from tithe.hashtron.backward.margin import TAU, gold_zone
from tithe.hashtron.backward.records import Record, Rows, as_rows
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.backward.staleness import StaleRule
from tithe.hashtron.backward.sum_table import Sum, SumTable
from tithe.hashtron.backward.trend import WEIGHTS, Trend, of_last_runs, trend, weighted_average

__all__ = ["SumCache"]


class SumCache:
    """The history of all neurons' sums; answers from memory, and survives the death of its process.

    Records go to the journal ``batch`` at a time, or at ``sync``: what was synced survives ``kill -9`` and the loss
    of power, of the rest at most one batch is lost. ``snapshot`` writes all records to a file and begins a new
    journal; the snapshot before stays as a backup with its journal, so that a damaged one loses nothing. A file that
    is damaged is never believed: opening goes back to the last state that is whole, says so by a ``RuntimeWarning``
    and ``recovered``, and keeps the file under the name ``….damaged``. An interruption at any moment (Ctrl-C) leaves
    records whole and answers right. Not for use by several threads at once.

    Args:
        path: a folder, made where there is none; ``None`` for a cache in memory only.
        batch: records that go to the journal together.
        tau: τ, the margin from which on a neuron counts as collapsed.

    Attributes:
        path: the folder, or ``None``.
        recovered: what was found wrong when it was opened, in words; empty if nothing was.

    Raises ``CorruptFileError`` where the folder has files of these names that are foreign, newer, or all damaged, and
    leaves them as they are; ``InvalidStateError`` where the cache is open elsewhere; ``InvalidValueError`` for
    arguments that cannot be; ``OSError`` as the file system does. Source: MISSION H2, H10, H11.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with SumCache(folder) as cache:
    ...     cache.append(Record(layer=0, position=7, run=1, time=0.0, votes=30, outputs=0, samples=99, pivotal=60))
    >>> with SumCache(folder) as cache:
    ...     cache.latest_sum(0, 7), cache.gold_zone().tolist()
    (30, [[0, 7]])
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, batch: int = 32, tau: float = TAU) -> None:
        if type(batch) is not int or batch < 1:
            raise InvalidValueError(f"batch is {batch!r}; a positive integer is expected")
        gold_zone(1, tau)  # refuses a tau that cannot be
        self.path = None if path is None else Path(path).absolute()
        self._batch, self._tau, self._closed = batch, tau, False
        self._files = None if self.path is None else CacheFiles(self.path, tau)
        # The records, and how many were dropped: replaced as one, so that no interruption parts them.
        self._kept = (SumTable(tau) if self._files is None else self._files.table, 0)
        self.recovered = "" if self._files is None else self._files.recovered
        if self.recovered:
            warnings.warn(f"the sum cache in {self.path} was recovered: {self.recovered}", RuntimeWarning, stacklevel=2)

    def __enter__(self) -> SumCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that records and index take. O(layers)."""
        return self._table.nbytes

    def append(self, record: Record) -> None:
        """Add one record, the latest of its neuron from now on.

        Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what cannot be, ``InvalidStateError`` when closed,
        ``OSError`` if a batch cannot be written: it stays, and is tried again with the next one. Amortised O(1).
        """
        self.extend([record])

    def extend(self, records: Sequence[Record] | Rows) -> None:
        """Add many records, in order; an array of dtype ``ROW`` is quickest. Raises as ``append`` does. O(k log k)."""
        self._check_open()
        self._table.extend(as_rows(records))
        if self._files is not None and len(self) - self._synced() >= self._batch:
            self.sync()

    def sync(self) -> None:
        """Write what has not been written yet to the journal and wait for the disk. Raises ``OSError``. O(it)."""
        self._check_open()
        if self._files is not None:
            for rows in self._table.chunks(self._synced()):
                self._files.write("rows", rows.tobytes(), len(rows))

    def snapshot(self) -> None:
        """Write all records to a new snapshot, so that opening need not replay the journal.

        Raises ``InvalidStateError`` in memory only or when closed, ``OSError``; nothing is lost then. O(n).
        """
        self.sync()
        if self._files is None:
            raise InvalidStateError("this sum cache is in memory only; give SumCache a folder")
        self._files.snapshot(self._table)

    def close(self) -> None:
        """Sync, and let others write; queries still answer. Closing twice does nothing."""
        if self._closed:
            return
        try:
            self.sync()
        finally:
            self._closed = True
            if self._files is not None:
                self._files.close()

    def records(self) -> Rows:
        """A copy of all records, in the order in which they came, of dtype ``ROW``. O(n)."""
        return self._table.columns.rows(slice(None))

    def latest_sum(self, layer: int, position: int, of: Sum = "votes") -> int | None:
        """The latest sum of a neuron, stale or not.

        Args:
            layer: number of its layer.
            position: its number in the layer.
            of: ``"votes"`` or ``"outputs"``.

        Returns:
            S, or ``None`` where the neuron has no record. O(1).
        """
        row, sums = self._table.index.latest(layer, position), self._table.sums(of)
        return sums.item(row) if row >= 0 else None

    def latest(self, layer: int | None = None) -> Rows:
        """The latest record of each neuron, of one layer or all, by layer and position. O(neurons)."""
        return self._table.columns.rows(self._table.index.latest_rows(layer))

    def gold_zone(self, layer: int | None = None) -> NDArray[np.int64]:
        """The neurons whose latest record is in the gold zone and not stale.

        Returns:
            Layer and position, (k, 2), in order, of one layer or all. O(neurons), at a byte each. Source: MISSION H4.
        """
        return self._table.index.gold(layer)

    def margins(self, layer: int | None = None, *, bins: int = 10) -> list[LayerMargins]:
        """How the latest margins are spread, layer by layer; see :class:`LayerMargins`. O(neurons)."""
        return layer_margins(self.latest(layer), self._tau, bins)

    def history(self, layer: int, position: int, runs: int | None = None) -> Rows:
        """The records of a neuron, the earliest first.

        Args:
            layer: number of its layer.
            position: its number in the layer.
            runs: only of the last so many runs in which the neuron was trained.

        Returns:
            Records of dtype ``ROW``; none where there are none. O(records of the neuron).
        """
        rows = np.fromiter(self._table.history(layer, position), np.int64)[::-1]
        found = self._table.columns.rows(rows)
        return found[of_last_runs(found["run"], runs)]

    def trend(self, layer: int, position: int, runs: int | None = None) -> Trend:
        """The slope of a neuron's margin per run, with its standard error; arguments as of ``history``. O(it)."""
        found = self.history(layer, position, runs)
        return trend(found["run"], row_margins(found))

    def average_sum(
        self, layer: int, position: int, of: Sum = "votes", weights: Sequence[float] = WEIGHTS
    ) -> float | None:
        """The weighted average of a neuron's latest sums that are not stale.

        Args:
            layer: number of its layer.
            position: its number in the layer.
            of: ``"votes"`` or ``"outputs"``.
            weights: of the latest, the one before it, and so on; see :func:`weighted_average` for the default.

        Returns:
            The average, ``None`` where the neuron has no record that is not stale. O(records of the neuron).
        """
        sums, stale = self._table.sums(of), self._table.columns["stale"]
        fresh = (row for row in self._table.history(layer, position) if not stale.item(row))
        return weighted_average([sums.item(row) for row in islice(fresh, len(weights))], weights)

    def mark_stale(self, *, data: int | None = None, runs: int | None = None) -> int:
        """Mark records that can no longer be relied on; the marks are kept like records.

        Args:
            data: fingerprint of the data set as it is now: records of any other are marked.
            runs: records of all but the so many latest numbers of runs are marked.

        Returns:
            How many were not marked before. Raises as ``append`` does. O(n).
        """
        self._check_open()
        rule = StaleRule.of(self._table.columns, data, runs)
        if self._files is not None:
            self.sync()
            self._files.write("mark", rule.pack())
        return self._table.mark(rule)

    def prune(self, retention: Retention, *, now: float | None = None) -> int:
        """Drop old records, from the files too (the backup keeps them until the next snapshot).

        Args:
            retention: what is kept.
            now: seconds since 1970 to which ages are measured; by default the clock's.

        Returns:
            How many were dropped. Raises as ``snapshot`` does; the files are as before then. O(n log n).
        """
        self._check_open()
        kept = retention.kept(self._table.columns, time.time() if now is None else now)
        dropped = len(kept) - int(kept.sum())
        if dropped:
            self.sync()
            self._kept = (self._table.kept(kept), self._kept[1] + dropped)
            if self._files is not None:
                self.snapshot()
        return dropped

    @property
    def _table(self) -> SumTable:
        return self._kept[0]

    def _synced(self) -> int:
        """How many of the records are in the files."""
        return len(self) if self._files is None else self._files.rows - self._kept[1]

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidStateError("this sum cache has been closed; open it again")
