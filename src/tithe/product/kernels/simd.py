"""The vector instructions behind the int8 product, as numba intrinsics that emit LLVM IR.

Numba cannot keep SIMD accumulators in registers across a loop, so the whole loop of a micro-kernel is written here.

A tile is ``rows`` x ``columns`` int32 sums. Its operands lie in memory in the order in which the loop reads them: one
*step* is, for each row, the bytes of four neighbouring k (two int16 where a tile is *wide*), then the same for the next
row; and likewise for columns. A step is a 32-bit lane to the processor, whatever it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = [
    "GROUPS",
    "KERNELS",
    "ROUND",
    "Avx2",
    "Avx512Vnni",
    "AvxVnni",
    "Kernel",
    "accumulate",
    "copy",
    "host_features",
    "scale",
    "weave_lines",
    "weave_lines_wide",
    "weave_step",
    "weave_step_wide",
]


class Avx2(NamedTuple):
    """256 bits, pmaddubsw: u8 x s8 products, added in pairs to an int16 that saturates, so levels limit the operands.

    ``group`` steps are added up in int16 before they are widened; 0 stands for int16 operands and pmaddwd, which takes
    all of int8. Fewer widenings are faster: the bound is the three vector operations a cycle that the cores retire.
    """

    group: int
    rows: int = 4
    columns: int = 16


class AvxVnni(NamedTuple):
    """256 bits, vpdpbusd: four u8 x s8 products added straight to an int32."""

    group: int = 1
    rows: int = 4
    columns: int = 24


class Avx512Vnni(NamedTuple):
    """512 bits, vpdpbusd."""

    group: int = 1
    rows: int = 12
    columns: int = 32


Kernel = Avx2 | AvxVnni | Avx512Vnni
KERNELS: dict[str, type[Kernel]] = {"avx512vnni": Avx512Vnni, "avxvnni": AvxVnni, "avx2": Avx2}
GROUPS = (0, 1, 2, 4, 8, 16)  # of Avx2
ROUND = 2  # steps that every round of a loop takes at least

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_DPBUSD = {Avx512Vnni: ("llvm.x86.avx512.vpdpbusd.512", 16), AvxVnni: ("llvm.x86.avx512.vpdpbusd.256", 8)}


@functools.cache
def host_features() -> frozenset[str]:
    """What numba compiles for here, in LLVM's names; the user may have narrowed it (``NUMBA_CPU_NAME``)."""
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(f[1:] for f in features.split(",") if f.startswith("+"))


