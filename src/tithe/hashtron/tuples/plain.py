"""The loops of tuple tables on NumPy arrays: what the compiled ones do, and what replaces them where numba does not.

Samples go in blocks of 16, side by side in the last axis, so that compiled loops over them become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.kernels.plain import hash32

__all__ = ["BLOCK", "CLASSES", "find_cells", "lay_out", "learn", "vote"]

BLOCK = 16  # samples
CLASSES = 16  # to a multiple of which the classes are filled up


def lay_out(bits: NDArray[np.uint8], blocks: NDArray[np.uint8]) -> None:
    """Bits (samples, D) uint8 in blocks (⌈samples/BLOCK⌉, D, BLOCK) uint8, the last one filled up with zeros."""
    rows = np.zeros((len(blocks) * BLOCK, bits.shape[1]), np.uint8)
    rows[: len(bits)] = bits
    blocks[:] = rows.reshape(len(blocks), BLOCK, -1).swapaxes(1, 2)


def find_cells(
    bits: NDArray[np.uint8],
    tuples: NDArray[np.int32],
    salts: NDArray[np.uint32],
    log_size: int,
    across: int,
    down: int,
    stride: int,
    first: int,
    last: int,
    cells: NDArray[np.uint16],
) -> None:
    """The cells of tuples ``first``..``last`` − 1 in one block: (tuples, down·across, BLOCK) uint16.

    ``bits`` (D, BLOCK) uint8; ``tuples`` (T, width) places along D, of the first of ``down`` · ``across`` windows,
    which lie ``stride`` places below and one place beside each other. An address of more bits than ``log_size`` is
    hashed to that many by the tuple's salt. O(tuples · windows · width).
    """
    width, chosen = tuples.shape[1], slice(first, last)
    weights = np.arange(width, dtype=np.uint16)[:, None]
    for window in range(down * across):
        y, x = divmod(window, across)
        places = tuples[chosen] + (y * stride + x)
        found = np.bitwise_or.reduce(bits[places].astype(np.uint16) << weights, axis=1)
        if width > log_size:
            found = hash32(found.astype(np.int64), salts[chosen, None].astype(np.int64), 1 << log_size)
        cells[chosen, window] = found


def vote(
    cells: NDArray[np.uint16],
    signs: NDArray[np.int8],
    kept: NDArray[np.uint8],
    first: int,
    last: int,
    votes: NDArray[np.int32],
) -> None:
    """Add the signs (T, size, classes) int8 of the cells of tuples ``first``..``last`` − 1 to votes (BLOCK, classes).

    Of ``kept`` (T, BLOCK) uint8, those that are not 0; with an empty ``kept``, of all. O(tuples · windows · classes).
    """
    for s in range(BLOCK):
        those = _taking_part(kept, first, last, s)
        votes[s] += signs[those[:, None], cells[those, :, s]].sum((0, 1), dtype=np.int32)


def learn(
    cells: NDArray[np.uint16],
    latent: NDArray[np.float32],
    signs: NDArray[np.int8],
    kept: NDArray[np.uint8],
    first: int,
    last: int,
    steps: NDArray[np.float32],
) -> None:
    """Move the latent numbers (T, size, classes) float32 by steps (BLOCK, classes) float32; signs follow.

    They stay in [−1, 1], after every sample and window, which come one after the other; ``kept`` as in ``vote``.
    """
    one = np.float32(1)
    for s in range(BLOCK):
        those = _taking_part(kept, first, last, s)
        for window in range(cells.shape[1]):
            at = those, cells[those, window, s]
            value = latent[at] + steps[s]
            value = np.where(value < one, value, one)
            value = np.where(value > -one, value, -one)
            latent[at], signs[at] = value, np.where(value >= 0, 1, -1)


def _taking_part(kept: NDArray[np.uint8], first: int, last: int, sample: int) -> NDArray[np.intp]:
    """The tuples ``first``..``last`` − 1 that take part for a sample."""
    return np.arange(first, last) if not kept.size else first + np.flatnonzero(kept[first:last, sample])
