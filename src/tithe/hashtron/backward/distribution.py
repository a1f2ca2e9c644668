"""How the margins of a layer's neurons are spread."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.backward.margin import TAU, in_gold_zone, margin, population
from tithe.hashtron.backward.records import Rows

__all__ = ["LayerMargins", "layer_margins", "row_margins"]


class LayerMargins(NamedTuple):
    """Margins of the neurons of one layer, by their latest records.

    Attributes:
        layer: its number.
        neurons: how many have a record.
        stale: of how many that is stale; they are counted in all else but ``gold``.
        gold: how many are in the gold zone and not stale.
        quartiles: least, first quartile, median, third quartile and largest margin.
        counts: how many margins lie in each of equal intervals from 0 to 1.
    """

    layer: int
    neurons: int
    stale: int
    gold: int
    quartiles: tuple[float, ...]
    counts: tuple[int, ...]


def row_margins(rows: Rows) -> NDArray[Any]:
    """The margin |S|/M of each record, float64 (n,). O(n)."""
    margins: NDArray[Any] = margin(rows["votes"], population(rows["samples"], rows["pivotal"], rows["final"]))
    return margins


def layer_margins(rows: Rows, tau: float = TAU, bins: int = 10) -> list[LayerMargins]:
    """The spread of margins in each layer.

    Args:
        rows: one record of each neuron.
        tau: τ, the upper edge of the gold zone as a margin.
        bins: intervals to count in.

    Returns:
        One entry a layer, from the first to the last. O(n log n). Source: MISSION H2, H7.

    >>> from tithe.hashtron.backward.records import Record, as_rows
    >>> [spread] = layer_margins(as_rows([Record(0, 7, 1, 0.0, votes=30, outputs=0, samples=99, pivotal=60)]), bins=4)
    >>> spread.neurons, spread.gold, spread.quartiles[2], spread.counts
    (1, 1, 0.5, (0, 0, 1, 0))
    """
    votes = population(rows["samples"], rows["pivotal"], rows["final"])
    margins, gold = row_margins(rows), in_gold_zone(rows["votes"], votes, tau) & ~rows["stale"]
    found = []
    for layer in np.unique(rows["layer"]).tolist():
        here = rows["layer"] == layer
        counts = np.histogram(margins[here], bins, (0.0, 1.0))[0]
        quartiles = np.quantile(margins[here], (0, 0.25, 0.5, 0.75, 1))
        stale, golden = int(rows["stale"][here].sum()), int(gold[here].sum())
        found.append(
            LayerMargins(layer, int(here.sum()), stale, golden, tuple(quartiles.tolist()), tuple(counts.tolist()))
        )
    return found
