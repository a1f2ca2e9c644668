"""The int8 product with AVX2: one row of the left operand against a panel of 32 columns of the right one.

pmaddubsw multiplies unsigned by signed bytes and adds two products into an int16 that saturates, so what is multiplied
decides how often sums have to be widened to int32: after each *group* of steps, a step being four bytes along k.
The longer the groups the faster, since pmaddubsw and the pmaddwd that widens share two units: a group of g is g of the
one and one of the other for 128·g products. A group of 0 stands for int16 operands and pmaddwd, which take all of int8.

One row at a time, the left operand is used as it lies in memory; the panel is read from the first-level cache, which
keeps up; and the sums are scaled and written out while they are in registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tithe.simd import Emitter

__all__ = ["GROUPS", "Avx2", "multiply_rows"]

GROUPS = (0, 1, 2, 4, 8)
_WIDTH = 32  # columns of a panel
_VECTORS = _WIDTH // 8
_ROUND = 2  # steps of one round of the loop, at least
_DEPTH = 192  # steps of a panel that stay in the first-level cache while rows pass by

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES, _PAIRS = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(16), 16)
_SUMS, _FLOATS = ir.VectorType(_I32, 8), ir.VectorType(ir.FloatType(), 8)


class Avx2(NamedTuple):
    """256 bits; ``group`` steps are added up in int16."""

    group: int
    rows: int = 1
    columns: int = _WIDTH


def _sums(emit: Emitter, group: int, source: Any, left: Any, right: Any, steps: Any) -> list[Any]:
    """Sums of a row and a panel in registers, on top of what lies at ``source``."""
    count, per = max(group, _ROUND), max(group, 1)

    def body(state: list[Any]) -> list[Any]:
        a, b, *totals = state
        for first in range(0, count, per):
            sums: list[Any] = [None] * _VECTORS
            for s in range(first, first + per):
                row = emit.splat(emit.load(a, 4 * s, _I32), 8)
                for j in range(_VECTORS):
                    sums[j] = _add_pairs(emit, group, sums[j], row, emit.load(b, 32 * (s * _VECTORS + j), _BYTES))
            for j in range(_VECTORS):
                totals[j] = emit.builder.add(totals[j], sums[j] if group == 0 else _widen(emit, sums[j]))
        return [emit.move(a, 4 * count), emit.move(b, 32 * _VECTORS * count), *totals]

    rounds = emit.builder.udiv(steps, ir.Constant(_I64, count))
    start = [emit.load(source, 32 * j, _SUMS) for j in range(_VECTORS)]
    return emit.loop(rounds, [left, right, *start], body)[2:]


def _add_pairs(emit: Emitter, group: int, total: Any, left: Any, right: Any) -> Any:
    """``total`` plus sums of neighbouring products: of bytes in int16, or of int16 in int32 where ``group`` is 0."""
    if group == 0:
        left, right = (emit.builder.bitcast(x, _PAIRS) for x in (left, right))
        pairs = emit.call("llvm.x86.avx2.pmadd.wd", _SUMS, left, right)
    else:
        pairs = emit.call("llvm.x86.avx2.pmadd.ub.sw", _PAIRS, emit.builder.bitcast(left, _BYTES), right)
    return pairs if total is None else emit.builder.add(total, pairs)


def _widen(emit: Emitter, pairs: Any) -> Any:
    return emit.call("llvm.x86.avx2.pmadd.wd", _SUMS, pairs, ir.Constant(_PAIRS, [1] * 16))


def _for_each_group(emit: Emitter, which: Any, write: Any) -> None:
    """``write(group)`` in a branch of its own; ``which`` decides at run time."""
    builder = emit.builder
    end = builder.append_basic_block("end")
    choice = builder.switch(which, end)
    for group in GROUPS:
        block = builder.append_basic_block(f"group{group}")
        choice.add_case(ir.Constant(_I64, group), block)
        builder.position_at_end(block)
        write(group)
        builder.branch(end)
    builder.position_at_end(end)


def _add(context: Any, group: Any, source: Any, target: Any, left: Any, right: Any, steps: Any) -> Any:
    """Sums of a row and a panel, on top of those at ``source``, to ``target``; all addresses."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit, (which, source, target, *operands) = Emitter(builder), values

        def write(group: int) -> None:
            for j, total in enumerate(_sums(emit, group, source, *operands)):
                emit.store(total, target, 32 * j)

        _for_each_group(emit, which, write)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, i, i, i, i), codegen


