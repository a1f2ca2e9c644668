"""The int8 product with AVX2: one row of the left operand against a panel of 32 columns of the right one.

pmaddubsw multiplies unsigned by signed bytes and adds two products into an int16 that saturates, so what is multiplied
decides how often sums have to be widened to int32: after each *group* of steps, a step being four bytes along k.
The longer the groups the faster, since pmaddubsw and the pmaddwd that widens share two units: a group of g is g of the
one and one of the other for 128·g products. A group of 0 stands for int16 operands and pmaddwd, which take all of int8.

One row at a time, the left operand is used as it lies in memory; the panel is read from the first-level cache, which
keeps up; and the sums are scaled and written out while they are in registers. All rows pass a panel in one loop: each
writes to another page, so that what will be written has to be fetched some rows before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types

from tithe.simd import Emitter, as_function

__all__ = ["GROUPS", "Avx2", "multiply_rows"]

GROUPS = (0, 1, 2, 4, 8)
_WIDTH = 32  # columns of a panel
_VECTORS = _WIDTH // 8
_ROUND = 2  # steps of one round of the loop, at least
_DEPTH = 192  # steps of a panel that stay in the first-level cache while rows pass by
_AHEAD = 4  # rows, by which the memory to be written is fetched before

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES, _PAIRS = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(16), 16)
_SUMS, _FLOATS = ir.VectorType(_I32, 8), ir.VectorType(ir.FloatType(), 8)


_Write = Callable[[Emitter, Any, list[Any], list[Any]], None]


class Avx2(NamedTuple):
    """256 bits; ``group`` steps are added up in int16."""

    group: int
    rows: int = 1
    columns: int = _WIDTH


def _over_rows(
    emit: Emitter, group: Any, rows: Any, source: Any, target: Any, operands: Any, more: list[Any], write: _Write
) -> None:
    """``write`` the sums of each of ``rows`` (at least 1) rows and a panel, on top of those at ``source``.

    Args:
        emit: where to.
        group: of ``GROUPS``, known at run time.
        rows: how many.
        source: address of 32 int32 and bytes from row to row.
        target: address of the result and bytes from row to row.
        operands: address of the left one, bytes from row to row; that of the panel, steps.
        more: addresses of what else belongs to a row, four bytes each.
        write: takes the emitter, ``target``, the sums in registers, and ``more``.
    """
    (source, from_next), (target, to_next), (left, left_next, panel, steps) = source, target, operands
    builder = emit.builder
    ahead = builder.mul(to_next, ir.Constant(_I64, _AHEAD))

    def body(state: list[Any], one: int) -> list[Any]:
        source, target, left, *more = state
        for line in range(0, 4 * _WIDTH, 64):  # what will be written comes while sums are made
            emit.prefetch(builder.add(target, ahead), line, write=True)
        write(emit, target, _sums(emit, one, source, left, panel, steps), more)
        moved = [builder.add(at, by) for at, by in ((source, from_next), (target, to_next), (left, left_next))]
        return [*moved, *(emit.move(at, 4) for at in more)]

    end = builder.append_basic_block("end")
    choice = builder.switch(group, end)
    for one in GROUPS:
        block = builder.append_basic_block(f"group{one}")
        choice.add_case(ir.Constant(_I64, one), block)
        builder.position_at_end(block)
        emit.loop(rows, [source, target, left, *more], partial(body, one=one))
        builder.branch(end)
    builder.position_at_end(end)


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


def _add(
    emit: Emitter, group: Any, rows: Any, source: Any, from_next: Any, target: Any, to_next: Any,
    left: Any, left_next: Any, panel: Any, steps: Any,
) -> None:  # fmt: skip
    """The sums, as int32."""

    def write(emit: Emitter, target: Any, sums: list[Any], more: list[Any]) -> None:
        for j, total in enumerate(sums):
            emit.store(total, target, 32 * j)

    operands = left, left_next, panel, steps
    _over_rows(emit, group, rows, (source, from_next), (target, to_next), operands, [], write)


def _finish(
    emit: Emitter, group: Any, rows: Any, source: Any, from_next: Any, target: Any, to_next: Any,
    left: Any, left_next: Any, panel: Any, steps: Any, row_scale: Any, u: Any, column_scale: Any, v: Any, bias: Any,
) -> None:  # fmt: skip
    """``(sums·row_scale)·column_scale + (u·v + bias)`` as float32."""

    def write(emit: Emitter, target: Any, sums: list[Any], more: list[Any]) -> None:
        builder = emit.builder
        row, left = (emit.splat(emit.load(at, 0, ir.FloatType()), 8) for at in more)
        for j, total in enumerate(sums):
            scaled = builder.fmul(builder.sitofp(total, _FLOATS), row)
            extra = builder.fmul(left, emit.load(v, 32 * j, _FLOATS))
            extra = builder.fadd(extra, emit.load(bias, 32 * j, _FLOATS))
            scaled = builder.fmul(scaled, emit.load(column_scale, 32 * j, _FLOATS))
            emit.store(builder.fadd(scaled, extra), target, 32 * j)

    operands = left, left_next, panel, steps
    _over_rows(emit, group, rows, (source, from_next), (target, to_next), operands, [row_scale, u], write)


_add_rows = as_function((types.intp,) * 10, _add)
_finish_rows = as_function((types.intp,) * 15, _finish)


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
    rows, n = last - first, max(exact.shape[1], scaled.shape[1])
    if rows <= 0:
        return
    out = (exact.ctypes.data if len(exact) else scaled.ctypes.data) + first * n * 4
    memory = np.empty((rows + 1) * _WIDTH, np.int32)
    at = (-memory.ctypes.data) % 64 // 4
    held, wide = memory.ctypes.data + at * 4, _WIDTH * 4
    passes = -(-steps // _DEPTH)
    depth = -(-steps // (passes * 8)) * 8
    for column in range(0, n, _WIDTH):
        whole, c = column + _WIDTH <= n, column * 4
        source, from_next = start.ctypes.data + c, 0
        for begin in range(0, steps, depth):
            count, ends = min(depth, steps - begin), begin + depth >= steps
            target, to_next = (out + c, n * 4) if ends and whole else (held, wide)
            a, panel = left + (first * steps + begin) * 4, right + (column * steps + begin * _WIDTH) * 4
            if ends and not len(exact):
                _finish_rows(
                    group, rows, source, from_next, target, to_next, a, steps * 4, panel, count,
                    row_scale.ctypes.data + first * 4, u.ctypes.data + first * 4,
                    column_scale.ctypes.data + c, v.ctypes.data + c, bias.ctypes.data + c,
                )  # fmt: skip
            else:
                _add_rows(group, rows, source, from_next, target, to_next, a, steps * 4, panel, count)
            source, from_next = held, wide
        if not whole:
            sums = memory[at : at + rows * _WIDTH].reshape(rows, _WIDTH)[:, : n - column]
            if len(exact):
                exact[first:last, column:] = sums
            else:
                scaled[first:last, column:] = sums.view(np.float32)
