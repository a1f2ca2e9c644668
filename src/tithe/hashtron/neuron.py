"""The hashtron: a neuron that hashes its input through a short program and looks the answer up in a filter."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.filters import Filter
from tithe.hashtron.hashing import hash32

__all__ = ["Hashtron"]

PARITY = Filter()  # answers with the lowest bit


@dataclass(frozen=True, slots=True)
class Hashtron:
    """A binary neuron: ``filter[hash32(... hash32(key, salt, modulo) ...)]``.

    Attributes:
        program: pairs (salt, modulo), each below 2^32, applied one after the other; without one the key stays.
        filter: what answers for the hashed key; an empty one answers with its lowest bit.

    Raises ``InvalidValueError`` for numbers out of range.

    Source: the Go package neurlang/classifier; MISSION H1.

    >>> neuron = Hashtron(((1087521264, 95),), Filter.from_hex("0480"))
    >>> neuron.forward(0), neuron.forward(np.arange(3, dtype=np.uint32))
    (True, array([ True,  True,  True]))
    >>> neuron.to_json()
    '[[1087521264,95],"0480"]'
    """

    program: tuple[tuple[int, int], ...] = ()
    filter: Filter = PARITY

    def __post_init__(self) -> None:
        if any(not 0 <= number < 1 << 32 for pair in self.program for number in pair):
            raise InvalidValueError(f"program {self.program[:4]} ...: salts and modulos lie between 0 and 2^32 - 1")

    @overload
    def forward(self, key: int) -> bool: ...
    @overload
    def forward(self, key: NDArray[np.integer]) -> NDArray[np.bool_]: ...
    def forward(self, key: int | NDArray[np.integer]) -> bool | NDArray[np.bool_]:
        """The answer for a key, taken modulo 2^32, or for an array of them in its shape. O(len(program)) a key.

        Raises ``InvalidDTypeError`` for what is neither integer nor integer array.

        >>> Hashtron().forward(5)
        True
        """
        if isinstance(key, np.ndarray):
            if key.dtype.kind not in "iu":
                raise InvalidDTypeError(f"keys are {key.dtype}; an integer array is expected, for instance uint32")
            hashed = key.astype(np.uint32)
            for salt, modulo in self.program:
                hashed = hash32(hashed, salt, modulo)
            return self.filter[hashed]
        try:
            value = operator.index(key) & 0xFFFFFFFF
        except TypeError as error:
            raise InvalidDTypeError(f"key is {key!r}; an integer, or an integer array for many, is expected") from error
        for salt, modulo in self.program:
            value = hash32(value, salt, modulo)
        return self.filter[value]

    def to_json(self) -> str:
        """The neuron as it stands in a model file: pairs after the first as differences, then the filter. O(size).

        >>> Hashtron(((7, 10), (4, 12))).to_json()
        '[[7,10],[3,-2]]'
        """
        pairs = [[s ^ t, m - n] for (s, m), (t, n) in pairwise([(0, 0), *self.program])]
        if pairs:
            pairs[0] = [*self.program[0]]
        return json.dumps([*pairs, *([self.filter.hex()] if self.filter.cells else [])], separators=(",", ":"))