class _Emitter:
    """The few IR idioms that the intrinsics share."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def pointer(self, base: Any, offset: int, kind: Any) -> Any:
        at = self.builder.add(base, ir.Constant(_I64, offset))
        return self.builder.inttoptr(at, kind.as_pointer())

    def load(self, base: Any, offset: int, kind: Any) -> Any:
        value = self.builder.load(self.pointer(base, offset, kind))
        value.align = 1  # aligned or not, the instruction is the same
        return value

    def store(self, value: Any, base: Any, offset: int) -> None:
        self.builder.store(value, self.pointer(base, offset, value.type)).align = 1

    def splat(self, scalar: Any, count: int) -> Any:
        blank = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
        one = self.builder.insert_element(blank, scalar, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(one, blank, ir.Constant(ir.VectorType(_I32, count), [0] * count))

    def shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(order)), order))

    def call(self, name: str, result: Any, *args: Any) -> Any:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [x.type for x in args]), name)
        return self.builder.call(function, args)

    def loop(self, count: Any, state: list[Any], body: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """``state = body(state)``, ``count`` (at least 1) times, with the state in registers."""
        builder, before = self.builder, self.builder.block
        inside, after = builder.append_basic_block("steps"), builder.append_basic_block("done")
        builder.branch(inside)
        builder.position_at_end(inside)
        left = builder.phi(_I64)
        now = [builder.phi(x.type) for x in state]
        then = body(now)
        fewer = builder.sub(left, ir.Constant(_I64, 1))
        for phi, first, later in zip([left, *now], [count, *state], [fewer, *then], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, builder.block)
        builder.cbranch(builder.icmp_unsigned("!=", fewer, ir.Constant(_I64, 0)), inside, after)
        builder.position_at_end(after)
        return then


def _tile_in_registers(emit: _Emitter, kind: type[Kernel], wide: bool, group: int, at: list[Any], count: Any) -> None:
    """Int32 sums in registers: read from memory before the loop, written back after it."""
    lanes = _DPBUSD[kind][1] if kind in _DPBUSD else 8
    rows, across = kind._field_defaults["rows"], kind._field_defaults["columns"] // lanes
    size, sums = 4 * lanes, ir.VectorType(_I32, lanes)
    operand = ir.VectorType(_I16, 2 * lanes) if wide else ir.VectorType(_I8, size)
    acc = at[0]

    def body(state: list[Any]) -> list[Any]:
        a, b, *tile = state
        for first in range(0, ROUND, group):
            steps = range(first, first + group)
            right = [[emit.load(b, size * (s * across + j), operand) for j in range(across)] for s in steps]
            for i in range(rows):
                lefts = [emit.splat(emit.load(a, 4 * (s * rows + i), _I32), lanes) for s in steps]
                for j in range(across):
                    column = [row[j] for row in right]
                    tile[i * across + j] = _multiply_add(emit, kind, wide, tile[i * across + j], lefts, column)
        move = [(a, 4 * rows * ROUND), (b, size * across * ROUND)]
        return [*(emit.builder.add(p, ir.Constant(_I64, by)) for p, by in move), *tile]

    tile = [emit.load(acc, size * t, sums) for t in range(rows * across)]
    for t, value in enumerate(emit.loop(count, [*at[1:], *tile], body)[2:]):
        emit.store(value, acc, size * t)


def _multiply_add(emit: _Emitter, kind: type[Kernel], wide: bool, acc: Any, lefts: list[Any], rights: list[Any]) -> Any:
    sums = acc.type
    if kind in _DPBUSD:
        words = emit.builder.bitcast(rights[0], sums)
        return emit.call(_DPBUSD[kind][0], sums, acc, lefts[0], words)
    left = [emit.builder.bitcast(x, rights[0].type) for x in lefts]
    if wide:
        return emit.builder.add(acc, emit.call("llvm.x86.avx2.pmadd.wd", sums, left[0], rights[0]))
    return emit.builder.add(acc, _widen(emit, _sum16(emit, left, rights, None)))


def _sum16(emit: _Emitter, lefts: list[Any], rights: list[Any], total: Any) -> Any:
    for left, right in zip(lefts, rights, strict=True):
        pairs = emit.call("llvm.x86.avx2.pmadd.ub.sw", ir.VectorType(_I16, 16), left, right)
        total = pairs if total is None else emit.builder.add(total, pairs)
    return total


def _widen(emit: _Emitter, pairs: Any) -> Any:
    ones = ir.Constant(pairs.type, [1] * 16)
    return emit.call("llvm.x86.avx2.pmadd.wd", ir.VectorType(_I32, 8), pairs, ones)


def _tile_in_memory(emit: _Emitter, group: int, at: list[Any], count: Any) -> None:
    """Int16 sums in registers over a long group, int32 sums in memory: the rarer of the two gives up its registers."""
    rows, across, acc = Avx2(group).rows, Avx2(group).columns // 8, at[0]
    bytes32, sums = ir.VectorType(_I8, 32), ir.VectorType(_I32, 8)

    def body(state: list[Any]) -> list[Any]:
        a, b = state
        tile: list[Any] = [None] * (rows * across)
        for s in range(group):
            right = [emit.load(b, 32 * (s * across + j), bytes32) for j in range(across)]
            for i in range(rows):
                left = emit.splat(emit.load(a, 4 * (s * rows + i), _I32), 8)
                left = emit.builder.bitcast(left, bytes32)
                for j in range(across):
                    tile[i * across + j] = _sum16(emit, [left], [right[j]], tile[i * across + j])
        for t, pairs in enumerate(tile):
            old = emit.load(acc, 32 * t, sums)
            emit.store(emit.builder.add(old, _widen(emit, pairs)), acc, 32 * t)
        return [emit.builder.add(p, ir.Constant(_I64, by * group)) for p, by in ((a, 4 * rows), (b, 32 * across))]

    emit.loop(count, at[1:], body)


def _accumulate(context: Any, kernel: Any, group: Any, acc: Any, a: Any, b: Any, count: Any) -> Any:
    kind = kernel.instance_class

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, which, *at, times = args
        emit = _Emitter(builder)
        if kind is not Avx2:
            _tile_in_registers(emit, kind, False, 1, at, times)
            return context.get_dummy_value()
        end = builder.append_basic_block("end")
        choice = builder.switch(which, end)
        for g in GROUPS:
            block = builder.append_basic_block(f"group{g}")
            choice.add_case(ir.Constant(_I64, g), block)
            builder.position_at_end(block)
            if g < 4:
                _tile_in_registers(emit, kind, g == 0, max(g, 1), at, times)
            else:
                _tile_in_memory(emit, g, at, times)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    i = types.intp
    return types.void(kernel, i, i, i, i, i), codegen


def _weave_lines(wide: bool) -> Callable[..., Any]:
    """Four lines of four steps each, along k, into four steps: a transposition of 4 x 4 lanes."""

    def typing(context: Any, source: Any, stride: Any, offset: Any, target: Any, step: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, stride, offset, target, step = args
            emit, lines = _Emitter(builder), []
            for _ in range(4):
                line = emit.load(source, 0, ir.VectorType(_I8, 8 if wide else 16))
                if wide:
                    line = builder.sext(line, ir.VectorType(_I16, 8))
                else:
                    line = builder.add(line, emit.splat(builder.trunc(offset, _I8), 16))
                lines.append(builder.bitcast(line, ir.VectorType(_I32, 4)))
                source = builder.add(source, stride)
            for order in ([0, 4, 1, 5], [2, 6, 3, 7]):
                top, bottom = (emit.shuffle(lines[i], lines[i + 1], order) for i in (0, 2))
                for half in ([0, 1, 4, 5], [2, 3, 6, 7]):
                    emit.store(emit.shuffle(top, bottom, half), target, 0)
                    target = builder.add(target, step)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, i, i, i, i), codegen

    return typing


def _weave_step(wide: bool) -> Callable[..., Any]:
    """One step of eight columns from rows of eight bytes: four rows, or two that are widened to int16."""

    def typing(context: Any, source: Any, stride: Any, target: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, stride, target = args
            emit, rows = _Emitter(builder), []
            for _ in range(2 if wide else 4):
                row = emit.load(source, 0, ir.VectorType(_I8, 8))
                rows.append(builder.sext(row, ir.VectorType(_I16, 8)) if wide else row)
                source = builder.add(source, stride)
            zipped = [i + 8 * half for i in range(8) for half in (0, 1)]
            while len(rows) > 1:
                rows = [emit.shuffle(a, b, zipped) for a, b in zip(rows[::2], rows[1::2], strict=True)]
                words = ir.VectorType(_I16, 8)
                rows = [builder.bitcast(row, words) for row in rows] if len(rows) > 1 else rows
            emit.store(rows[0], target, 0)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, i, i), codegen

    return typing


def _copy(context: Any, source: Any, target: Any, count: Any) -> Any:
    """``count`` times eight int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, count = args
        emit = _Emitter(builder)

        def body(at: list[Any]) -> list[Any]:
            emit.store(emit.load(at[0], 0, ir.VectorType(_I32, 8)), at[1], 0)
            return [builder.add(p, ir.Constant(_I64, 32)) for p in at]

        emit.loop(count, [source, target], body)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, i), codegen


