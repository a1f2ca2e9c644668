"""What brings bytes into the order of the micro-kernels and sums back out of it, as numba intrinsics.

Plain vector shuffles, which LLVM turns into whatever the processor has. Written out because numba's loops over bytes
are ten times slower. Addresses and strides are integers, in bytes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir
from numba import types

from tithe.simd import Emitter, as_function

__all__ = [
    "copy",
    "scale",
    "shift_line",
    "shift_line_wide",
    "weave_lines",
    "weave_lines_wide",
    "weave_step",
    "weave_step_wide",
]

_I8, _I32, _WORDS = ir.IntType(8), ir.IntType(32), ir.VectorType(ir.IntType(16), 8)
_EIGHT, _FLOATS = ir.VectorType(_I32, 8), ir.VectorType(ir.FloatType(), 8)


def _weave_lines(wide: bool, emit: Emitter, source: Any, stride: Any, offset: Any, target: Any, step: Any) -> None:
    """Four lines of four steps each, k along the line, into four steps; a transposition of 4 x 4 lanes."""
    builder, lines = emit.builder, []
    for _ in range(4):
        line = emit.load(source, 0, ir.VectorType(_I8, 8 if wide else 16))
        line = builder.sext(line, _WORDS) if wide else builder.add(line, emit.splat(builder.trunc(offset, _I8), 16))
        lines.append(builder.bitcast(line, ir.VectorType(_I32, 4)))
        source = builder.add(source, stride)
    for order in ([0, 4, 1, 5], [2, 6, 3, 7]):
        top, bottom = (emit.shuffle(lines[i], lines[i + 1], order) for i in (0, 2))
        for half in ([0, 1, 4, 5], [2, 3, 6, 7]):
            emit.store(emit.shuffle(top, bottom, half), target, 0)
            target = builder.add(target, step)


def _shift_line(wide: bool, emit: Emitter, source: Any, offset: Any, target: Any, count: Any) -> None:
    """``count`` (at least 1) times 16 bytes that follow each other: plus ``offset``, or widened to int16."""
    builder = emit.builder
    offsets = emit.splat(builder.trunc(offset, _I8), 16)

    def body(at: list[Any]) -> list[Any]:
        line = emit.load(at[0], 0, ir.VectorType(_I8, 16))
        line = builder.sext(line, ir.VectorType(ir.IntType(16), 16)) if wide else builder.add(line, offsets)
        emit.store(line, at[1], 0)
        return [emit.move(at[0], 16), emit.move(at[1], 32 if wide else 16)]

    emit.loop(count, [source, target], body)


def _weave_step(wide: bool, emit: Emitter, source: Any, stride: Any, target: Any) -> None:
    """One step of eight columns, k down the rows: from four rows of eight bytes, or two that are widened to int16."""
    builder, rows = emit.builder, []
    for _ in range(2 if wide else 4):
        row = emit.load(source, 0, ir.VectorType(_I8, 8))
        rows.append(builder.sext(row, _WORDS) if wide else row)
        source = builder.add(source, stride)
    zipped = [i + 8 * half for i in range(8) for half in (0, 1)]
    if not wide:
        rows = [builder.bitcast(emit.shuffle(rows[i], rows[i + 1], zipped), _WORDS) for i in (0, 2)]
    emit.store(emit.shuffle(rows[0], rows[1], zipped), target, 0)


def _copy(emit: Emitter, source: Any, target: Any, count: Any) -> None:
    """``count`` (at least 1) times eight int32."""

    def body(at: list[Any]) -> list[Any]:
        emit.store(emit.load(at[0], 0, _EIGHT), at[1], 0)
        return [emit.move(x, 32) for x in at]

    emit.loop(count, [source, target], body)


def _scale(emit: Emitter, source: Any, target: Any, count: Any, row: Any, columns: Any, u: Any, v: Any) -> None:
    """``count`` (at least 1) times eight int32, as float32 ``(source·row)·columns + u·v``."""
    builder = emit.builder
    rows, us = emit.splat(row, 8), emit.splat(u, 8)

    def body(at: list[Any]) -> list[Any]:
        sums = builder.fmul(builder.sitofp(emit.load(at[0], 0, _EIGHT), _FLOATS), rows)
        extra = builder.fmul(us, emit.load(at[3], 0, _FLOATS))
        emit.store(builder.fadd(builder.fmul(sums, emit.load(at[2], 0, _FLOATS)), extra), at[1], 0)
        return [emit.move(x, 32) for x in at]

    emit.loop(count, [source, target, columns, v], body)


_i, _f = types.intp, types.float32
weave_lines = as_function((_i,) * 5, partial(_weave_lines, False))
weave_lines_wide = as_function((_i,) * 5, partial(_weave_lines, True))
shift_line = as_function((_i,) * 4, partial(_shift_line, False))
shift_line_wide = as_function((_i,) * 4, partial(_shift_line, True))
weave_step = as_function((_i,) * 3, partial(_weave_step, False))
weave_step_wide = as_function((_i,) * 3, partial(_weave_step, True))
copy = as_function((_i,) * 3, _copy)
scale = as_function((_i, _i, _i, _f, _i, _f, _i), _scale)
