"""The micro-kernels of products of signs, as numba intrinsics that emit LLVM IR.

A sign is a bit, 1 for negative. The product of two lines of k signs is k − 2·(number of differing bits): an exclusive
or and a population count of 32 signs at once, in every 32-bit lane of a vector. AVX-512 counts lanes in one
instruction; elsewhere LLVM counts bytes by table, and the lanes are put together after at most 31 words of 32 signs.

A *word* is an int32 of 32 signs along k. Addresses and strides are integers, in bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from tithe.simd import Emitter, as_function, host_features

__all__ = ["COLUMNS", "LONGEST", "ROWS", "WORD", "add_products", "signs_across", "signs_along"]

_COUNTS_LANES = "avx512vpopcntdq" in host_features()
_LANES = 16 if _COUNTS_LANES else 8
_ACROSS = 4  # vectors
ROWS, COLUMNS = (4 if _COUNTS_LANES else 2), _ACROSS * _LANES  # of a tile
LONGEST = 1 << 20 if _COUNTS_LANES else 31  # words: what a count, of a lane or of a byte, has room for
WORD = 32  # signs

_I8, _I32, _F32 = ir.IntType(8), ir.IntType(32), ir.FloatType()
_SUMS, _BYTES, _PAIRS = ir.VectorType(_I32, _LANES), ir.VectorType(_I8, 32), ir.VectorType(ir.IntType(16), 16)
_ABS = {16: "llvm.fabs.v16f32", 8: "llvm.fabs.v8f32"}


def _add_products(
    emit: Emitter, tile: Any, left: Any, left_stride: Any, right: Any, right_stride: Any, words: Any
) -> None:
    """Take twice the number of differing bits from a tile of int32, row by row; ``words`` (at least 1) of each line.

    ``right`` holds a word of each of ``COLUMNS`` columns, then the next; ``words`` is at most ``LONGEST``.
    """
    builder = emit.builder
    kind = _SUMS if _COUNTS_LANES else _BYTES

    def body(state: list[Any]) -> list[Any]:
        a, b, *counts = state
        columns = [emit.load(b, 4 * _LANES * j, kind) for j in range(_ACROSS)]
        row = a
        for i in range(ROWS):
            signs = builder.bitcast(emit.splat(emit.load(row, 0, _I32), _LANES), kind)
            for j, column in enumerate(columns):
                differing = emit.call(_name("ctpop", kind), kind, builder.xor(signs, column))
                counts[i * _ACROSS + j] = builder.add(counts[i * _ACROSS + j], differing)
            row = builder.add(row, left_stride)
        return [emit.move(a, 4), builder.add(b, right_stride), *counts]

    zero = ir.Constant(kind, [0] * kind.count)
    for t, count in enumerate(emit.loop(words, [left, right, *[zero] * (ROWS * _ACROSS)], body)[2:]):
        if _COUNTS_LANES:
            less = builder.mul(count, ir.Constant(_SUMS, [-2] * _LANES))
        else:
            pairs = emit.call("llvm.x86.avx2.pmadd.ub.sw", _PAIRS, count, ir.Constant(_BYTES, [-2] * 32))
            less = emit.call("llvm.x86.avx2.pmadd.wd", _SUMS, pairs, ir.Constant(_PAIRS, [1] * 16))
        at = 4 * _LANES * t
        emit.store(builder.add(emit.load(tile, at, _SUMS), less), tile, at)


def _signs_along(emit: Emitter, line: Any, shift: Any, words: Any, target: Any, total: Any) -> None:
    """The signs of ``words`` (at least 1) times 32 numbers that follow each other, less ``shift``, and their Σ|x|.

    The 32 partial sums go to ``total``.
    """
    builder, numbers = emit.builder, ir.VectorType(_F32, 32)
    shifts = emit.splat(shift, 32)

    def body(state: list[Any]) -> list[Any]:
        source, to, sums = state
        x = emit.load(source, 0, numbers)
        emit.store(builder.bitcast(builder.fcmp_ordered("<", x, shifts), _I32), to, 0)
        size = emit.call("llvm.fabs.v32f32", numbers, builder.fsub(x, shifts))
        return [emit.move(source, 4 * WORD), emit.move(to, 4), builder.fadd(sums, size)]

    state = [line, target, ir.Constant(numbers, [0.0] * 32)]
    emit.store(emit.loop(words, state, body)[2], total, 0)


def _signs_across(emit: Emitter, source: Any, stride: Any, shifts: Any, count: Any, target: Any, totals: Any) -> None:
    """A word of each of ``COLUMNS`` columns, of ``count`` (1 to 32) rows less ``shifts``; adds Σ|x| to ``totals``."""
    builder = emit.builder
    floats = ir.VectorType(_F32, _LANES)
    at = [4 * _LANES * j for j in range(_ACROSS)]
    shift = [emit.load(shifts, offset, floats) for offset in at]
    zero, one = ir.Constant(_SUMS, [0] * _LANES), ir.Constant(_SUMS, [1] * _LANES)

    def body(state: list[Any]) -> list[Any]:
        row, bit, *rest = state
        words, sums = rest[:_ACROSS], rest[_ACROSS:]
        for j in range(_ACROSS):
            x = emit.load(row, at[j], floats)
            negative = builder.fcmp_ordered("<", x, shift[j])
            words[j] = builder.or_(words[j], builder.select(negative, bit, zero))
            size = emit.call(_ABS[_LANES], floats, builder.fsub(x, shift[j]))
            sums[j] = builder.fadd(sums[j], size)
        return [builder.add(row, stride), builder.shl(bit, one), *words, *sums]

    before = [emit.load(totals, offset, floats) for offset in at]
    after = emit.loop(count, [source, one, *[zero] * _ACROSS, *before], body)[2:]
    for j in range(_ACROSS):
        emit.store(after[j], target, at[j])
        emit.store(after[_ACROSS + j], totals, at[j])


def _name(operation: str, kind: Any) -> str:
    return f"llvm.{operation}.v{kind.count}i{kind.element.width}"


_i, _f = types.intp, types.float32
add_products = as_function((_i,) * 6, _add_products)
signs_along = as_function((_i, _f, _i, _i, _i), _signs_along)
signs_across = as_function((_i,) * 6, _signs_across)
