"""The letters around a letter as one key: of those nearest to it, as many as were seen together often enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.hashing import hash32

__all__ = ["INTERVALS", "ORDERS", "REACH", "Contexts", "seen_contexts"]

REACH = 3
"""Letters around the one in the middle that a key may depend on."""

_WHOLE = (1 << 32) - 1  # of a hash
_SPREAD = np.uint32(2654435769)  # 2^32 / φ: hash32 hardly mixes numbers that are as small as the codes of letters


def _orders() -> tuple[tuple[tuple[int, int], ...], ...]:
    """All ways to take one letter after the other, each before or after those there are."""
    orders = []
    for steps in product((0, 1), repeat=REACH):
        after = np.cumsum(steps).tolist()
        orders.append(tuple((taken - right, right) for taken, right in enumerate(after, start=1)))
    return tuple(orders)


ORDERS = _orders()
"""How contexts grow: pairs of how many letters before and after the middle are taken, a letter more each time."""

INTERVALS = tuple(sorted({interval for order in ORDERS for interval in order}))
"""All such pairs."""


@dataclass(frozen=True, eq=False)
class Contexts:
    """Which letters were often seen side by side.

    Attributes:
        known: for each of ``INTERVALS`` the hashes of the letters in it, ascending uint32.

    Raises ``InvalidValueError`` for another number of them.
    """

    known: tuple[NDArray[np.uint32], ...]

    def __post_init__(self) -> None:
        if len(self.known) != len(INTERVALS):
            raise InvalidValueError(f"known contexts of {len(self.known)} intervals; there are {len(INTERVALS)}")

    def keys(self, windows: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """A key for each row and each of ``ORDERS``: the hash of the longest context in this order that is known.

        Args:
            windows: codes of letters, uint32 (rows, width), the middle one is always part of the key.

        Returns:
            uint32 (rows, orders). Raises ``InvalidValueError`` for windows that are too narrow. O(rows · log known).

        >>> windows = np.array([[0, 0, 0, 5, 6, 0, 0], [0, 0, 0, 5, 7, 0, 0], [0, 0, 0, 5, 8, 0, 0]], np.uint32)
        >>> keys = seen_contexts(windows[[0, 0, 1]], least=2).keys(windows)  # 7 and 8 were seen too rarely
        >>> bool((keys[0, 1:] != keys[1, 1:]).all()), bool((keys[1] == keys[2]).all())
        (True, True)
        """
        found = {
            interval: (hashed, np.isin(hashed, known))
            for interval, known in zip(INTERVALS, self.known, strict=True)
            for hashed in [_hashes(windows, interval)]
        }
        keys = np.repeat(_hashes(windows, (0, 0))[:, None], len(ORDERS), axis=1)
        for column, order in enumerate(ORDERS):
            for interval in order:
                hashed, known = found[interval]
                keys[known, column] = hashed[known]
        return keys


def seen_contexts(windows: NDArray[np.uint32], least: int) -> Contexts:
    """The contexts that rows have at least so many times.

    A key that is rare says nothing for other words, and a hashtron answers at random what it was never asked; so keys
    go back to fewer letters where more were seen too rarely.

    Args:
        windows: codes of letters, uint32 (rows, width), of the words to train on.
        least: at least 1.

    Returns:
        The contexts. Raises ``InvalidValueError`` for another ``least`` or windows that are too narrow. O(n log n).

    >>> seen_contexts(np.array([[0, 0, 0, 5, 6, 0, 0]] * 3, np.uint32), least=3).known[0].shape
    (1,)
    """
    if least < 1:
        raise InvalidValueError(f"least is {least}; a context is known that was seen 1 time or more often")
    known = []
    for interval in INTERVALS:
        hashed, counts = np.unique(_hashes(windows, interval), return_counts=True)
        known.append(hashed[counts >= least])
    return Contexts(tuple(known))


def _hashes(windows: NDArray[np.uint32], interval: Sequence[int]) -> NDArray[np.uint32]:
    """One number for the letters from so many before the middle to so many after it, and for which these are."""
    middle, (before, after) = windows.shape[1] // 2, interval
    if middle < REACH:
        raise InvalidValueError(f"windows of {windows.shape[1]} letters; contexts take {2 * REACH + 1} at least")
    value = np.full(len(windows), before * (REACH + 1) + after, np.uint32)
    for column in range(middle - before, middle + after + 1):
        value = hash32(value, windows[:, column] * _SPREAD, _WHOLE)
    return value
