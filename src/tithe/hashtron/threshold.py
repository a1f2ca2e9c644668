"""A last hashtron that counts: true where enough of the bits that it reads are true, a majority for instance."""

from __future__ import annotations

import numpy as np

from tithe.errors import InvalidValueError
from tithe.hashtron.filters import Filter
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.topology import Topology

__all__ = ["bits_counted", "threshold"]

_MOST_BITS = 16


def bits_counted(topology: Topology) -> int:
    """How many bits the only hashtron of the last layer reads, 1 to 16.

    Raises ``InvalidValueError`` where a count of them cannot be the answer. O(1).

    >>> from tithe.hashtron import Layer
    >>> from tithe.hashtron.combiners import MajorityPool
    >>> bits_counted(Topology((Layer(9, combiner=MajorityPool(3, 1, 3, capwidth=3)), Layer(1))))
    3
    """
    layers = topology.layers
    before = layers[-2].combiner if len(layers) > 1 else None
    bits = 0 if before is None else (before.limit - 1).bit_length()
    last = layers[-1]
    if last.combiner is not None or last.neurons != 1 or last.premodulo or not 0 < bits <= _MOST_BITS:
        raise InvalidValueError(
            f"a majority needs one last hashtron that reads 1 to {_MOST_BITS} bits, no premodulo and no combiner "
            "after it; for more bits end the topology in a layer with a MajorityPool of one block"
        )
    return bits


def threshold(bits: int, least: int) -> Hashtron:
    """The hashtron that is true for keys of so many bits of which ``least`` or more are true. O(2^bits).

    >>> threshold(3, 2).forward(np.arange(8)).tolist()
    [False, False, False, True, False, True, True, True]
    """
    keys = np.arange(1 << bits)
    return Hashtron((), Filter.make(keys, np.bitwise_count(keys) >= least))
