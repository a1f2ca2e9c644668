"""The loops over NumPy arrays and torch tensors alike: int64 arithmetic, masked to 32 bits.

What is written with operators alone runs on both. It serves a GPU, tests the compiled loops, and replaces them where
numba's JIT is off. Samples lie along the last axis, neurons along the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tithe.hashtron.kernels import Packed

__all__ = ["HOPS", "bits_at", "evaluate", "fill", "hash32", "lookup", "select", "wide"]

HOPS = 64  # cells that a key may try
_MASK = 0xFFFFFFFF


def hash32(n: Any, s: Any, maximum: Any) -> Any:
    """The hash of numbers, int64 arrays or int64 tensors below 2^32, as the same; below ``maximum``."""
    m = (n - s) & _MASK
    m = (m ^ (m << 2)) & _MASK
    m = (m ^ (m << 3)) & _MASK
    m = m ^ (m >> 5)
    m = m ^ (m >> 7)
    m = (m ^ (m << 11)) & _MASK
    m = (m ^ (m << 13)) & _MASK
    m = m ^ (m >> 17)
    m = (m ^ (m << 19)) & _MASK
    m = (m + s) & _MASK
    return ((m * maximum) >> 32) & _MASK  # an int64 that wraps still has the right bits 32 to 63


def wide(x: Any) -> Any:
    """Integers of a type in which 32 bits are non-negative: uint32 for arrays, int64 for tensors."""
    return x.long() if isinstance(x, torch.Tensor) else x.astype(np.uint32)


def select(rows: Any, index: NDArray[np.intp]) -> Any:
    """``rows[index]`` for an array or a tensor."""
    return rows[torch.from_numpy(index).to(rows.device)] if isinstance(rows, torch.Tensor) else rows[index]


def evaluate(features: Any, neurons: Any, premodulo: int, packed: Packed) -> Any:
    """The bits of some neurons of a layer, each key hashed by every pair of the program and looked up in the filter.

    Args:
        features: (len(neurons), samples), or (1, samples) for all of them.
        neurons: positions in the layer; position i is the salt of the premodulo.
        premodulo: what the features are hashed to first; 0 for not at all.
        packed: the whole layer.

    Returns uint8 (len(neurons), samples). O(neurons · samples · (pairs + hops)).
    """
    keys = _premodulo(features, neurons, premodulo)
    starts, stops = (packed.pairs[neurons + i][:, None] for i in (0, 1))
    for step in range(int((stops - starts).max())):
        at = starts + step
        inside = at < stops
        at = (at * inside)[:, 0]
        keys = _where(inside, hash32(keys, packed.salts[at][:, None], packed.modulos[at][:, None]), keys)
    starts, stops = (packed.bytes[neurons + i][:, None] for i in (0, 1))
    return _probe(keys, 0, packed.cells, starts, stops - starts)


def bits_at(features: Any, neurons: Any, premodulo: int, tables: Any) -> Any:
    """The same from truth tables, uint8 (neurons, bytes): bit k%8 of byte k//8 is the answer for key k."""
    keys = _premodulo(features, neurons, premodulo)
    return _bytes((tables[neurons[:, None], keys >> 3] >> (keys & 7)) & 1)


def lookup(keys: NDArray[np.uint64], cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The answers of one filter for keys of 64 bits; uint8 (n,)."""
    low, high = (keys & np.uint64(_MASK)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int64)
    answers: NDArray[np.uint8] = _probe(low, high, cells, np.int64(0), np.int64(len(cells)))
    return answers


def fill(keys: NDArray[np.uint64], answers: NDArray[np.uint8], size: int, room: int) -> NDArray[np.uint8] | None:
    """A filter of ``size`` bytes that answers all keys, or ``None`` where it takes more than ``room`` insertions."""
    cells = np.zeros(size, np.uint8)
    pairs = list(zip(keys.tolist(), answers.tolist(), strict=True))
    load = 0
    while load < room:
        inserted = 0
        for key, answer in pairs:
            inserted += _insert(cells, key, answer)
            if load + inserted >= room:
                break
        if not inserted:
            return cells
        load += inserted
    return None


def _insert(cells: NDArray[np.uint8], key: int, answer: int) -> int:
    x, high, inserted = key & _MASK, key >> 32, 0
    for i in range(HOPS):
        cell: int = hash32(x, high ^ i, 4 * len(cells))
        byte, shift = cell >> 2, 2 * (cell & 3)
        state = int(cells[byte]) >> shift & 3
        if state == answer + 1 or (state == 0 and x & 1 == answer):
            return inserted
        cells[byte] |= (3 if state else answer + 1) << shift
        inserted += int(state != 3)
        if not state:
            return inserted
        x = x >> 1 | (x & 1) << 31
    return inserted + 1


def _premodulo(features: Any, neurons: Any, premodulo: int) -> Any:
    keys = features.long() if isinstance(features, torch.Tensor) else features.astype(np.int64)
    if premodulo:
        return hash32(keys, neurons[:, None], premodulo)
    return keys + 0 * neurons[:, None]  # one row each, also where they share one


def _probe(x: Any, high: Any, cells: Any, starts: Any, sizes: Any) -> Any:
    """The answers of filters that start at ``starts`` in ``cells`` and have ``sizes`` bytes, of the shape of ``x``."""
    answers, hopping = x & 1, (x == x) & (sizes > 0)
    for i in range(HOPS):
        if not hopping.any():
            break
        cell = hash32(x, high ^ i, 4 * sizes)
        state = (cells[(starts + (cell >> 2)) * hopping] >> (2 * (cell & 3))) & 3
        answers = _where(hopping, _where(state == 0, x & 1, 1 * (state == 2)), answers)
        hopping = hopping & (state == 3)
        x = (x >> 1) | ((x & 1) << 31)
    return _bytes(answers)


def _bytes(x: Any) -> Any:
    return x.byte() if isinstance(x, torch.Tensor) else x.astype(np.uint8)


def _where(condition: Any, this: Any, other: Any) -> Any:
    where: Any = torch.where if isinstance(condition, torch.Tensor) else np.where
    return where(condition, this, other)
