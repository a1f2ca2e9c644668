"""Writing LLVM IR for numba: for loops whose vectors numba would not keep in registers, or not make vectors at all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = ["Emitter", "address_of", "as_function", "floats_at", "host_features", "take_ticket"]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@functools.cache
def host_features() -> frozenset[str]:
    """What numba compiles for in this process, in LLVM's names; a user may have narrowed it (``NUMBA_CPU_NAME``)."""
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(f[1:] for f in features.split(",") if f.startswith("+"))


class Emitter:
    """The few IR idioms that the intrinsics share. Addresses are integers; nothing is assumed about alignment."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def pointer(self, base: Any, offset: int, kind: Any) -> Any:
        """``base`` plus ``offset`` bytes, as a pointer to ``kind``."""
        return self.builder.inttoptr(self.move(base, offset), kind.as_pointer())

    def move(self, base: Any, offset: int) -> Any:
        """``base`` plus ``offset`` bytes."""
        return self.builder.add(base, ir.Constant(_I64, offset))

    def load(self, base: Any, offset: int, kind: Any) -> Any:
        """The ``kind`` at ``base`` plus ``offset`` bytes."""
        value = self.builder.load(self.pointer(base, offset, kind))
        value.align = 1
        return value

    def store(self, value: Any, base: Any, offset: int) -> None:
        """Put ``value`` at ``base`` plus ``offset`` bytes."""
        self.builder.store(value, self.pointer(base, offset, value.type)).align = 1

    def prefetch(self, base: Any, offset: int, write: bool = False) -> None:
        """Begin to fetch the cache line at ``base`` plus ``offset`` bytes, which need not exist."""
        byte = ir.IntType(8)
        flags = [ir.Constant(_I32, x) for x in (int(write), 3, 1)]  # to stay in all caches, as data
        self.call("llvm.prefetch.p0i8", ir.VoidType(), self.pointer(base, offset, byte), *flags)

    def splat(self, scalar: Any, count: int) -> Any:
        """A vector of ``count`` times ``scalar``."""
        blank = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
        return self.shuffle(self.builder.insert_element(blank, scalar, ir.Constant(_I32, 0)), blank, [0] * count)

    def shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        """The elements ``order`` of a and b, counted through."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(order)), order))

    def call(self, name: str, result: Any, *args: Any) -> Any:
        """A call of one of LLVM's intrinsics."""
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [x.type for x in args]), name)
        return self.builder.call(function, args)

    def loop(self, count: Any, state: list[Any], body: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """``state = body(state)``, ``count`` (at least 1) times, with the state in registers."""
        builder, before = self.builder, self.builder.block
        inside, after = builder.append_basic_block("round"), builder.append_basic_block("done")
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


def as_function(arguments: tuple[Any, ...], emit: Callable[..., None]) -> Any:
    """``emit(emitter, *values)`` as a function for numba that returns nothing."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit(Emitter(builder), *values)
        return context.get_dummy_value()

    def typing(*given: Any) -> Any:
        return types.void(*arguments), codegen

    typing.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]  # numba counts the arguments by it
    return intrinsic(typing)


def _floats_at(_: Any, address: Any) -> Any:
    """The pointer to float32 that an address is."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(address), codegen


def _address_of(_: Any, pointer: Any) -> Any:
    """The address that a pointer is."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(values[0], _I64)

    return types.intp(pointer), codegen


def _take_ticket(_: Any, address: Any) -> Any:
    """The int64 at an address, which is one more afterwards: no two threads get the same."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _I64.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(_I64, 1), "seq_cst")

    return types.int64(address), codegen


floats_at, address_of, take_ticket = intrinsic(_floats_at), intrinsic(_address_of), intrinsic(_take_ticket)
