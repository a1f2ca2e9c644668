"""The loops compiled by numba. Bit for bit those of ``plain``, which documents them; features are uint32 arrays."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.kernels import Packed

__all__ = ["bits_at", "evaluate", "fill", "lookup"]

_jit: Any = numba.njit(nogil=True, cache=True)
_inline: Any = numba.njit(nogil=True, cache=True, inline="always")


def evaluate(
    features: NDArray[np.uint32], neurons: NDArray[np.intp], premodulo: int, packed: Packed
) -> NDArray[np.uint8]:
    """The bits of some neurons of a layer; uint8 (len(neurons), samples)."""
    out = np.empty((len(neurons), features.shape[1]), np.uint8)
    _evaluate(np.ascontiguousarray(features), neurons, np.uint32(premodulo), *packed, out)
    return out


def bits_at(
    features: NDArray[np.uint32], neurons: NDArray[np.intp], premodulo: int, tables: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The same from truth tables."""
    out = np.empty((len(neurons), features.shape[1]), np.uint8)
    _bits_at(np.ascontiguousarray(features), neurons, np.uint32(premodulo), tables, out)
    return out


def lookup(keys: NDArray[np.uint64], cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The answers of one filter for keys of 64 bits; uint8 (n,)."""
    out = np.empty(len(keys), np.uint8)
    _lookup(keys, cells, out)
    return out


def fill(keys: NDArray[np.uint64], answers: NDArray[np.uint8], size: int, room: int) -> NDArray[np.uint8] | None:
    """A filter of ``size`` bytes that answers all keys, or ``None`` where it takes more than ``room`` insertions."""
    cells = np.zeros(size, np.uint8)
    return cells if _fill(keys, answers, cells, room) else None


@_inline
def _hash(n, s, maximum):  # numba widens every result, so each is cut back to 32 bits; LLVM then never widens it
    m = np.uint32(n - s)
    m = np.uint32(m ^ (m << 2))
    m = np.uint32(m ^ (m << 3))
    m = np.uint32(m ^ (m >> 5))
    m = np.uint32(m ^ (m >> 7))
    m = np.uint32(m ^ (m << 11))
    m = np.uint32(m ^ (m << 13))
    m = np.uint32(m ^ (m >> 17))
    m = np.uint32(m ^ (m << 19))
    m = np.uint32(m + s)
    return np.uint32((np.uint64(m) * np.uint64(maximum)) >> np.uint64(32))


@_inline
def _rotated(x):
    return np.uint32((x >> np.uint32(1)) | (x << np.uint32(31)))


@_jit
def _answer(x, high, cells, start, size):
    if size == 0:
        return np.uint8(x & 1)
    count = np.uint32(4 * size)
    for i in range(64):
        cell = _hash(x, np.uint32(high ^ i), count)
        state = (cells[start + (cell >> 2)] >> (2 * (cell & 3))) & 3
        if state == 0:
            return np.uint8(x & 1)
        if state < 3:
            return np.uint8(state - 1)
        x = _rotated(x)
    return np.uint8(0)


@_jit
def _hash_row(row, s, maximum, keys):
    for i in range(keys.size):
        keys[i] = _hash(row[i], s, maximum)


@_jit
def _evaluate(features, neurons, premodulo, salts, modulos, pairs, cells, starts, out):
    keys = np.empty(features.shape[1], np.uint32)
    for r in range(neurons.size):
        neuron = neurons[r]
        row = features[r if features.shape[0] > 1 else 0]
        if premodulo:
            _hash_row(row, np.uint32(neuron), premodulo, keys)
            row = keys
        for j in range(pairs[neuron], pairs[neuron + 1]):
            _hash_row(row, salts[j], modulos[j], keys)
            row = keys
        start, size = starts[neuron], starts[neuron + 1] - starts[neuron]
        for i in range(row.size):
            out[r, i] = _answer(row[i], np.uint32(0), cells, start, size)


@_jit
def _bits_at(features, neurons, premodulo, tables, out):
    keys = np.empty(features.shape[1], np.uint32)
    for r in range(neurons.size):
        neuron = neurons[r]
        row = features[r if features.shape[0] > 1 else 0]
        if premodulo:
            _hash_row(row, np.uint32(neuron), premodulo, keys)
            row = keys
        table = tables[neuron]
        for i in range(row.size):
            out[r, i] = (table[row[i] >> 3] >> (row[i] & 7)) & 1


@_jit
def _lookup(keys, cells, out):
    for i in range(keys.size):
        out[i] = _answer(np.uint32(keys[i]), np.uint32(keys[i] >> np.uint64(32)), cells, 0, cells.size)


@_jit
def _insert(cells, key, answer):
    x, high = np.uint32(key), np.uint32(key >> np.uint64(32))
    count, inserted = np.uint32(4 * cells.size), 0
    for i in range(64):
        cell = _hash(x, np.uint32(high ^ i), count)
        byte, shift = cell >> 2, 2 * (cell & 3)
        state = (cells[byte] >> shift) & 3
        if state == answer + 1 or (state == 0 and (x & 1) == answer):
            return inserted
        if state == 0:
            cells[byte] |= np.uint8((answer + 1) << shift)
            return inserted + 1
        if state < 3:
            cells[byte] |= np.uint8(3 << shift)
            inserted += 1
        x = _rotated(x)
    return inserted + 1


@_jit
def _fill(keys, answers, cells, room):
    load = 0
    while load < room:
        inserted = 0
        for i in range(keys.size):
            inserted += _insert(cells, keys[i], answers[i])
            if load + inserted >= room:
                break
        if inserted == 0:
            return True
        load += inserted
    return False
