"""Combiners that count: sums, parities, and the agreements of cross attention."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.combiners import Combiner, Index
from tithe.hashtron.kernels.plain import select, wide

__all__ = ["CrossAttention", "Parity", "Sum"]


@dataclass(frozen=True)
class Sum(Combiner):
    """How many of a group of bits are 1; as the last combiner of a classifier, the votes of each class.

    Feature n starts at bit n·dims[axis] and steps by the product of the dimensions before ``axis``, around the end.

    >>> Sum(dims=(2, 2)).features(np.array([[1, 1, 0, 1]], np.uint8).T)[:, 0].tolist()
    [2, 1]
    """

    dims: tuple[int, ...]
    axis: int = 0
    kind: ClassVar[str] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.axis < len(self.dims):
            raise InvalidValueError(f"axis is {self.axis}; dims {self.dims} have axes 0 to {len(self.dims) - 1}")

    @property
    def _shape(self) -> tuple[int, int, int]:
        count = self.dims[self.axis] if self.axis < len(self.dims) else 1
        return prod(self.dims), prod(self.dims) // count, count + 1

    def _features(self, bits: Any, which: Index) -> Any:
        index = self._index[which]
        total = wide(select(bits, index[:, 0]))
        for column in index.T[1:]:
            total += select(bits, column)
        return total

    def _readers(self, n: int) -> Index:
        return np.flatnonzero((self._index == n).any(1))

    @functools.cached_property
    def _index(self) -> Index:
        count, step = self.dims[self.axis], prod(self.dims[: self.axis])
        return (np.arange(self.outputs)[:, None] * count + np.arange(count) * step) % self.inputs


@dataclass(frozen=True)
class Parity(Combiner):
    """Whether an odd number of bits is 1; every feature is the same.

    >>> Parity(3).features(np.array([[1, 1, 1]], np.uint8).T)[0].tolist()
    [1]
    """

    size: int
    kind: ClassVar[str] = "parity"

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 2

    def _features(self, bits: Any, which: Index) -> Any:
        parity = wide(bits.sum(0)[None] & 1)
        return select(parity, np.zeros(len(which), np.intp))


@dataclass(frozen=True)
class CrossAttention(Combiner):
    """Counts of bits that agree within a head: keys with values, or queries with keys and values (``qkv``).

    ``dim`` bits a head, alternating key, value or query, key, value; with ``masked`` a position sees none after it.

    >>> CrossAttention(dim=4, heads=1).features(np.array([[1, 1, 0, 1]], np.uint8).T)[:, 0].tolist()
    [2, 1, 0, 1]
    """

    dim: int
    heads: int
    qkv: bool = False
    masked: bool = False
    kind: ClassVar[str] = "crossattention"

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.qkv) is not bool or type(self.masked) is not bool:
            raise InvalidDTypeError(f"{self}: qkv and masked must be booleans")
        if self.qkv and self.dim % 3:
            raise InvalidValueError(f"dim is {self.dim}; with qkv a head has a multiple of three bits")

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.dim * self.heads, self.dim * self.heads, -(-self.dim // (3 if self.qkv else 2)) + 1

    def _features(self, bits: Any, which: Index) -> Any:
        counts = [self._triples(bits, n) if self.qkv else self._pairs(bits, n) for n in which.tolist()]
        out = wide(select(bits, np.zeros(len(counts), np.intp)))
        for row, count in enumerate(counts):
            out[row] = count
        return out

    def _pairs(self, bits: Any, n: int) -> Any:
        head, here = n // self.dim * self.dim, n % self.dim
        seen = [x for x in range(n & 1 ^ 1, self.dim, 2) if not self.masked or x // 2 <= here]
        return (select(bits, head + np.array(seen, np.intp)) & bits[n]).sum(0)

    def _triples(self, bits: Any, n: int) -> Any:
        span = 3 * self.dim  # of the reference, which gives a head the positions of three
        head, here = n // span * span, n % span // 3
        seen = head + np.array([x for x in range(0, self.dim, 3) if not self.masked or x // 3 <= here], np.intp)
        query, key, value = (select(bits, seen + i) for i in range(3))
        if n % 3 == 0:
            return (query & key & value).sum(0)
        return (query & (1 ^ bits[n] ^ value) if n % 3 == 1 else query & key & bits[n]).sum(0)
