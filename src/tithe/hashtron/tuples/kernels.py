"""The inner loops of tuple tables: which cell each tuple of bits names, what the cells vote, and how they learn.

Samples go in blocks of 16, side by side in the last axis, so that the loops over them become vector instructions. An
address is made of ``bits`` single bits; up to three addresses, of windows that lie side by side, share a 32-bit word.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types

from tithe.simd import Emitter, as_function

__all__ = ["BLOCK", "CLASSES", "FIELD", "find_cells", "lay_out", "learn", "vote"]

BLOCK = 16  # samples
CLASSES = 16  # to a multiple of which the classes are filled up
FIELD = 10  # bits of a 32-bit word for one address where three share it

_jit: Any = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})


@_jit
def lay_out(bits, across, words):
    """Bits (samples, D) uint8 as words (blocks, D, BLOCK) uint32; ``across`` neighbours along D in one word each."""
    samples, length = bits.shape
    for block in range(words.shape[0]):
        target = words[block]
        first = block * BLOCK
        count = min(BLOCK, samples - first)
        target[:] = 0
        for s in range(count):
            row = bits[first + s]
            for d in range(length):
                target[d, s] = row[d]
        for shift in range(1, across):
            for d in range(length - shift):
                for s in range(BLOCK):
                    target[d, s] |= (target[d + shift, s] & np.uint32(1)) << np.uint32(FIELD * shift)


@_jit
def find_cells(words, tuples, salts, log_size, across, down, stride, first, last, cells):
    """The cells of tuples ``first``..``last`` in one block: (tuples, down·across, BLOCK) uint16.

    ``words`` (D, BLOCK) as ``lay_out`` makes them, ``tuples`` (T, bits) places along D, of the first of ``down`` ·
    ``across`` windows, which lie ``stride`` places below and one place beside each other. An address of more bits than
    ``log_size`` is hashed to that many by the tuple's salt.
    """
    width = tuples.shape[1]
    mask = (1 << width) - 1
    word = np.empty(BLOCK, np.uint32)
    for t in range(first, last):
        for y in range(down):
            address(
                words.ctypes.data + y * stride * BLOCK * 4, tuples.ctypes.data + t * width * 4, width, word.ctypes.data
            )
            for x in range(across):
                out = cells.ctypes.data + ((t * down + y) * across + x) * BLOCK * 2
                if width > log_size:
                    hashed(word.ctypes.data, FIELD * x, mask, salts[t], 32 - log_size, out)
                else:
                    plain(word.ctypes.data, FIELD * x, mask, out)


@_jit
def vote(cells, signs, kept, first, last, votes):
    """Add the signs (T, size, classes) int8 of the cells of tuples ``first``..``last`` to votes (BLOCK, classes) int32.

    Of ``kept`` (T, BLOCK) uint8, those that are not 0; with an empty ``kept``, of all.
    """
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
    """Move the latent numbers (T, size, classes) float32 by steps (BLOCK, classes); signs follow.

    They stay in [-1, 1]; ``kept`` as in ``vote``.
    """
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


def _address(emit: Emitter, words: Any, places: Any, width: Any, target: Any) -> None:
    """``BLOCK`` words whose bit j (and the fields above) are those of words[places[j]], j < ``width`` (at least 1)."""
    builder = emit.builder

    def body(state: list[Any]) -> list[Any]:
        at, j, total = state
        place = builder.zext(emit.load(at, 0, _I32), _I64)
        word = emit.load(builder.add(words, builder.shl(place, ir.Constant(_I64, 6))), 0, _WORDS)
        total = builder.or_(total, builder.shl(word, emit.splat(j, BLOCK)))
        return [emit.move(at, 4), builder.add(j, ir.Constant(_I32, 1)), total]

    total = emit.loop(width, [places, ir.Constant(_I32, 0), _constant(_WORDS, 0)], body)[2]
    emit.store(total, target, 0)


def _plain(emit: Emitter, source: Any, shift: Any, mask: Any, target: Any) -> None:
    """A field of ``BLOCK`` words, as uint16."""
    emit.store(emit.builder.trunc(_field(emit, source, shift, mask), _CELLS), target, 0)


def _hashed(emit: Emitter, source: Any, shift: Any, mask: Any, salt: Any, down: Any, target: Any) -> None:
    """hash32 of a field of ``BLOCK`` words, with ``salt``, to 32 − ``down`` bits, as uint16."""
    builder = emit.builder
    salts = emit.splat(salt, BLOCK)
    m = builder.sub(_field(emit, source, shift, mask), salts)
    for left, bits in ((1, 2), (1, 3), (0, 5), (0, 7), (1, 11), (1, 13), (0, 17), (1, 19)):
        m = builder.xor(m, (builder.shl if left else builder.lshr)(m, _constant(_WORDS, bits)))
    m = builder.lshr(builder.add(m, salts), emit.splat(builder.trunc(down, _I32), BLOCK))
    emit.store(builder.trunc(m, _CELLS), target, 0)


def _field(emit: Emitter, source: Any, shift: Any, mask: Any) -> Any:
    builder = emit.builder
    shifts, masks = (emit.splat(builder.trunc(x, _I32), BLOCK) for x in (shift, mask))
    return builder.and_(builder.lshr(emit.load(source, 0, _WORDS), shifts), masks)


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
_SIGNS, _VOTES = ir.VectorType(ir.IntType(8), CLASSES), ir.VectorType(ir.IntType(32), CLASSES)
_LATENT = ir.VectorType(ir.FloatType(), CLASSES)
address = as_function((types.intp,) * 4, _address)
plain = as_function((types.intp,) * 4, _plain)
hashed = as_function((types.intp,) * 3 + (types.uint32,) + (types.intp,) * 2, _hashed)
add_signs = as_function((types.intp,) * 5, _add_signs)
move = as_function((types.intp,) * 3, _move)
