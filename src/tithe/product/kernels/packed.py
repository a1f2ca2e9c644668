"""Products with a right operand that was rounded to int8 and laid out once: the activations are all that is left.

Each row of activations is rounded to at most 256 levels between its own smallest and largest entry, after each input
has lost its centre and was stretched: a pass over a row that stays in the cache until it is multiplied.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from tithe.parallel import run_compiled
from tithe.product.kernels.avx2 import Avx2, multiply_rows
from tithe.product.kernels.int8_gemm import instruction_sets
from tithe.product.kernels.int8_panels import UNIT, filled, pack
from tithe.product.kernels.integers import scaled_sums
from tithe.product.kernels.levels import EXTRA, LEAST, round_row
from tithe.product.kernels.passes import over_ranges
from tithe.simd import address_of, floats_at, take_ticket

__all__ = ["TOPS", "Packed", "Rounded", "groups", "multiply", "multiply_anywhere", "pack_weight", "steepest", "sums_of"]

TOPS = {8: 170, 4: 200, 2: 225, 1: 255}  # of activations, by group: fewer levels leave finer ones to the weights
_ROWS = 256  # of activations that share a reading of the weights
_MULTIPLIED = 1 << 22  # multiply–adds that a thread is worth starting for
_FIELDS = (  # of what the threads share, integers and addresses
    "taken", "done", "rows", "block", "x", "out", "outputs", "inputs", "steps", "group", "top",
    "panels", "centre", "stretch", "start", "scale", "sums", "bias",
)  # fmt: skip
_DONE = _FIELDS.index("done")
_Job = ctypes.c_int64 * len(_FIELDS)


class Rounded(NamedTuple):
    """A linear map whose weights were rounded: x ↦ ((x − centre)·stretch) (values·scale)ᵀ + bias.

    Attributes:
        values: int8 (n, k).
        scale: float32 (n,).
        centre: float32 (k,), what each input loses; its product with the weights is part of the bias.
        stretch: float32 (k,).
        bias: float32 (n,).
        group: steps that fit into an int16, as ``avx2.GROUPS``; 1 where processors do not need to know.
        top: the highest level of an activation, at most 255.
    """

    values: Tensor
    scale: Tensor
    centre: Tensor
    stretch: Tensor
    bias: Tensor
    group: int
    top: int = 255


class Packed(NamedTuple):
    """A ``Rounded`` map in the order in which the kernel reads it; what belongs to outputs fills whole panels."""

    arrays: tuple[NDArray[Any], ...]  # held for their addresses
    constants: tuple[int, ...]  # of ``_FIELDS``, from "outputs" on


def groups() -> tuple[int, ...]:
    """The groups that are worth a try on this processor, fastest first; none where torch has kernels as good.

    >>> set(groups()) <= {8, 4, 2, 1}
    True
    """
    return (8, 4, 2, 1) if instruction_sets()[:1] == ("avx2",) else ()


def steepest(top: int) -> int:
    """What the positive weights of an int16 lane may add up to, and the negative ones.

    >>> steepest(255)
    128
    """
    return (2**15 - 1) // top


def pack_weight(rounded: Rounded) -> Packed:
    """The map in the kernel's order. O(nk)."""
    values = rounded.values.contiguous().numpy()
    (n, k), width = values.shape, Avx2(rounded.group).columns
    steps = -(-k // UNIT) * (UNIT // 4)
    panels, tasks = pack(values, width, steps, False, 0, lines=True)
    for task in tasks:
        task()
    centre, stretch = (x.contiguous().numpy() for x in (rounded.centre, rounded.stretch))
    columns = (filled(x.numpy(), width) for x in (rounded.scale, sums_of(rounded), rounded.bias))
    start = np.zeros(-(-n // width) * width, np.int32)
    arrays = panels, centre, stretch, start, *columns
    return Packed(arrays, (n, k, steps, rounded.group, rounded.top, *(x.ctypes.data for x in arrays)))


def multiply(x: Tensor, packed: Packed) -> Tensor:
    """The map of each row of ``x``, float32 (…, k), C-contiguous on the CPU; float32 (…, n). O(rows·k·n).

    Rows that are not finite give rows that are not. ``MemoryError`` where a thread gets none to work in.
    """
    n, k, steps, *_ = packed.constants
    out = torch.empty((*x.shape[:-1], n), dtype=torch.float32)
    m = x.numel() // k
    threads = min(torch.get_num_threads(), 1 + m * n * steps * 4 // _MULTIPLIED)
    block = max(1, min(_ROWS, -(-m // threads)))
    job = _Job(0, 0, m, block, x.data_ptr(), out.data_ptr(), *packed.constants)
    run_compiled(_task().address, job, threads)
    if job[_DONE] < -(-m // block):  # compiled code has nobody to raise its errors to
        raise MemoryError(f"no memory to multiply rows of {k} by {n} outputs in")
    return out


def sums_of(rounded: Rounded) -> Tensor:
    """The sum of each output's weights, float32 (n,): what a shift of all activations adds to it. O(nk)."""
    return rounded.values.sum(1, dtype=torch.int32).float() * rounded.scale


def multiply_anywhere(x: Tensor, rounded: Rounded, sums: Tensor | None = None) -> Tensor:
    """As ``multiply``, on any device that has int8 products and by the fastest that there are.

    ``sums`` are those of ``sums_of``, for calls that come again.
    """
    n, k = rounded.values.shape
    levels, step, low = _levels(x.reshape(-1, k), rounded.centre, rounded.stretch, rounded.top)
    rank_one = low + 128 * step, sums_of(rounded) if sums is None else sums
    product = scaled_sums(levels, rounded.values.T, step, rounded.scale, rank_one).add_(rounded.bias)
    return product.view(*x.shape[:-1], n)


def _levels(x: Tensor, centre: Tensor, stretch: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as int8, their levels less 128; the step between levels and the lowest value, float32 (m,) each."""
    if x.is_cpu:
        levels, step, low = torch.empty(x.shape, dtype=torch.int8), x.new_empty(len(x)), x.new_empty(len(x))
        given = (t.numpy() for t in (x, centre, stretch, levels, step, low))
        over_ranges(_round_rows, len(x), x.numel(), top, *given)
        return levels, step, low
    y = (x - centre) * stretch
    low, high = y.amin(1), y.amax(1)
    step = (high - low) / top
    inverse = torch.where(step >= float(LEAST), 1 / step, 0 * step)
    return ((y - low[:, None]) * inverse[:, None]).round_().sub_(128).to(torch.int8), step, low


def _multiply(at):
    """Blocks of rows, for as long as there are any that no other thread has taken; ``at`` points to the job."""
    job = numba.carray(at, 1)[0]
    x = numba.carray(floats_at(job.x), (job.rows, job.inputs))
    out = numba.carray(floats_at(job.out), (job.rows, job.outputs))
    centre, stretch = numba.carray(floats_at(job.centre), job.inputs), numba.carray(floats_at(job.stretch), job.inputs)
    start = numba.carray(floats_at(job.start), job.outputs).view(np.int32)
    scale, sums = numba.carray(floats_at(job.scale), job.outputs), numba.carray(floats_at(job.sums), job.outputs)
    bias = numba.carray(floats_at(job.bias), job.outputs)
    length = job.steps * 4
    memory = np.empty(job.block * length + 64, np.uint8)
    levels = memory.ctypes.data + (-memory.ctypes.data) % 64
    step, low = np.empty(job.block, np.float32), np.empty(job.block, np.float32)
    work, exact = np.empty(EXTRA + length, np.float32), np.empty((0, 0), np.int32)
    while True:
        begin = take_ticket(address_of(at)) * job.block
        if begin >= job.rows:
            break
        count = min(job.block, job.rows - begin)
        for i in range(count):
            low[i], step[i] = round_row(x, begin + i, centre, stretch, job.top, work, levels + i * length)
        part = out[begin : begin + count]
        multiply_rows(
            0, count, job.group, levels, job.panels, job.steps, start, exact, part, step, scale, low, sums, bias
        )  # fmt: skip
        take_ticket(address_of(at) + 8 * _DONE)  # one more is done
        memory[0] = 0  # used once more, or numba would free it before the calls above have used it


@functools.cache
def _task() -> Any:
    """``_multiply``, compiled to be called by threads that know no Python."""
    job = numba.from_dtype(np.dtype([(name, np.int64) for name in _FIELDS]))
    return numba.cfunc(types.void(types.CPointer(job)), cache=True)(_multiply)


@numba.njit(nogil=True, cache=True)
def _round_rows(first, last, top, x, centre, stretch, levels, step, low):
    length = -(-x.shape[1] // UNIT) * UNIT
    work, unsigned = np.empty(EXTRA + length, np.float32), np.empty(length, np.uint8)
    for i in range(first, last):
        low[i], step[i] = round_row(x, i, centre, stretch, top, work, unsigned.ctypes.data)
        for j in range(x.shape[1]):
            levels[i, j] = np.int8(np.int16(unsigned[j]) - np.int16(128))