def _scale(context: Any, source: Any, target: Any, count: Any, row: Any, columns: Any, u: Any, v: Any) -> Any:
    """``count`` times eight int32 to float32 ``source·row·columns + u·v``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, count, row, columns, u, v = args
        emit, floats = _Emitter(builder), ir.VectorType(ir.FloatType(), 8)
        rows, us = emit.splat(row, 8), emit.splat(u, 8)

        def body(at: list[Any]) -> list[Any]:
            sums = builder.sitofp(emit.load(at[0], 0, ir.VectorType(_I32, 8)), floats)
            scaled = builder.fmul(builder.fmul(sums, rows), emit.load(at[2], 0, floats))
            emit.store(builder.fadd(scaled, builder.fmul(us, emit.load(at[3], 0, floats))), at[1], 0)
            return [builder.add(p, ir.Constant(_I64, 32)) for p in at]

        emit.loop(count, [source, target, columns, v], body)
        return context.get_dummy_value()

    i, f = types.intp, types.float32
    return types.void(i, i, i, f, i, f, i), codegen


copy = intrinsic(_copy)
scale = intrinsic(_scale)
accumulate = intrinsic(_accumulate)
weave_lines, weave_lines_wide = intrinsic(_weave_lines(wide=False)), intrinsic(_weave_lines(wide=True))
weave_step, weave_step_wide = intrinsic(_weave_step(wide=False)), intrinsic(_weave_step(wide=True))
