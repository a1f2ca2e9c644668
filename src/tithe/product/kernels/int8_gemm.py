"""Exact int8 x int8 -> int32 matrix products on CPUs, faster than float32 ones and without a C compiler.

The instructions of x86 multiply unsigned by signed bytes, so the left operand is shifted to start at zero and the shift
is taken back with the column sums of the right one. AVX2 adds such products in an int16 that saturates. How many fit
depends on the largest entries, so these are read first, and the fastest kernel that is exact for them is taken: the
result never depends on the choice, the time does. See :func:`levels`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.parallel import run_parts_beside_torch
from tithe.product.kernels.avx2 import GROUPS, Avx2, multiply_rows
from tithe.product.kernels.int8_panels import (
    PACKED,
    UNIT,
    add_lines,
    add_rows,
    extremes,
    filled,
    multiply_tiles,
    pack,
    ranges,
)
from tithe.product.kernels.vnni import Avx512Vnni, AvxVnni
from tithe.simd import host_features

__all__ = ["available", "instruction_sets", "int8_matmul", "int8_matmul_reference", "int8_matmul_scaled", "levels"]

Matrix = NDArray[np.int8] | Tensor
Kernel = Avx2 | AvxVnni | Avx512Vnni
KERNELS: dict[str, type[Kernel]] = {"avx512vnni": Avx512Vnni, "avxvnni": AvxVnni, "avx2": Avx2}  # by LLVM's name

_INT16, _INT32 = (1 << 15) - 1, (1 << 31) - 1
_MULTIPLIED = 1 << 23  # multiply-adds in a part of the work, at least
_BLOCK = 1 << 18  # bytes of packed left operand that stay in the second-level cache
_ROWS = 256  # of it, which share a reading of the right one


def instruction_sets() -> tuple[str, ...]:
    """The kernels that this processor runs, fastest first; empty on other architectures and with numba's JIT off.

    >>> set(instruction_sets()) <= {"avx512vnni", "avxvnni", "avx2"}
    True
    """
    if numba.config.DISABLE_JIT:
        return ()
    return tuple(name for name in KERNELS if name in host_features())


def available() -> bool:
    """Whether :func:`int8_matmul` runs here and is worth it: AVX-512 without VNNI has faster float32 than int8 sums.

    >>> isinstance(available(), bool)
    True
    """
    names = instruction_sets()
    return bool(names) and (names != ("avx2",) or "avx512f" not in host_features())


def levels(instructions: str | None = None) -> tuple[int, ...]:
    """Largest magnitudes of both operands at which the kernels of an instruction set change, fastest first.

    Operands quantised to ``levels()[i]`` are multiplied faster than those quantised to ``levels()[i + 1]``; all are
    exact. Only AVX2 has more than one. For a left and a right operand of different ranges what counts is
    (largest − smallest left entry) · (largest right magnitude), which a level L makes 2·L².

    >>> levels("avx2")
    (31, 45, 63, 90, 127)
    >>> levels("avx512vnni")
    (127,)
    """
    if (instructions or next(iter(instruction_sets()), None)) != "avx2":
        return (127,)
    return (*(int((_INT16 / (4 * g)) ** 0.5) for g in sorted(GROUPS[1:], reverse=True)), 127)


def int8_matmul(
    a: Matrix, b: Matrix, out: NDArray[np.int32] | None = None, *, instructions: str | None = None
) -> NDArray[np.int32]:
    """The exact int32 product of two int8 matrices.

    Args:
        a: shape (m, k), int8, NumPy or torch on the CPU; read fastest if C-contiguous.
        b: shape (k, n), int8; read fastest if it, or its transpose, is C-contiguous.
        out: int32 (m, n), C-contiguous, to be written to.
        instructions: one of :func:`instruction_sets`; the fastest by default.

    Returns:
        int32 (m, n), equal to :func:`int8_matmul_reference` bit for bit.

    Raises:
        InvalidDTypeError: an operand is not int8, or ``out`` not int32.
        InvalidValueError: shapes do not fit, sums might not fit into int32 (never with k < 131,072), or no kernel.

    O(mkn), on ``torch.get_num_threads()`` threads.

    >>> a = np.array([[1, -2], [3, 4]], np.int8)
    >>> int8_matmul(a, a).tolist() if available() else [[-5, -10], [15, 10]]
    [[-5, -10], [15, 10]]
    """
    a, b = _operands(a, b)
    out = _output(out, (len(a), b.shape[1]), np.int32)
    nothing = np.empty(0, np.float32)
    if not a.size or not b.size:
        out[:] = 0
        return out
    _multiply(a, b, instructions, out, np.empty((0, 0), np.float32), nothing, nothing, nothing, nothing)
    return out


def int8_matmul_scaled(
    a: Matrix,
    b: Matrix,
    row_scale: NDArray[np.float32] | Tensor,
    column_scale: NDArray[np.float32] | Tensor,
    u: NDArray[np.float32] | Tensor | None = None,
    v: NDArray[np.float32] | Tensor | None = None,
    out: NDArray[np.float32] | None = None,
    *,
    instructions: str | None = None,
) -> NDArray[np.float32]:
    """``(a @ b)·row_scale·column_scale + u vᵀ`` in float32; the int32 sums never leave the cache.

    Args:
        a: shape (m, k), int8, as for :func:`int8_matmul`; so are its errors.
        b: shape (k, n), int8.
        row_scale: float32 (m,).
        column_scale: float32 (n,).
        u: float32 (m,), given with ``v`` or not at all.
        v: float32 (n,).
        out: float32 (m, n), C-contiguous, to be written to.
        instructions: one of :func:`instruction_sets`; the fastest by default.

    Returns:
        float32 (m, n); each element is ``(sum·row_scale)·column_scale + u·v``, rounded after every operation.

    >>> a = np.array([[1, -2], [3, 4]], np.int8)
    >>> one = np.ones(2, np.float32)
    >>> int8_matmul_scaled(a, a, one / 2, one).tolist() if available() else [[-2.5, -5.0], [7.5, 5.0]]
    [[-2.5, -5.0], [7.5, 5.0]]
    """
    a, b = _operands(a, b)
    m, n = len(a), b.shape[1]
    out = _output(out, (m, n), np.float32)
    if (u is None) != (v is None):
        raise InvalidValueError("u and v make one rank-one matrix: give both or neither")
    rows = [_vector(x, m) for x in (row_scale, np.zeros(m, np.float32) if u is None else u)]
    columns = [_vector(x, n) for x in (column_scale, np.zeros(n, np.float32) if v is None else v)]
    if not a.size or not b.size:
        np.multiply(rows[1][:, None], columns[1], out=out)
        return out
    _multiply(a, b, instructions, np.empty((0, 0), np.int32), out, rows[0], columns[0], rows[1], columns[1])
    return out


def int8_matmul_reference(a: Matrix, b: Matrix) -> NDArray[np.int32]:
    """What :func:`int8_matmul` computes, in plain NumPy, on any machine: a float64 product, which is exact here.

    >>> int8_matmul_reference(np.full((1, 3), -128, np.int8), np.full((3, 1), 127, np.int8)).tolist()
    [[-48768]]
    """
    a, b = _operands(a, b)
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int32)


def _multiply(a: NDArray[np.int8], b: NDArray[np.int8], instructions: str | None, *outputs: Any) -> None:
    (m, k), n = a.shape, b.shape[1]
    kernel, offset = _kernel(a, b, instructions)
    wide = kernel.group == 0
    steps = -(-k // UNIT) * (UNIT // (2 if wide else 4))
    left, packing = pack(a, kernel.rows, steps, wide, offset, lines=True)
    by_lines = not b.flags.c_contiguous
    source = b.T if by_lines else b
    right, more = pack(source, kernel.columns, steps, wide, 0, lines=by_lines)
    start = np.zeros(-(-n // kernel.columns) * kernel.columns, np.int32)
    add = add_lines if by_lines else add_rows
    sums = [] if wide else [partial(add, i, j, source, start) for i, j in ranges(n, b.size // PACKED)]
    _run([*packing, *more, *sums])
    start *= np.int32(-offset)
    tiles = -(-m // kernel.rows)
    block = max(8, min(max(64, _ROWS // kernel.rows), _BLOCK // (steps * kernel.rows * 4)))
    parts = min(max(-(-tiles // block), torch.get_num_threads()), 1 + m * n * k // _MULTIPLIED)
    loop: Any = multiply_tiles
    which: Any = kernel
    if isinstance(kernel, Avx2):
        exact, scaled, row_scale, column_scale, u, v = outputs
        column_scale, v = (filled(x, kernel.columns) for x in (column_scale, v))
        loop, which, outputs = multiply_rows, kernel.group, (exact, scaled, row_scale, column_scale, u, v, 0 * v)
    given = which, left.ctypes.data, right.ctypes.data, steps, start, *outputs
    _run([partial(loop, first, last, *given) for first, last in ranges(tiles, parts)])


def _run(tasks: list[Callable[[], None]]) -> None:
    run_parts_beside_torch(lambda i: tasks[i](), len(tasks))


def _kernel(a: NDArray[np.int8], b: NDArray[np.int8], instructions: str | None) -> tuple[Kernel, int]:
    """The fastest exact kernel for these operands, and what makes the left one unsigned."""
    names = instruction_sets()
    name = instructions or next(iter(names), None)
    if name is None or name not in names:
        raise InvalidValueError(f"no kernel for {name or 'this processor'} here; there is {names or 'none'}")
    (low, high), (lowest, highest) = extremes(a.reshape(-1)), extremes(b.reshape(-1, order="A"))
    reach = max(-lowest, highest)
    if a.shape[1] * max(-low, high) * reach > _INT32:
        raise InvalidValueError(
            f"sums of {a.shape[1]} products of up to {max(-low, high)} x {reach} may exceed int32: split k into parts"
        )
    kind = KERNELS[name]
    if not issubclass(kind, Avx2):
        return kind(), -low
    group = max((g for g in GROUPS if 2 * g * (high - low) * reach <= _INT16), default=0)
    return Avx2(group), -low


def _operands(a: Matrix, b: Matrix) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    arrays = [x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in (a, b)]
    for name, x in zip("ab", arrays, strict=True):
        if x.dtype != np.int8:
            raise InvalidDTypeError(f"{name} is {x.dtype}; int8 is expected")
    left, right = arrays
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise InvalidValueError(f"a {left.shape} and b {right.shape} cannot be multiplied: (m, k) and (k, n) can")
    right = right if right.flags.f_contiguous else np.ascontiguousarray(right)
    return np.ascontiguousarray(left), right


def _output(out: Any, shape: tuple[int, int], dtype: Any) -> Any:
    if out is None:
        return np.empty(shape, dtype)
    if out.dtype != dtype:
        raise InvalidDTypeError(f"out is {out.dtype}; {np.dtype(dtype)} is expected")
    if out.shape != shape or not out.flags.c_contiguous:
        raise InvalidValueError(f"out is {out.shape}; a C-contiguous {shape} is expected")
    return out


def _vector(x: NDArray[np.float32] | Tensor, size: int) -> NDArray[np.float32]:
    array = np.ascontiguousarray(x.detach().numpy() if isinstance(x, Tensor) else x, np.float32)
    if array.shape != (size,):
        raise InvalidValueError(f"a scale or vector has shape {array.shape}; ({size},) is expected")
    return array
