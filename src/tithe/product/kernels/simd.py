"""The micro-kernels of the int8 product, as a numba intrinsic that emits LLVM IR.

Numba cannot keep SIMD sums in registers across a loop, so the whole loop over k is written here.

A tile is ``rows`` x ``columns`` int32 sums. Its operands lie in memory in the order in which the loop reads them: one
*step* is, for each row, four bytes that follow each other along k (two int16 for the wide kernel), then the same for
the next row; and likewise for columns. To the processor such a quadruple is a 32-bit lane, whatever it holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tithe.simd import Emitter

__all__ = [
    "GROUPS",
    "KERNELS",
    "ROUND",
    "Avx2",
    "Avx512Vnni",
    "AvxVnni",
    "Kernel",
    "accumulate",
]


class Avx2(NamedTuple):
    """256 bits. pmaddubsw adds two u8·s8 products into an int16 that saturates, so the entries' sizes matter.

    ``group`` steps are added up in int16 before they are widened to int32; 0 stands for int16 operands and pmaddwd,
    which take all of int8. The cores retire about three vector operations a cycle, and a group of g is 2g + 1 of them
    for 32·g products: the longer the groups the faster, up to twice as fast as without.
    """

    group: int
    rows: int = 4
    columns: int = 16


class AvxVnni(NamedTuple):
    """256 bits. vpdpbusd adds four u8·s8 products straight to an int32."""

    group: int = 1
    rows: int = 4
    columns: int = 24


class Avx512Vnni(NamedTuple):
    """512 bits, vpdpbusd."""

    group: int = 1
    rows: int = 12
    columns: int = 32


Kernel = Avx2 | AvxVnni | Avx512Vnni
KERNELS: dict[str, type[Kernel]] = {"avx512vnni": Avx512Vnni, "avxvnni": AvxVnni, "avx2": Avx2}  # by LLVM's name
GROUPS = (0, 1, 2, 4, 8, 16)  # of Avx2
ROUND = 2  # steps that one round of a loop takes at least; more made LLVM spill sums

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _PAIRS, _SUMS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_I32, 8)
_DPBUSD = {Avx512Vnni: ("llvm.x86.avx512.vpdpbusd.512", 16), AvxVnni: ("llvm.x86.avx512.vpdpbusd.256", 8)}


def _in_registers(emit: Emitter, kind: type[Kernel], group: int, at: list[Any], rounds: Any) -> None:
    """Int32 sums in registers: read from memory before the loop, written back after it."""
    lanes = _DPBUSD[kind][1] if kind in _DPBUSD else 8
    rows, across, size = kind._field_defaults["rows"], kind._field_defaults["columns"] // lanes, 4 * lanes
    operand = _PAIRS if group == 0 else ir.VectorType(_I8, size)
    per = max(group, 1)

    def body(state: list[Any]) -> list[Any]:
        a, b, *tile = state
        for first in range(0, ROUND, per):
            steps = range(first, first + per)
            right = [[emit.load(b, size * (s * across + j), operand) for j in range(across)] for s in steps]
            for i in range(rows):
                left = [emit.splat(emit.load(a, 4 * (s * rows + i), _I32), lanes) for s in steps]
                for j in range(across):
                    t = i * across + j
                    tile[t] = _multiply_add(emit, kind, group, tile[t], left, [row[j] for row in right])
        return [emit.move(a, 4 * rows * ROUND), emit.move(b, size * across * ROUND), *tile]

    sums = ir.VectorType(_I32, lanes)
    tile = [emit.load(at[0], size * t, sums) for t in range(rows * across)]
    for t, value in enumerate(emit.loop(rounds, [*at[1:], *tile], body)[2:]):
        emit.store(value, at[0], size * t)


def _in_memory(emit: Emitter, group: int, at: list[Any], rounds: Any) -> None:
    """Int16 sums in registers over a long group; int32 sums, which then are the rarer, in memory."""
    rows, across = Avx2(group).rows, Avx2(group).columns // 8

    def body(state: list[Any]) -> list[Any]:
        a, b = state
        tile: list[Any] = [None] * (rows * across)
        for s in range(group):
            right = [emit.load(b, 32 * (s * across + j), _BYTES) for j in range(across)]
            for i in range(rows):
                left = emit.splat(emit.load(a, 4 * (s * rows + i), _I32), 8)
                for j in range(across):
                    tile[i * across + j] = _add_pairs(emit, tile[i * across + j], left, right[j])
        for t, pairs in enumerate(tile):
            emit.store(_widen_add(emit, emit.load(at[0], 32 * t, _SUMS), pairs), at[0], 32 * t)
        return [emit.move(a, 4 * rows * group), emit.move(b, 32 * across * group)]

    emit.loop(rounds, at[1:], body)


def _multiply_add(emit: Emitter, kind: type[Kernel], group: int, acc: Any, left: list[Any], right: list[Any]) -> Any:
    if kind in _DPBUSD:
        return emit.call(_DPBUSD[kind][0], acc.type, acc, left[0], emit.builder.bitcast(right[0], acc.type))
    if group == 0:
        pairs = emit.builder.bitcast(left[0], _PAIRS)
        return emit.builder.add(acc, emit.call("llvm.x86.avx2.pmadd.wd", _SUMS, pairs, right[0]))
    pairs = None
    for x, y in zip(left, right, strict=True):
        pairs = _add_pairs(emit, pairs, x, y)
    return _widen_add(emit, acc, pairs)


def _add_pairs(emit: Emitter, total: Any, left: Any, right: Any) -> Any:
    pairs = emit.call("llvm.x86.avx2.pmadd.ub.sw", _PAIRS, emit.builder.bitcast(left, _BYTES), right)
    return pairs if total is None else emit.builder.add(total, pairs)


def _widen_add(emit: Emitter, acc: Any, pairs: Any) -> Any:
    ones = ir.Constant(_PAIRS, [1] * 16)
    return emit.builder.add(acc, emit.call("llvm.x86.avx2.pmadd.wd", _SUMS, pairs, ones))


def _accumulate(context: Any, kernel: Any, group: Any, sums: Any, left: Any, right: Any, rounds: Any) -> Any:
    """Add the products of ``rounds`` (at least 1) of ``max(group, ROUND)`` steps each to a tile; all addresses.

    The type of ``kernel`` says which instructions; of its groups, which need not be its own, one is chosen at run time.
    """
    kind = kernel.instance_class

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, which, *at, times = args
        emit = Emitter(builder)
        if kind is not Avx2:
            _in_registers(emit, kind, 1, at, times)
            return context.get_dummy_value()
        end = builder.append_basic_block("end")
        choice = builder.switch(which, end)
        for g in GROUPS:
            block = builder.append_basic_block(f"group{g}")
            choice.add_case(ir.Constant(_I64, g), block)
            builder.position_at_end(block)
            if g <= ROUND:
                _in_registers(emit, Avx2, g, at, times)
            else:
                _in_memory(emit, g, at, times)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    i = types.intp
    return types.void(kernel, i, i, i, i, i), codegen


accumulate = intrinsic(_accumulate)
