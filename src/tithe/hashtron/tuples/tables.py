"""A layer of one-bit hash neurons, one for each tuple of input bits and class: what it holds and how it votes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.kernels import BLOCK, find_cells, vote
from tithe.parallel import run_parts

__all__ = ["Sharing", "Tables", "filled_up", "tuple_bytes"]

_SALT_BYTES = 4


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
        """What has to be kept to predict: a bit for each cell and class, the places of bits, salts.

        A place takes two bytes, or more where there are more than 65,536 bits; a salt takes four.
        """
        count, width = self.tuples.shape
        length = int(self.tuples.max()) + 1 if count else 0
        each = tuple_bytes(self.signs.shape[1], self.classes, width, length)
        total: int = math.ceil(count * each)
        return total

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


def tuple_bytes(cells: int, classes: int, width: int, length: int) -> float:
    """What one tuple of ``width`` places among ``length`` bits takes, with its table of a bit for each cell and class.

    >>> tuple_bytes(64, 10, 6, 4000), tuple_bytes(64, 10, 6, 70_000)
    (96.0, 102.0)
    """
    return cells * classes / 8 + width * max(2, -(-(length - 1).bit_length() // 8)) + _SALT_BYTES


def filled_up(count: int, multiple: int) -> int:
    """The least multiple that is not less than ``count``.

    >>> filled_up(10, 16)
    16
    """
    return -(-count // multiple) * multiple
