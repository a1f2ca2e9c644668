"""The loops of tuple tables compiled by numba, with vectors written in LLVM IR. Bit for bit those of ``plain``."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types

from tithe.hashtron.tuples.plain import BLOCK, CLASSES
from tithe.simd import Emitter, as_function

__all__ = ["find_cells", "lay_out", "learn", "vote"]

_jit: Any = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})


@_jit
def lay_out(bits, blocks):
    """Bits of samples in blocks."""
    samples, length = bits.shape
    for b in range(blocks.shape[0]):
        target, first = blocks[b], b * BLOCK
        count = min(BLOCK, samples - first)
        if count < BLOCK:
            target[:] = 0
        for d in range(length):
            line = target[d]
            for s in range(count):
                line[s] = bits[first + s, d]


@_jit
def find_cells(bits, tuples, salts, log_size, across, down, stride, first, last, cells):
    """The cells of tuples in one block."""
    width = tuples.shape[1]
    for t in range(first, last):
        places = tuples.ctypes.data + t * width * 4
        for y in range(down):
            for x in range(across):
                source = bits.ctypes.data + (y * stride + x) * BLOCK
                out = cells.ctypes.data + ((t * down + y) * across + x) * BLOCK * 2
                address(source, places, width, out)
                if width > log_size:
                    mix(out, salts[t], 32 - log_size)


@_jit
def vote(cells, signs, kept, first, last, votes):
    """Add the signs of cells to votes."""
    places, classes = cells.shape[1], signs.shape[2]
    every, table = kept.size == 0, signs.shape[1] * classes
    for t in range(first, last):
        base, places_of = signs.ctypes.data + t * table, cells.ctypes.data + t * places * BLOCK * 2
        for s in range(BLOCK):
            if every or kept[t, s]:
                for c in range(0, classes, CLASSES):
                    add_signs(votes.ctypes.data + (s * classes + c) * 4, base + c, places_of + s * 2, classes, places)


@_jit
def learn(cells, latent, signs, kept, first, last, steps):
    """Move the latent numbers of cells."""
    places, classes = cells.shape[1], signs.shape[2]
    every, table = kept.size == 0, signs.shape[1] * classes
    for t in range(first, last):
        base = t * table
        for s in range(BLOCK):
            if every or kept[t, s]:
                for p in range(places):
                    at = base + cells[t, p, s] * classes
                    for c in range(0, classes, CLASSES):
                        move(
                            latent.ctypes.data + (at + c) * 4, signs.ctypes.data + at + c,
                            steps.ctypes.data + (s * classes + c) * 4,
                        )  # fmt: skip


def _address(emit: Emitter, bits: Any, places: Any, width: Any, target: Any) -> None:
    """``BLOCK`` uint16 whose bit j is that of bits[places[j]], j < ``width`` (1 to 16)."""
    builder = emit.builder

    def body(state: list[Any]) -> list[Any]:
        at, j, total = state
        place = builder.zext(emit.load(at, 0, _I32), _I64)
        line = emit.load(builder.add(bits, builder.shl(place, ir.Constant(_I64, 4))), 0, _BYTES)
        total = builder.or_(total, builder.shl(builder.zext(line, _CELLS), emit.splat(j, BLOCK)))
        return [emit.move(at, 4), builder.add(j, ir.Constant(_I16, 1)), total]

    emit.store(emit.loop(width, [places, ir.Constant(_I16, 0), _constant(_CELLS, 0)], body)[2], target, 0)


def _mix(emit: Emitter, cells: Any, salt: Any, down: Any) -> None:
    """hash32 of ``BLOCK`` addresses, with ``salt``, to 32 − ``down`` bits, in their place."""
    builder = emit.builder
    salts = emit.splat(salt, BLOCK)
    m = builder.sub(builder.zext(emit.load(cells, 0, _CELLS), _WORDS), salts)
    for left, bits in ((1, 2), (1, 3), (0, 5), (0, 7), (1, 11), (1, 13), (0, 17), (1, 19)):
        m = builder.xor(m, (builder.shl if left else builder.lshr)(m, _constant(_WORDS, bits)))
    m = builder.lshr(builder.add(m, salts), emit.splat(builder.trunc(down, _I32), BLOCK))
    emit.store(builder.trunc(m, _CELLS), cells, 0)


def _add_signs(emit: Emitter, votes: Any, signs: Any, cell: Any, size: Any, places: Any) -> None:
    """Add to 16 int32 the 16 int8 at each of ``places`` (1 to 127) cells, which are uint16, ``BLOCK`` apart."""
    builder = emit.builder

    def body(state: list[Any]) -> list[Any]:
        at, total = state
        number = builder.zext(emit.load(at, 0, _I16), _I64)
        row = emit.load(builder.add(signs, builder.mul(number, size)), 0, _SIGNS)
        return [emit.move(at, 2 * BLOCK), builder.add(total, row)]

    total = emit.loop(places, [cell, _constant(_SIGNS, 0)], body)[1]
    emit.store(builder.add(emit.load(votes, 0, _VOTES), builder.sext(total, _VOTES)), votes, 0)


def _move(emit: Emitter, latent: Any, signs: Any, step: Any) -> None:
    """Add 16 float32 to 16 others, cut off at ±1, and write the signs of the sums as int8."""
    builder = emit.builder
    high, low, zero = (_constant(_LATENT, x) for x in (1.0, -1.0, 0.0))
    value = builder.fadd(emit.load(latent, 0, _LATENT), emit.load(step, 0, _LATENT))
    value = builder.select(builder.fcmp_ordered("<", value, high), value, high)
    value = builder.select(builder.fcmp_ordered(">", value, low), value, low)
    emit.store(value, latent, 0)
    positive = builder.fcmp_ordered(">=", value, zero)
    sign = builder.select(positive, _constant(_SIGNS, 1), _constant(_SIGNS, -1))
    emit.store(sign, signs, 0)


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)


_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_WORDS, _CELLS = ir.VectorType(_I32, BLOCK), ir.VectorType(_I16, BLOCK)
_BYTES = ir.VectorType(ir.IntType(8), BLOCK)
_SIGNS, _VOTES = ir.VectorType(ir.IntType(8), CLASSES), ir.VectorType(ir.IntType(32), CLASSES)
_LATENT = ir.VectorType(ir.FloatType(), CLASSES)
address = as_function((types.intp,) * 4, _address)
mix = as_function((types.intp, types.uint32, types.intp), _mix)
add_signs = as_function((types.intp,) * 5, _add_signs)
move = as_function((types.intp,) * 3, _move)
