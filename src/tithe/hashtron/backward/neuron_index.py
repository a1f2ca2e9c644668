"""Where the records of each neuron are, and which neurons are in the gold zone, kept up to date at every record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.backward.columns import Column
from tithe.hashtron.backward.margin import TAU, in_gold_zone, population
from tithe.hashtron.backward.records import Rows

__all__ = ["NeuronIndex"]

_NONE = -1


class _Layer:
    """Of each position of a layer: the row of its latest record, and whether that is in the gold zone and not stale."""

    def __init__(self) -> None:
        self.latest = np.empty(0, np.int32)
        self.gold = np.empty(0, np.bool_)

    def reach(self, position: int) -> None:
        if position >= len(self.latest):
            size = max(position + 1, len(self.latest) * 2)
            latest, gold = np.full(size, _NONE, np.int32), np.zeros(size, np.bool_)
            latest[: len(self.latest)], gold[: len(self.gold)] = self.latest, self.gold
            self.latest, self.gold = latest, gold


class NeuronIndex:
    """An index of the rows of a table by neuron.

    Args:
        tau: τ, the upper edge of the gold zone as a margin.

    >>> from tithe.hashtron.backward.records import Record, as_rows
    >>> index = NeuronIndex()
    >>> index.extend(0, as_rows([Record(0, 7, 1, 0.0, votes=30, outputs=0, samples=99, pivotal=60)]))
    >>> index.latest(0, 7), index.latest(0, 8), index.gold().tolist()
    (0, -1, [[0, 7]])
    """

    def __init__(self, tau: float = TAU) -> None:
        self._tau = tau
        self._layers: dict[int, _Layer] = {}
        self._previous = Column(np.int32)  # of each row: the row of the same neuron's record before it

    @property
    def nbytes(self) -> int:
        """Bytes of memory. O(layers)."""
        return self._previous.nbytes + sum(part.latest.nbytes + part.gold.nbytes for part in self._layers.values())

    def latest(self, layer: int, position: int) -> int:
        """The row of the neuron's latest record, −1 where there is none. O(1)."""
        part = self._layers.get(layer)
        return part.latest.item(position) if part is not None and 0 <= position < len(part.latest) else _NONE

    def previous(self, row: int) -> int:
        """The row of the same neuron's record before this one, −1 where there is none. O(1)."""
        before: int = self._previous.item(row)
        return before

    def latest_rows(self, layer: int | None = None) -> NDArray[np.int32]:
        """The rows of the latest records of all neurons, by layer and position. O(neurons)."""
        parts = [self._layers[number].latest for number in self._chosen(layer)]
        return np.concatenate([part[part >= 0] for part in parts] or [np.empty(0, np.int32)])

    def gold(self, layer: int | None = None) -> NDArray[np.int64]:
        """Layer and position, (k, 2), of the neurons in the gold zone, in order. O(neurons), a byte each."""
        found = []
        for number in self._chosen(layer):
            positions = np.flatnonzero(self._layers[number].gold)
            pairs = np.empty((len(positions), 2), np.int64)
            pairs[:, 0], pairs[:, 1] = number, positions
            found.append(pairs)
        return found[0] if len(found) == 1 else np.concatenate([np.empty((0, 2), np.int64), *found])

    def extend(self, first: int, rows: Rows) -> None:
        """Take in the records of a table from row ``first`` on, where the index ends. O(n log n) for n of them."""
        if not len(rows):
            return
        layers, positions = rows["layer"], rows["position"]
        keys = layers.astype(np.int64) << 32 | positions
        order = np.argsort(keys, kind="stable")
        starts = np.concatenate([[True], keys[order[1:]] != keys[order[:-1]]])
        heads, tails = order[starts], order[np.concatenate([starts[1:], [True]])]  # of each neuron, in the same order
        previous = np.empty(len(rows), np.int32)
        previous[order[1:]] = first + order[:-1]
        gold = self._is_gold(rows)
        for number in np.unique(layers).tolist():
            here = layers[heads] == number
            where = positions[heads[here]]
            part = self._layers.setdefault(number, _Layer())
            part.reach(int(where.max()))
            previous[heads[here]] = part.latest[where]
            part.latest[where] = first + tails[here]
            part.gold[where] = gold[tails[here]]
        self._previous.put(first, previous)

    def refresh(self, rows: Rows) -> None:
        """Note which of the neurons' latest records, given as ``latest_rows`` orders them, are in the gold zone."""
        for number, part in self._layers.items():
            of_layer = rows[rows["layer"] == number]
            part.gold[of_layer["position"]] = self._is_gold(of_layer)

    def _is_gold(self, rows: Rows) -> NDArray[np.bool_]:
        votes = population(rows["samples"], rows["pivotal"], rows["final"])
        gold: NDArray[np.bool_] = in_gold_zone(rows["votes"], votes, self._tau) & ~rows["stale"]
        return gold

    def _chosen(self, layer: int | None) -> list[int]:
        if layer is None:
            return sorted(self._layers)
        return [layer] if layer in self._layers else []
