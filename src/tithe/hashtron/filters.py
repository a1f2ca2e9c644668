"""The quaternary filter: a map from integers to answers that keeps only what the lowest bits get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.kernels import kernels

__all__ = ["Filter"]


@dataclass(frozen=True, slots=True)
class Filter:
    """An immutable map from 64-bit keys to booleans; it answers every key, those it was made from rightly.

    Each cell of two bits says: 0, the answer is the key's lowest bit; 1, false; 2, true; 3, turn the key by one bit
    and look into another cell. Two keys take three cells, so a key costs three bits, whatever its width.

    Attributes:
        cells: four cells a byte, the lowest bits first; an empty filter answers with the key's lowest bit.

    O(len(cells)).

    Source: the Go package neurlang/quaternary.

    >>> filter = Filter.make([314, 123902], [False, True])
    >>> filter[314], filter[123902], filter[np.array([314, 123902])]
    (False, True, array([False,  True]))
    >>> Filter.from_hex(filter.hex()) == filter
    True
    """

    cells: bytes = b""

    @classmethod
    def from_hex(cls, text: str) -> Filter:
        r"""The filter with these cells, two hexadecimal digits a byte. O(len(text)).

        Raises ``InvalidValueError`` for anything else.

        >>> Filter.from_hex("0200").cells
        b'\x02\x00'
        """
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            shown = f"{text[:40]}..." if len(text) > 40 else text
            raise InvalidValueError(f"{shown!r} are no cells: two hexadecimal digits a byte are") from error

    def hex(self) -> str:
        """The cells as two hexadecimal digits a byte. O(len(cells)).

        >>> Filter(bytes([2, 0])).hex()
        '0200'
        """
        return self.cells.hex()

    @classmethod
    def make(cls, keys: ArrayLike, answers: ArrayLike) -> Filter:
        """The smallest filter, on the ladder of sizes, that gives each key its answer; the same for any order.

        Args:
            keys: integers (n,), from 0 to 2^64 − 1; one may occur again, with the same answer.
            answers: booleans, or 0 and 1, (n,).

        Returns:
            A filter of about 3n/8 bytes, or half as much again, for random keys. A few keys may take far more: a filter
            that is too full is begun again with half as many cells more, and keys whose hops keep crossing make it grow
            on, so that 0, 420 and 2^32 − 1 can take 140 bytes, in the reference too. Raises ``InvalidDTypeError`` for
            keys that are no integers and ``InvalidValueError`` where a key is negative or has two answers. O(n)
            expected.

        >>> Filter.make(range(1000), [i % 3 == 0 for i in range(1000)])[np.arange(4)].tolist()
        [True, False, False, True]
        """
        found, values = _keys(keys), np.asarray(answers).astype(bool).astype(np.uint8)
        if found.shape != values.shape or found.ndim != 1:
            raise InvalidValueError(f"keys {found.shape} and answers {values.shape}: both must be (n,)")
        unique, first, which = np.unique(found, return_index=True, return_inverse=True)
        if (torn := np.flatnonzero(values != values[first][which])).size:
            raise InvalidValueError(f"key {found[torn[0]]} has two answers; give each key one")
        if not unique.size:
            return cls()
        values, size, room = values[first], (3 + _grown(unique.size)) // 4, unique.size
        while (cells := kernels().fill(unique, values, size, room)) is None:
            size, room = (3 + _grown(4 * size)) // 4, _grown(room)
        return cls(cells.tobytes())

    @overload
    def __getitem__(self, key: int) -> bool: ...
    @overload
    def __getitem__(self, key: NDArray[np.integer]) -> NDArray[np.bool_]: ...
    def __getitem__(self, key: int | NDArray[np.integer]) -> bool | NDArray[np.bool_]:
        if not isinstance(key, np.ndarray | int | np.integer):
            raise InvalidDTypeError(f"key is {key!r}; an integer, or an integer array for many, is expected")
        keys = _keys(key)
        if self.cells:
            answers = kernels().lookup(keys.reshape(-1), np.frombuffer(self.cells, np.uint8)).astype(bool)
        else:
            answers = (keys.reshape(-1) & np.uint64(1)).astype(bool)
        return np.asarray(answers.reshape(keys.shape)) if isinstance(key, np.ndarray) else bool(answers[0])


def _grown(n: int) -> int:
    return (3 * n + 1) // 2


def _keys(keys: ArrayLike) -> NDArray[np.uint64]:
    array = np.asarray(keys)
    if not array.size:
        return np.empty(array.shape, np.uint64)
    if array.dtype.kind not in "iu":
        raise InvalidDTypeError(f"keys are {array.dtype}; integers from 0 to 2^64 - 1 are expected")
    if array.dtype.kind == "i" and array.min() < 0:
        raise InvalidValueError(f"key {array.min()} is negative; integers from 0 to 2^64 - 1 are expected")
    return array.astype(np.uint64, order="C", copy=False)
