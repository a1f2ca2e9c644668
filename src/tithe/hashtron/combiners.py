"""Combiners: what makes features for the next layer from the bits of a layer. Here are those that pack bits.

Every combiner works on uint8 arrays or tensors (bits, samples) and gives (features, samples), uint32 or int64.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.hashing import hash32
from tithe.hashtron.kernels.plain import select, wide

__all__ = ["Combiner", "Full", "Index", "MajorityPool", "Stochastic"]

_MOST = 1 << 24  # bits that a combiner takes
_FREE = ("axis", "bias", "seed")  # fields that are no sizes
Index = NDArray[np.intp]


class Combiner(ABC):
    """What all combiners have. Their fields are sizes, at least 1 unless they say otherwise.

    >>> Full(size=375, bits=5, maxbits=5).outputs
    75
    """

    kind: ClassVar[str]

    @property
    def inputs(self) -> int:
        """How many bits it takes. O(1)."""
        return self._shape[0]

    @property
    def outputs(self) -> int:
        """How many features it has. O(1)."""
        return self._shape[1]

    @property
    def limit(self) -> int:
        """All features are below it; at most 2^32. O(1)."""
        return self._shape[2]

    def features(self, bits: Any, which: Index | None = None) -> Any:
        """The features, or those that ``which`` names, of bits (inputs, samples).

        >>> Full(3, 1, 2).features(np.array([[1], [1], [0]], np.uint8), np.array([0, 1])).tolist()
        [[3], [2]]
        """
        return self._features(bits, np.arange(self.outputs) if which is None else which)

    def readers(self, n: int) -> Index:
        """The features that bit ``n`` may change, ascending.

        >>> Full(6, 3, 3).readers(4).tolist()
        [1]
        """
        return self._readers(n)

    def disregards(self, bits: NDArray[np.uint8], n: int) -> NDArray[np.bool_]:
        """Where flipping bit ``n`` is known to change no feature; (samples,). No promise where it is false.

        >>> MajorityPool(1, 1, 3).disregards(np.array([[1], [1], [0]], np.uint8), 2).tolist()
        [True]
        """
        return self._disregards(bits, n)

    @property
    @abstractmethod
    def _shape(self) -> tuple[int, int, int]:
        """``inputs``, ``outputs`` and ``limit``."""

    @abstractmethod
    def _features(self, bits: Any, which: Index) -> Any: ...

    def _readers(self, n: int) -> Index:
        return np.arange(self.outputs)

    def _disregards(self, bits: NDArray[np.uint8], n: int) -> NDArray[np.bool_]:
        return np.zeros(bits.shape[1], np.bool_)

    def __post_init__(self) -> None:
        fields = {name: x if isinstance(x, tuple) else (x,) for name, x in vars(self).items() if type(x) is not bool}
        if not all(type(x) is int for numbers in fields.values() for x in numbers):
            raise InvalidDTypeError(f"{self}: its sizes must be integers")
        if any(x < 1 for name, numbers in fields.items() if name not in _FREE for x in numbers):
            raise InvalidValueError(f"{self}: its sizes must be at least 1")
        inputs, _, limit = self._shape
        if inputs > _MOST or limit > 1 << 32 or any(abs(x) > 1 << 32 for numbers in fields.values() for x in numbers):
            raise InvalidValueError(f"{self}: it can take at most {_MOST} bits and pack 32 into a feature")


@dataclass(frozen=True)
class MajorityPool(Combiner):
    """Majorities of blocks of bits, packed into features: ``majpool2d`` of the reference.

    ``width`` x ``height`` blocks of ``subwidth`` x ``subheight`` bits, ``repeat`` times. A block is 1 where its sum of
    ±1 exceeds ``bias``. A feature packs a window of ``capwidth`` x ``capheight`` blocks, the first as the highest bit;
    windows start one after the other and wrap around.

    >>> pool = MajorityPool(width=2, height=1, subwidth=3, capwidth=2)
    >>> pool.features(np.array([[1, 0, 1, 0, 1, 0]], np.uint8).T)[0].tolist()
    [2]
    """

    width: int
    height: int
    subwidth: int
    subheight: int = 1
    capwidth: int = 1
    capheight: int = 1
    repeat: int = 1
    bias: int = 0
    kind: ClassVar[str] = "majpool2d"

    @property
    def _shape(self) -> tuple[int, int, int]:
        bits = self.width * self.height * self._block * self.repeat
        return bits, bits, 1 << min(self.capwidth * self.capheight, 33)

    def _features(self, bits: Any, which: Index) -> Any:
        index = self._blocks[which]
        blocks, at = np.unique(index, return_inverse=True)
        ones = select(bits.reshape(-1, self._block, bits.shape[1]), blocks).sum(1)
        return _packed(_bytes(2 * ones > self.bias + self._block, bits), at.reshape(index.shape))

    def _readers(self, n: int) -> Index:
        return np.flatnonzero((self._blocks == n // self._block).any(1))

    def _disregards(self, bits: NDArray[np.uint8], n: int) -> NDArray[np.bool_]:
        start = n // self._block * self._block
        ones = bits[start : start + self._block].sum(0, dtype=np.int64) - bits[n]
        others = 2 * ones - (self._block - 1)
        kept: NDArray[np.bool_] = (others + 1 > self.bias) == (others - 1 > self.bias)
        return kept

    @property
    def _block(self) -> int:
        return self.subwidth * self.subheight

    @functools.cached_property
    def _blocks(self) -> Index:
        blocks = self.width * self.height
        m = np.arange(self.outputs)[:, None, None]
        window = m % (blocks * self._block) // self._block
        x = (window % self.width * self.capwidth + np.arange(self.capwidth)) % self.width
        y = (window // self.width * self.capheight + np.arange(self.capheight)[:, None]) % self.height
        index: Index = m // (blocks * self._block) * blocks + self.width * y + x
        return index.reshape(self.outputs, -1)


@dataclass(frozen=True)
class Full(Combiner):
    """Runs of ``maxbits`` bits, the first the highest, one starting every ``bits``; 0 where it would pass the end.

    >>> Full(size=4, bits=2, maxbits=2).features(np.array([[1, 0, 1, 1]], np.uint8).T)[:, 0].tolist()
    [2, 3]
    """

    size: int
    bits: int
    maxbits: int
    kind: ClassVar[str] = "full"

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.size, self.size // self.bits, 1 << min(self.maxbits, 33)

    def _features(self, bits: Any, which: Index) -> Any:
        starts = self.bits * which
        past = starts + self.maxbits > self.size
        out = _packed(bits, np.where(past, 0, starts)[:, None] + np.arange(min(self.maxbits, self.size)))
        if past.any():
            out[np.flatnonzero(past)] = 0
        return out

    def _readers(self, n: int) -> Index:
        first = max(0, -(-(n - self.maxbits + 1) // self.bits))
        return np.arange(first, min(n // self.bits + 1, self.outputs))


@dataclass(frozen=True)
class Stochastic(Combiner):
    """Features of ``maxbits`` bits, each bit chosen by hashing its place: ``sochastic`` of the reference.

    >>> Stochastic(size=8, maxbits=3, seed=1).limit
    8
    """

    size: int
    maxbits: int
    seed: int = 0
    kind: ClassVar[str] = "sochastic"

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 1 << min(self.maxbits, 33)

    def _features(self, bits: Any, which: Index) -> Any:
        return _packed(bits, self._index[which])

    def _readers(self, n: int) -> Index:
        return np.flatnonzero((self._index == n).any(1))

    @functools.cached_property
    def _index(self) -> Index:
        places = np.arange(self.size)[:, None] ^ self.seed
        chosen: NDArray[np.uint32] = hash32(places, np.arange(self.maxbits), self.size)
        return chosen.astype(np.intp)


def _packed(bits: Any, index: Index) -> Any:
    """The bits that each row of ``index`` names, the first one the highest."""
    out = wide(select(bits, index[:, 0]))
    for column in index.T[1:]:
        out <<= 1
        out |= select(bits, column)
    return out


def _bytes(x: Any, like: Any) -> Any:
    return x.astype(np.uint8) if isinstance(like, np.ndarray) else x.byte()
