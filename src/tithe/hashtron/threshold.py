"""Last hashtrons that count: true where enough of the bits that they read are true, a majority for instance."""

from __future__ import annotations

import numpy as np

from tithe.errors import InvalidValueError
from tithe.hashtron.filters import Filter
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.topology import Topology

__all__ = ["bits_counted", "majority", "stair", "threshold"]

_MOST_BITS = 16


def bits_counted(topology: Topology) -> int:
    """How many bits the hashtrons of the last layer read, 1 to 16.

    Raises ``InvalidValueError`` where a count of them cannot be the answer. O(1).

    >>> from tithe.hashtron import Layer
    >>> from tithe.hashtron.combiners import MajorityPool
    >>> bits_counted(Topology((Layer(9, combiner=MajorityPool(3, 1, 3, capwidth=3)), Layer(1))))
    3
    """
    layers = topology.layers
    before = layers[-2].combiner if len(layers) > 1 else None
    bits = 0 if before is None else (before.limit - 1).bit_length()
    if layers[-1].combiner is not None or layers[-1].premodulo or not 0 < bits <= _MOST_BITS:
        raise InvalidValueError(
            f"a majority needs last hashtrons that read 1 to {_MOST_BITS} bits, no premodulo and no combiner after "
            "them; for more bits end the topology in a layer with a MajorityPool of one block"
        )
    return bits


def threshold(bits: int, least: int) -> Hashtron:
    """The hashtron that is true for keys of so many bits of which ``least`` or more are true. O(2^bits).

    >>> threshold(3, 2).forward(np.arange(8)).tolist()
    [False, False, False, True, False, True, True, True]
    """
    keys = np.arange(1 << bits)
    return Hashtron((), Filter.make(keys, np.bitwise_count(keys) >= least))


def majority(bits: int) -> int:
    """The least count that is more than half.

    >>> majority(3), majority(4)
    (2, 3)
    """
    return bits // 2 + 1


def stair(least: int, position: int, hashtrons: int, bits: int) -> int:
    """The threshold of one of several last hashtrons: they stand around ``least`` like stairs, 1 apart.

    Where all of them are to say the same, false or true, samples vote as long as one of them is wrong: those, too, that
    are right by less than a margin of half the stairs. O(1).

    >>> [stair(8, position, 4, 15) for position in range(4)]
    [7, 8, 9, 10]
    """
    return min(max(1, least + position - (hashtrons - 1) // 2), bits)
