"""Tuple tables as what they are: a layer of hashtrons, each a program of at most one hash and a filter, and a count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.counts import Sum
from tithe.hashtron.filters import Filter
from tithe.hashtron.network import Network
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.topology import Layer, Topology
from tithe.hashtron.tuples.kernels import BLOCK, find_cells
from tithe.hashtron.tuples.tables import Tables

__all__ = ["addresses", "as_network"]


def as_network(tables: Tables) -> Network:
    """A hashtron for each class, tuple and window, class by class; the class whose hashtrons say yes most often wins.

    Windows that share a table share their hashtrons. The network reads what ``addresses`` makes of the same samples
    and answers with the same classes as ``tables``, ties included. O(classes · tuples · (cells + windows)).
    """
    count, cells, _ = tables.signs.shape
    hashed = tables.tuples.shape[1] > tables.log_size
    keys = np.arange(cells)
    neurons = []
    for c in range(tables.classes):
        for t in range(count):
            program = ((int(tables.salts[t]), cells),) if hashed else ()
            neuron = Hashtron(program, Filter.make(keys, tables.signs[t, :, c] > 0))
            neurons += [neuron] * tables.sharing.places
    layer = Layer(len(neurons), combiner=Sum((count * tables.sharing.places, tables.classes)))
    return Network(Topology((layer,), answer="argmax"), neurons)


def addresses(tables: Tables, blocks: NDArray[np.uint8], count: int) -> NDArray[np.uint32]:
    """What the hashtrons of ``as_network`` read: (count, classes · tuples · windows).

    Args:
        tables: what the network was made of.
        blocks: bits of the samples, (⌈count/16⌉, D, 16).
        count: samples.

    O(count · tuples · windows · (bits of a tuple + classes)).
    """
    tuples, width = tables.tuples.shape
    down, across, stride = tables.sharing
    found = np.empty((len(blocks), tuples, tables.sharing.places, BLOCK), np.uint16)
    for block, out in zip(blocks, found, strict=True):  # as many cells as addresses: none is hashed
        find_cells(block, tables.tuples, tables.salts, width, across, down, stride, 0, tuples, out)
    rows = found.reshape(len(blocks), -1, BLOCK).swapaxes(1, 2).reshape(len(blocks) * BLOCK, -1)[:count]
    return np.tile(rows.astype(np.uint32), (1, tables.classes))
