"""Products with a right operand that was rounded to int8 and laid out once: the activations are all that is left.

Each row of activations is rounded to at most 256 levels between its own smallest and largest entry, after each input
has lost its centre and was stretched: a pass over a row that stays in the cache until it is multiplied.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.parallel import run_parts_beside_torch
from tithe.product.kernels.avx2 import Avx2, multiply_rows
from tithe.product.kernels.int8_gemm import instruction_sets
from tithe.product.kernels.int8_panels import UNIT, filled, pack, ranges
from tithe.product.kernels.integers import scaled_sums
from tithe.product.kernels.levels import EXTRA, LEAST, round_row
from tithe.product.kernels.passes import over_ranges

__all__ = ["TOPS", "Packed", "Rounded", "groups", "multiply", "multiply_anywhere", "pack_weight", "steepest", "sums_of"]

TOPS = {8: 170, 4: 200, 2: 225, 1: 255}  # of activations, by group: fewer levels leave finer ones to the weights
_ROWS = 256  # of activations that share a reading of the weights
_PARTS = 4  # for each thread: whichever is free takes the next
_MULTIPLIED = 1 << 22  # multiply–adds in a part of the work, at least


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

    panels: NDArray[np.int8]
    start: NDArray[np.int32]
    scale: NDArray[np.float32]
    sums: NDArray[np.float32]
    bias: NDArray[np.float32]
    centre: NDArray[np.float32]
    stretch: NDArray[np.float32]
    steps: int
    group: int
    top: int
    outputs: int


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
    scale = filled(rounded.scale.numpy(), width)
    sums = filled(sums_of(rounded).numpy(), width)
    centre, stretch, bias = (x.contiguous().numpy() for x in rounded[2:5])
    start = np.zeros(len(scale), np.int32)
    return Packed(
        panels, start, scale, sums, filled(bias, width), centre, stretch, steps, rounded.group, rounded.top, n
    )


def multiply(x: Tensor, packed: Packed) -> Tensor:
    """The map of each row of ``x``, float32 (m, k), C-contiguous on the CPU; float32 (m, n). O(mkn).

    Rows that are not finite give rows that are not.
    """
    m, n = len(x), packed.outputs
    out = torch.empty(m, n, dtype=torch.float32)
    threads = torch.get_num_threads()
    most = 1 if threads == 1 else _PARTS * threads
    parts = ranges(m, min(most, -(-m // _ROWS), 1 + m * n * packed.steps * 4 // _MULTIPLIED))
    given = (
        x.numpy(), packed.centre, packed.stretch, packed.group, packed.top, packed.panels.ctypes.data, packed.steps,
        packed.start, np.empty((0, 0), np.int32), out.numpy(), packed.scale, packed.sums, packed.bias,
    )  # fmt: skip
    run_parts_beside_torch(lambda i: partial(_multiply, *parts[i])(*given), len(parts))
    return out


def sums_of(rounded: Rounded) -> Tensor:
    """The sum of each output's weights, float32 (n,): what a shift of all activations adds to it. O(nk)."""
    return rounded.values.sum(1, dtype=torch.int32).float() * rounded.scale


def multiply_anywhere(x: Tensor, rounded: Rounded, sums: Tensor | None = None) -> Tensor:
    """As ``multiply``, on any device that has int8 products and by the fastest that there are.

    ``sums`` are those of ``sums_of``, for calls that come again.
    """
    levels, step, low = _levels(x, rounded.centre, rounded.stretch, rounded.top)
    rank_one = low + 128 * step, sums_of(rounded) if sums is None else sums
    return scaled_sums(levels, rounded.values.T, step, rounded.scale, rank_one).add_(rounded.bias)


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


@numba.njit(nogil=True, cache=True)
def _multiply(first, last, x, centre, stretch, group, top, panels, steps, start, exact, out, scale, sums, bias):
    length = steps * 4
    memory = np.empty(_ROWS * length + 64, np.uint8)
    rows = memory.ctypes.data + (-memory.ctypes.data) % 64
    step, low = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    work = np.empty(EXTRA + length, np.float32)
    for begin in range(first, last, _ROWS):
        count = min(_ROWS, last - begin)
        for i in range(count):
            low[i], step[i] = round_row(x, begin + i, centre, stretch, top, work, rows + i * length)
        part = out[begin : begin + count]
        multiply_rows(0, count, group, rows, panels, steps, start, exact, part, step, scale, low, sums, bias)
        memory[0] = 0  # used once more, or numba would free it before the calls above have used it


@numba.njit(nogil=True, cache=True)
def _round_rows(first, last, top, x, centre, stretch, levels, step, low):
    length = -(-x.shape[1] // UNIT) * UNIT
    work, unsigned = np.empty(EXTRA + length, np.float32), np.empty(length, np.uint8)
    for i in range(first, last):
        low[i], step[i] = round_row(x, i, centre, stretch, top, work, unsigned.ctypes.data)
        for j in range(x.shape[1]):
            levels[i, j] = np.int8(np.int16(unsigned[j]) - np.int16(128))
