"""The micro-kernels of the int8 product on processors with VNNI, as a numba intrinsic that emits LLVM IR.

Numba cannot keep SIMD sums in registers across a loop, so the whole loop over k is written here.

A tile is ``rows`` x ``columns`` int32 sums. Its operands lie in memory in the order in which the loop reads them: one
*step* is, for each row, four bytes that follow each other along k, then the same for the next row; and likewise for
columns. To the processor such a quadruple is a 32-bit lane, whatever it holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tithe.simd import Emitter

__all__ = ["ROUND", "Avx512Vnni", "AvxVnni", "accumulate"]


class AvxVnni(NamedTuple):
    """256 bits. vpdpbusd adds four u8·s8 products straight to an int32."""

    rows: int = 4
    columns: int = 24
    group: int = 1


class Avx512Vnni(NamedTuple):
    """512 bits, vpdpbusd."""

    rows: int = 12
    columns: int = 32
    group: int = 1


ROUND = 2  # steps of one round of the loop; more made LLVM spill sums
_I32 = ir.IntType(32)
_DPBUSD = {Avx512Vnni: ("llvm.x86.avx512.vpdpbusd.512", 16), AvxVnni: ("llvm.x86.avx512.vpdpbusd.256", 8)}


def _accumulate(context: Any, kernel: Any, sums: Any, left: Any, right: Any, rounds: Any) -> Any:
    """Add the products of ``rounds`` (at least 1) of ``ROUND`` steps each to a tile, all addresses.

    The type of ``kernel`` says which instructions.
    """
    kind = kernel.instance_class
    name, lanes = _DPBUSD[kind]
    rows, across, size = kind._field_defaults["rows"], kind._field_defaults["columns"] // lanes, 4 * lanes
    vector = ir.VectorType(_I32, lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, at, left, right, times = args
        emit = Emitter(builder)

        def body(state: list[Any]) -> list[Any]:
            a, b, *tile = state
            for s in range(ROUND):
                columns = [emit.load(b, size * (s * across + j), vector) for j in range(across)]
                for i in range(rows):
                    row = emit.splat(emit.load(a, 4 * (s * rows + i), _I32), lanes)
                    for j in range(across):
                        tile[i * across + j] = emit.call(name, vector, tile[i * across + j], row, columns[j])
            return [emit.move(a, 4 * rows * ROUND), emit.move(b, size * across * ROUND), *tile]

        tile = [emit.load(at, size * t, vector) for t in range(rows * across)]
        for t, value in enumerate(emit.loop(times, [left, right, *tile], body)[2:]):
            emit.store(value, at, size * t)
        return context.get_dummy_value()

    i = types.intp
    return types.void(kernel, i, i, i, i), codegen


accumulate = intrinsic(_accumulate)