def _finish(
    context: Any, group: Any, source: Any, target: Any, left: Any, right: Any, steps: Any,
    row: Any, columns: Any, u: Any, v: Any, bias: Any,
) -> Any:  # fmt: skip
    """As ``_add``, with the last sums written as float32 ``(sums·row)·columns + (u·v + bias)``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit, (which, source, target, *operands, row, columns, u, v, bias) = Emitter(builder), values
        rows, us = emit.splat(row, 8), emit.splat(u, 8)
        for line in range(0, 4 * _WIDTH, 64):  # what will be written comes while the sums are made
            emit.prefetch(target, line, write=True)

        def write(group: int) -> None:
            for j, total in enumerate(_sums(emit, group, source, *operands)):
                scaled = builder.fmul(builder.sitofp(total, _FLOATS), rows)
                extra = builder.fmul(us, emit.load(v, 32 * j, _FLOATS))
                extra = builder.fadd(extra, emit.load(bias, 32 * j, _FLOATS))
                scaled = builder.fmul(scaled, emit.load(columns, 32 * j, _FLOATS))
                emit.store(builder.fadd(scaled, extra), target, 32 * j)

        _for_each_group(emit, which, write)
        return context.get_dummy_value()

    i, f = types.intp, types.float32
    return types.void(i, i, i, i, i, i, f, i, f, i, i), codegen


_add_panel = intrinsic(_add)
_finish_panel = intrinsic(_finish)


@numba.njit(nogil=True, cache=True)
def multiply_rows(
    first, last, group, left, right, steps, start, exact, scaled, row_scale, column_scale, u, v, bias
):  # fmt: skip
    """Rows ``first``..``last`` of the product, into ``exact`` (int32) or, if that is empty, ``scaled``.

    Args:
        first: of the rows, which should fit into the second-level cache.
        last: one past the last of them.
        group: of ``GROUPS``; the caller sees to it that no int16 sum can overflow.
        left: address of the rows, ``steps`` times four bytes each, unsigned (int16 pairs for group 0).
        right: address of the panels.
        steps: along k, a multiple of 8.
        start: int32, what the sums start from; as all that belongs to columns, filled up to whole panels.
        exact: (m, n), or empty.
        scaled: float32 (m, n): ``(sums·row_scale)·column_scale + (u·v + bias)``.
        row_scale: float32 (m,), as ``u``.
        column_scale: float32 (n, filled up), as ``v`` and ``bias``.
        u: left vector of a rank-one matrix.
        v: right one.
        bias: added to every row.
    """
    n = max(exact.shape[1], scaled.shape[1])
    sums = np.empty(((last - first + 1) * _WIDTH + 16), np.int32)
    partial = sums.ctypes.data + (-sums.ctypes.data) % 64
    ragged = partial + (last - first) * _WIDTH * 4
    at = (ragged - sums.ctypes.data) // 4
    passes = -(-steps // _DEPTH)
    depth = -(-steps // (passes * 8)) * 8
    for column in range(0, n, _WIDTH):
        width = min(_WIDTH, n - column)
        for begin in range(0, steps, depth):
            count = min(depth, steps - begin)
            for i in range(first, last):
                a, b = left + (i * steps + begin) * 4, right + (column * steps + begin * _WIDTH) * 4
                held = partial + (i - first) * _WIDTH * 4
                source = held if begin else start.ctypes.data + column * 4
                if begin + count < steps:
                    _add_panel(group, source, held, a, b, count)
                elif len(exact):
                    whole = exact.ctypes.data + (i * n + column) * 4
                    _add_panel(group, source, whole if width == _WIDTH else ragged, a, b, count)
                    if width < _WIDTH:
                        exact[i, column:] = sums[at : at + width]
                else:
                    whole = scaled.ctypes.data + (i * n + column) * 4
                    _finish_panel(
                        group, source, whole if width == _WIDTH else ragged, a, b, count,
                        row_scale[i], column_scale.ctypes.data + column * 4,
                        u[i], v.ctypes.data + column * 4, bias.ctypes.data + column * 4,
                    )  # fmt: skip
                    if width < _WIDTH:
                        scaled[i, column:] = sums[at : at + width].view(np.float32)
