"""A layer of one-bit hash neurons, one for each tuple of input bits and class: what it holds and how it votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.kernels import BLOCK, find_cells, vote
from tithe.parallel import run_parts

__all__ = ["Sharing", "Tables", "filled_up"]

_INDEX_BYTES, _SALT_BYTES = 2, 4


class Sharing(NamedTuple):
    """The windows that use one table: ``down`` lines, ``stride`` bits apart, of ``across`` neighbours."""

    down: int = 1
    across: int = 1
    stride: int = 0

    @property
    def places(self) -> int:
        """Windows."""
        return self.down * self.across


@dataclass(frozen=True)
class Tables:
    """For each tuple of bits a table of one bit for each cell and class.

    A tuple's bits, in the order of ``tuples`` (the first is the lowest), make an address; where a table has fewer cells
    than there are addresses, the cell is hash32(address, salt, cells). The bits of all classes vote there, +1 or −1.

    Attributes:
        tuples: places of bits, int32 (T, bits).
        salts: uint32 (T,).
        signs: ±1, int8 (T, cells, classes filled up to a multiple of 16).
        classes: how many there are.
        sharing: windows beside each other that use the same tables.
    """

    tuples: NDArray[np.int32]
    salts: NDArray[np.uint32]
    signs: NDArray[np.int8]
    classes: int
    sharing: Sharing

    @property
    def log_size(self) -> int:
        """Binary logarithm of the number of cells."""
        cells: int = self.signs.shape[1]
        return cells.bit_length() - 1

    @property
    def bytes(self) -> int:
        """What has to be kept to predict: a bit for each cell and class, two bytes for each place, four for a salt."""
        count, width = self.tuples.shape
        cells: int = count * self.signs.shape[1] * self.classes
        places: int = count * (width * _INDEX_BYTES + _SALT_BYTES)
        return -(-cells // 8) + places

    def cells(self, bits: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """The cells that one block of bits (D, 16) names: (T, windows, 16)."""
        out = np.empty((len(self.tuples), self.sharing.places, BLOCK), np.uint16)
        down, across, stride = self.sharing
        find_cells(bits, self.tuples, self.salts, self.log_size, across, down, stride, 0, len(self.tuples), out)
        return out

    def votes(self, blocks: NDArray[np.uint8], count: int) -> NDArray[np.int32]:
        """Votes (count, classes) for samples in blocks (⌈count/16⌉, D, 16); O(count · T · windows)."""
        total = np.zeros((len(blocks), BLOCK, self.signs.shape[2]), np.int32)
        every = np.empty((0, 0), np.uint8)

        def part(b: int) -> None:
            vote(self.cells(blocks[b]), self.signs, every, 0, len(self.tuples), total[b])

        run_parts(part, len(blocks))
        return total.reshape(-1, self.signs.shape[2])[:count, : self.classes]


def filled_up(count: int, multiple: int) -> int:
    """The least multiple that is not less than ``count``.

    >>> filled_up(10, 16)
    16
    """
    return -(-count // multiple) * multiple
