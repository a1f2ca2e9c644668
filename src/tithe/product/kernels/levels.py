"""Rows of activations in levels: what each holds beside its own lowest value, in steps of its own, as bytes.

A row is read once; stretched, it stays in the first-level cache until it is rounded. Reading runs a row ahead, since
the next one would have to be waited for otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types

from tithe.product.kernels.int8_panels import UNIT
from tithe.simd import Emitter, as_function

__all__ = ["EXTRA", "LEAST", "round_row"]

LEAST = np.float32(2.0**-126)  # a step that has an inverse; rows with less between their ends lose it
EXTRA = 16  # float32 of working memory beside those of a row
_LANES, _VECTORS = 8, 2
_ROUND = _LANES * _VECTORS  # elements of one round of the first loop
_AHEAD = 3072  # bytes
_SHIFT = 12582912.0  # 1.5·2²³: added to a number below 2²², it leaves the nearest integer in the lowest bits
_FINITE = 0x4B4000  # the upper bits of such a sum with a number from 0 to 255

_I8, _I32 = ir.IntType(8), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(_I32, _LANES)


def _stretch(emit: Emitter, x: Any, centre: Any, stretch: Any, y: Any, found: Any, rounds: Any) -> None:
    """``(x − centre)·stretch`` of ``rounds`` (at least 1) times ``_ROUND`` elements.

    The lowest goes to the first lane of ``found``, the highest to the ninth; nan is passed over.
    """
    builder = emit.builder

    def lower(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    def higher(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    def body(state: list[Any]) -> list[Any]:
        *at, low, high = state
        emit.prefetch(at[0], _AHEAD)
        values = []
        for i in range(0, 4 * _ROUND, 4 * _LANES):
            less, factor = emit.load(at[1], i, _FLOATS), emit.load(at[2], i, _FLOATS)
            values.append(builder.fmul(builder.fsub(emit.load(at[0], i, _FLOATS), less), factor))
            emit.store(values[-1], at[3], i)
        for value in values:
            low, high = lower(value, low), higher(value, high)
        return [*(emit.move(a, 4 * _ROUND) for a in at), low, high]

    ends = [ir.Constant(_FLOATS, [end] * _LANES) for end in (float("inf"), float("-inf"))]
    low, high = emit.loop(rounds, [x, centre, stretch, y, *ends], body)[4:]
    emit.store(_across(emit, low, lower), found, 0)
    emit.store(_across(emit, high, higher), found, 4 * _LANES)


def _round(emit: Emitter, y: Any, low: Any, inverse: Any, levels: Any, found: Any, rounds: Any) -> None:
    """``(y − low)·inverse``, rounded half to even, as bytes; ``rounds`` (at least 1) times ``UNIT`` elements.

    The bits of all of them, one over the other, go to ``found``: any nan shows.
    """
    builder = emit.builder
    lows, inverses = emit.splat(low, _LANES), emit.splat(inverse, _LANES)
    shift, byte = ir.Constant(_FLOATS, [_SHIFT] * _LANES), ir.Constant(_INTS, [255] * _LANES)

    def body(state: list[Any]) -> list[Any]:
        source, target, seen = state
        parts = []
        for i in range(0, 4 * UNIT, 4 * _LANES):
            value = builder.fmul(builder.fsub(emit.load(source, i, _FLOATS), lows), inverses)
            bits = builder.bitcast(builder.fadd(value, shift), _INTS)
            seen = builder.or_(seen, bits)
            parts.append(builder.and_(bits, byte))
        while len(parts) > 1:
            size = 2 * parts[0].type.count
            parts = [emit.shuffle(a, b, list(range(size))) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        emit.store(builder.trunc(parts[0], ir.VectorType(_I8, UNIT)), target, 0)
        return [emit.move(source, 4 * UNIT), emit.move(target, UNIT), seen]

    seen = emit.loop(rounds, [y, levels, ir.Constant(_INTS, [0] * _LANES)], body)[2]
    emit.store(_across(emit, seen, builder.or_), found, 0)


def _across(emit: Emitter, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """What all lanes combined give, in each of them."""
    for distance in (4, 2, 1):
        vector = combine(vector, emit.shuffle(vector, vector, [i ^ distance for i in range(_LANES)]))
    return vector


_i, _f = types.intp, types.float32
_stretch_row = as_function((_i,) * 6, _stretch)
_round_row = as_function((_i, _f, _f, _i, _i, _i), _round)


@numba.njit(nogil=True, cache=True)
def round_row(x, i, centre, stretch, top, work, levels):
    """Row i of x in levels from 0 to ``top``: its lowest value and the step, nan where an entry is not finite.

    Args:
        x: float32 (m, k), C-contiguous.
        i: the row.
        centre: float32 (k,), taken off first.
        stretch: float32 (k,), multiplied by then.
        top: the highest level.
        work: float32, ``EXTRA`` and k filled up to a multiple of ``UNIT``.
        levels: address of as many bytes, for (row − lowest)/step, and zeros after it.
    """
    k = x.shape[1]
    found, y = work[:EXTRA], work[EXTRA:]
    whole = k // _ROUND * _ROUND
    low, high = np.float32(np.inf), np.float32(-np.inf)
    if whole:
        source = x.ctypes.data + i * k * 4
        _stretch_row(source, centre.ctypes.data, stretch.ctypes.data, y.ctypes.data, found.ctypes.data, whole // _ROUND)
        low, high = found[0], found[_LANES]
    for j in range(whole, k):
        y[j] = (x[i, j] - centre[j]) * stretch[j]
        low, high = min(low, y[j]), max(high, y[j])
    y[k:] = low
    step = (high - low) / np.float32(top)
    inverse = np.float32(1) / step if step >= LEAST else np.float32(0)
    _round_row(y.ctypes.data, low, inverse, levels, found.ctypes.data, y.size // UNIT)
    if found.view(np.int32)[0] >> 8 != _FINITE or not step < np.inf:
        step = np.float32(np.nan)
    return low, step
