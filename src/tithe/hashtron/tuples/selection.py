"""Which tuples of bits are worth a table: many are drawn, and those whose cells are purest are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.kernels import BLOCK, find_cells
from tithe.parallel import run_parts

__all__ = ["at_random", "in_windows", "purest"]

_jit: Any = numba.njit(nogil=True, cache=True)
_LEAVE_OUT = 0.9  # of a sample's own count: a cell is judged by the others


def at_random(count: int, width: int, lengths: Sequence[int], random: np.random.Generator) -> NDArray[np.int32]:
    """Random tuples of ``width`` bits: columns without repetition while they last, and one bit of each; (count, width).

    Args:
        count: tuples.
        width: bits of each, at most as many as there are.
        lengths: bits of each column, at least one; they lie side by side.
        random: a NumPy generator.

    O(count · columns).

    >>> at_random(2, 3, (1, 1, 1), np.random.default_rng(0)).tolist()
    [[2, 0, 1], [2, 1, 0]]
    """
    sizes = np.array(lengths)
    starts = np.cumsum(sizes) - sizes
    out = np.empty((count, width), np.int32)
    for t in range(count):
        if width <= len(sizes):
            columns = random.permutation(len(sizes))[:width]
            out[t] = starts[columns] + random.integers(sizes[columns])
        else:
            out[t] = random.choice(int(sizes.sum()), width, replace=False)
    return out


def in_windows(
    count: int, width: int, planes: int, grid: tuple[int, int], windows: tuple[int, ...], room: int, random: Any
) -> NDArray[np.int32]:
    """Random tuples of ``width`` bits, each of one square window of a random size, over all planes; (count, width).

    Args:
        count: tuples.
        width: bits of each.
        planes: of bits, one behind the other.
        grid: height and width of a plane.
        windows: edges to choose from.
        room: lines and columns left free below and to the right, for the neighbouring windows that share a table.
        random: a NumPy generator.
    """
    height, across = grid
    edges = random.choice(windows, count)
    tops, lefts = (np.floor(random.random(count) * (size - room - edges + 1)).astype(int) for size in grid)
    out = np.empty((count, width), np.int32)
    for t in range(count):
        area = int(edges[t]) ** 2
        plane, place = np.divmod(random.choice(planes * area, width, replace=False), area)
        y, x = np.divmod(place, edges[t])
        out[t] = (plane * height + tops[t] + y) * across + lefts[t] + x
    return out


def purest(
    tuples: NDArray[np.int32],
    salts: NDArray[np.uint32],
    log_size: int,
    keep: int,
    blocks: NDArray[np.uint8],
    y: NDArray[np.int64],
    classes: int,
) -> NDArray[np.int64]:
    """The ``keep`` tuples with the largest mean of log((own − 0.9)/all) over samples, counts of the sample's cell.

    Args:
        tuples: candidates, (T, width), already moved to the window that is to be judged.
        salts: theirs.
        log_size: of the tables.
        keep: how many to keep.
        blocks: samples, (⌈n/16⌉, D, 16).
        y: their classes, (n,).
        classes: how many there are.

    Returns indices, ascending.
    """
    cells = np.empty((len(blocks), len(tuples), 1, BLOCK), np.uint16)
    run_parts(lambda b: find_cells(blocks[b], tuples, salts, log_size, 1, 1, 0, 0, len(tuples), cells[b]), len(blocks))
    scores = np.empty(len(tuples))
    run_parts(lambda t: _purity(cells[:, t, 0], y, 1 << log_size, classes, scores, t), len(tuples))
    return np.sort(np.argsort(-scores, kind="stable")[:keep])


@_jit
def _purity(cells, y, size, classes, scores, t):
    counts = np.zeros((size, classes), np.int32)
    for i in range(len(y)):
        counts[cells[i // BLOCK, i % BLOCK], y[i]] += 1
    total = 0.0
    for i in range(len(y)):
        row = counts[cells[i // BLOCK, i % BLOCK]]
        total += np.log((row[y[i]] - _LEAVE_OUT) / row.sum())
    scores[t] = total / len(y)
