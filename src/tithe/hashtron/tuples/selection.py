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


def at_random(
    count: int,
    width: int,
    lengths: Sequence[int],
    random: np.random.Generator,
    chances: NDArray[np.float64] | None = None,
) -> NDArray[np.int32]:
    """Random tuples of ``width`` bits: columns without repetition while they last, and one bit of each; (count, width).

    Args:
        count: tuples.
        width: bits of each, at most as many as there are whose chances are not 0.
        lengths: bits of each column, at least one; they lie side by side.
        random: a NumPy generator.
        chances: how likely each bit is, in proportion, (sum of ``lengths``,); all columns alike if ``None``.

    What repeats a column is drawn again: O(count · width · log(bits)) as long as no few columns have all the chances.

    >>> at_random(2, 3, (1, 1, 1), np.random.default_rng(0)).tolist()
    [[1, 0, 2], [0, 2, 1]]
    """
    sizes = np.array(lengths)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    likely = 1 / sizes[owners] if chances is None else chances
    if width > len(np.unique(owners[likely > 0])):
        owners = np.arange(len(owners))  # bits without repetition, then
    edges = np.cumsum(likely)
    out = _drawn((count, width), edges, random)
    rows = np.arange(count)
    while len(rows):
        columns = owners[out[rows]]
        order = np.argsort(columns, axis=1, kind="stable")
        ordered = np.take_along_axis(columns, order, 1)
        again = np.zeros(columns.shape, np.bool_)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
        rows, again = rows[again.any(1)], again[again.any(1)]
        row, place = np.nonzero(again)
        out[rows[row], place] = _drawn(len(row), edges, random)
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
    weight: NDArray[np.float32],
    classes: int,
    *,
    in_turn: bool = False,
) -> NDArray[np.int64]:
    """The ``keep`` tuples with the largest mean of log((own − 0.9)/all) over samples, counts of the sample's cell.

    What counts is the samples' weight, and 0.9 of a sample's own is left out.

    Args:
        tuples: candidates, (T, width), already moved to the window that is to be judged.
        salts: theirs.
        log_size: of the tables.
        keep: how many to keep.
        blocks: samples, (⌈n/16⌉, D, 16).
        y: their classes, (n,).
        weight: of the samples, (n,), positive.
        classes: how many there are.
        in_turn: whether the purest of each len(tuples)/``keep`` candidates, one group after the other, is kept, and
            not the purest of all, which may all look at the same.

    Returns indices, ascending.
    """
    cells = np.empty((len(blocks), len(tuples), 1, BLOCK), np.uint16)
    run_parts(lambda b: find_cells(blocks[b], tuples, salts, log_size, 1, 1, 0, 0, len(tuples), cells[b]), len(blocks))
    scores = np.empty(len(tuples))
    run_parts(lambda t: _purity(cells[:, t, 0], y, weight, 1 << log_size, classes, scores, t), len(tuples))
    if in_turn:
        each = len(tuples) // keep
        return np.asarray(np.arange(keep) * each + scores.reshape(keep, each).argmax(1))
    return np.sort(np.argsort(-scores, kind="stable")[:keep])


def _drawn(shape: int | tuple[int, int], edges: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int32]:
    places = np.searchsorted(edges, random.random(shape) * edges[-1], side="right")
    last = int(np.flatnonzero(np.diff(edges, prepend=0))[-1])
    found: NDArray[np.int32] = np.minimum(places, last).astype(np.int32)
    return found


@_jit
def _purity(cells, y, weight, size, classes, scores, t):
    counts = np.zeros((size, classes), np.float32)
    for i in range(len(y)):
        counts[cells[i // BLOCK, i % BLOCK], y[i]] += weight[i]
    sums = np.zeros(size, np.float32)
    for cell in range(size):
        for c in range(classes):
            sums[cell] += counts[cell, c]
    total = 0.0
    for i in range(len(y)):
        cell = cells[i // BLOCK, i % BLOCK]
        total += weight[i] * np.log((counts[cell, y[i]] - _LEAVE_OUT * weight[i]) / sums[cell])
    scores[t] = total / len(y)
