"""The hash that everything in this package rests on, and how text and bytes become 32-bit features."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.kernels import plain

__all__ = ["byte_features", "hash32", "string_hash"]

_MASK = 0xFFFFFFFF
Integers = int | NDArray[Any]


@overload
def hash32(n: int, s: int, maximum: int) -> int: ...
@overload
def hash32(n: Integers, s: Integers, maximum: Integers) -> Any: ...
def hash32(n: Integers, s: Integers, maximum: Integers) -> Any:
    """Hash ``n`` with the salt ``s`` to a number below ``maximum``.

    Args:
        n: an integer or an integer array, taken modulo 2^32, as the others; arrays are broadcast.
        s: the salt.
        maximum: how many values there are; 0 gives 0.

    Returns:
        An int where all three are ints, else a uint32 array of the broadcast shape. Raises ``InvalidDTypeError`` for
        what is no integer. O(1) each. For one salt and 2^32 − 1 values it is nearly one to one; it is not secure.

    Source: the Go package neurlang/classifier; MISSION H1.

    >>> hash32(12345, 678, 1000)
    666
    >>> hash32(np.arange(4), 1, 100).tolist()
    [71, 0, 61, 23]
    """
    if all(isinstance(x, int) for x in (n, s, maximum)):
        value: int = plain.hash32(*(int(x) & _MASK for x in (n, s, maximum)))
        return value
    arrays = [np.atleast_1d(_integers(x)) for x in (n, s, maximum)]
    shape = np.broadcast_shapes(*(np.shape(x) for x in (n, s, maximum)))
    return plain.hash32(*arrays).astype(np.uint32).reshape(shape)


def string_hash(seed: int, text: str) -> int:
    """Hash a text: one code point after the other is the salt in which the hash of those before is hashed again.

    Args:
        seed: what to start from, taken modulo 2^32; the hash of the empty text.
        text: any text.

    Returns:
        The hash, an int below 2^32. O(len(text)).

    Source: the Go package neurlang/classifier, datasets/stringhash.

    >>> string_hash(1, "hello")
    753619948
    """
    value = seed & _MASK
    for character in text:
        value = hash32(value, ord(character), _MASK)
    return value


def byte_features(buffer: bytes, count: int) -> NDArray[np.uint32]:
    """The first ``count`` features of a buffer: feature n packs four of its bytes, chosen by hashing n.

    Args:
        buffer: at least one byte.
        count: how many features.

    Returns:
        uint32 (count,). Raises ``InvalidValueError`` for an empty buffer. O(count).

    Source: the Go package neurlang/classifier, the samples of its data sets.

    >>> byte_features(b"abc", 2).tolist()
    [1650549601, 1633902946]
    """
    if not buffer or count < 0:
        raise InvalidValueError(f"{count} features of {len(buffer)} bytes: take at least one byte and count from 0")
    bytes_ = np.frombuffer(buffer, np.uint8).astype(np.uint32)
    chosen = bytes_[hash32(np.arange(count)[:, None], np.arange(4), len(buffer))]
    packed: NDArray[np.uint32] = np.bitwise_or.reduce(chosen << np.array([0, 8, 16, 24], np.uint32), axis=1)
    return packed


def _integers(x: Integers) -> NDArray[np.int64]:
    array = np.asarray(x)
    if array.dtype.kind not in "iu":
        raise InvalidDTypeError(f"{array.dtype} was given; hash integers or integer arrays, for instance uint32")
    return array.astype(np.int64) & _MASK
