"""The error-driven tally: what the votes get wrong moves the counters behind the bits, and only their signs vote.

Every neuron keeps a latent number in [−1, 1] for each cell while it learns; its sign is what votes, in training as
later. Samples are taken 32 at a time: all vote with the same signs, then all errors are tallied, so the result does not
depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.kernels import BLOCK, CLASSES, find_cells, learn, vote
from tithe.hashtron.tuples.tables import Sharing, Tables, filled_up
from tithe.parallel import run_parts

__all__ = ["Blocks", "Schedule", "fit"]

_jit: Any = numba.njit(nogil=True, cache=True)
_BATCH = 2  # blocks whose errors are tallied together
_CHUNK = 1024  # samples encoded at once
_PARTS = 4  # of the tuples, for the threads

#: Bits (⌈m/16⌉, D, 16) of the samples with the given indices, for training: by a seed, where it warps them.
Blocks = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, and how much of it.

    Args:
        epochs: passes over the samples.
        rate: first step of a latent number for a vote that is all wrong; it goes to 0 along a cosine.
        temperature: of the softmax over votes, in units of √(votes that take part).
        least_kept: share of the tuples that at least take part for a sample; the share is drawn for each.
        loss: ``softmax``, or ``hinge``: only the true class and its best rival move, by whole steps, while the margin
            is under ``margin``·√(votes).
        margin: of the hinge.
    """

    epochs: int = 12
    rate: float = 0.06
    temperature: float = 1.0
    least_kept: float = 0.4
    loss: str = "softmax"
    margin: float = 2.2


def fit(
    blocks: Blocks,
    y: NDArray[np.int64],
    weight: NDArray[np.float32],
    tables: Tables,
    schedule: Schedule,
    seed: int,
    report: Callable[[int, Tables], bool] | None = None,
    latent: NDArray[np.float32] | None = None,
) -> Tables:
    """Tables that have learned.

    Args:
        blocks: makes the bits of samples by index.
        y: classes, (n,).
        weight: of the samples, (n,); 1 is usual.
        tables: tuples, salts and size; their signs are where learning begins.
        schedule: how.
        seed: of the order of the samples, of what is warped and of what takes part.
        report: called with the number of finished epochs and the tables; ends the training by returning True.
        latent: latent numbers to go on from, in the shape of the signs; changed in place. 0 at first.

    O(epochs · n · tuples · windows · classes).
    """
    signs = tables.signs.copy()
    latent = np.zeros(signs.shape, np.float32) if latent is None else latent
    learner = _Learner(tables, signs, latent, schedule)
    seeds = np.random.SeedSequence(seed).spawn(schedule.epochs)
    steps_in_all = schedule.epochs * len(y)
    done = 0
    for epoch in range(schedule.epochs):
        random = np.random.default_rng(seeds[epoch])
        order = random.permutation(len(y))
        for start in range(0, len(order), _CHUNK):
            rows = order[start : start + _CHUNK]
            bits = blocks(rows, int(random.integers(2**62)))
            targets = np.full(len(bits) * BLOCK, -1)
            targets[: len(rows)] = y[rows]
            weights = np.zeros(len(targets), np.float32)
            weights[: len(rows)] = weight[rows]
            rate = schedule.rate * 0.5 * (1 + math.cos(math.pi * done / steps_in_all))
            learner.chunk(bits, targets.reshape(-1, BLOCK), weights.reshape(-1, BLOCK), rate, random)
            done += len(rows)
        now = Tables(tables.tuples, tables.salts, signs, tables.classes, tables.sharing)
        if report is not None and report(epoch + 1, now):
            break
    return Tables(tables.tuples, tables.salts, signs.copy(), tables.classes, tables.sharing)


def blank(
    tuples: NDArray[np.int32], salts: NDArray[np.uint32], log_size: int, classes: int, sharing: Sharing
) -> Tables:
    """Tables that have learned nothing: every neuron says yes."""
    signs = np.ones((len(tuples), 1 << log_size, filled_up(classes, CLASSES)), np.int8)
    return Tables(tuples, salts, signs, classes, sharing)


class _Learner:
    """Buffers, and the two halves of a step: vote, and learn from the errors."""

    def __init__(
        self, tables: Tables, signs: NDArray[np.int8], latent: NDArray[np.float32], schedule: Schedule
    ) -> None:
        self._tables, self._signs, self._latent, self._schedule = tables, signs, latent, schedule
        count, places, classes = len(tables.tuples), tables.sharing.places, signs.shape[2]
        self._cells = np.empty((_BATCH, count, places, BLOCK), np.uint16)
        self._votes = np.empty((_BATCH, _PARTS, BLOCK, classes), np.int32)
        self._steps = np.empty((_BATCH, BLOCK, classes), np.float32)
        self._edges = [count * i // _PARTS for i in range(_PARTS + 1)]

    def chunk(
        self,
        blocks: NDArray[np.uint8],
        targets: NDArray[np.int64],
        weights: NDArray[np.float32],
        rate: float,
        random: np.random.Generator,
    ) -> None:
        """Learn from blocks of samples, ``_BATCH`` at a time."""
        count, least = len(self._tables.tuples), self._schedule.least_kept
        for first in range(0, len(blocks), _BATCH):
            batch = blocks[first : first + _BATCH]
            shares = random.uniform(least, 1, (len(batch), 1, BLOCK)).astype(np.float32)
            kept = (random.random((len(batch), count, BLOCK), np.float32) < shares).view(np.uint8)
            run_parts(lambda i: self._vote(batch, kept, i), len(batch) * _PARTS)  # noqa: B023  # used at once
            for b in range(len(batch)):
                _errors(
                    self._votes[b], targets[first + b], weights[first + b], shares[b, 0], rate,
                    self._schedule.temperature, self._schedule.margin, self._schedule.loss == "hinge",
                    count * self._tables.sharing.places, self._tables.classes, self._steps[b],
                )  # fmt: skip
            run_parts(lambda i: self._learn(len(batch), kept, i), _PARTS)  # noqa: B023

    def _vote(self, batch: NDArray[np.uint8], kept: NDArray[np.uint8], i: int) -> None:
        b, part = divmod(i, _PARTS)
        tables, (first, last) = self._tables, self._edges[part : part + 2]
        down, across, stride = tables.sharing
        find_cells(
            batch[b], tables.tuples, tables.salts, tables.log_size, across, down, stride, first, last, self._cells[b]
        )
        self._votes[b, part] = 0
        vote(self._cells[b], self._signs, kept[b], first, last, self._votes[b, part])

    def _learn(self, batch: int, kept: NDArray[np.uint8], part: int) -> None:
        first, last = self._edges[part : part + 2]
        for b in range(batch):
            learn(self._cells[b], self._latent, self._signs, kept[b], first, last, self._steps[b])


@_jit
def _errors(votes, targets, weights, shares, rate, temperature, margin, hinge, most, classes, steps):
    """Steps (BLOCK, classes) from votes (parts, BLOCK, classes): what moves each class's latent numbers."""
    steps[:] = 0
    total = votes.sum(0)
    for s in range(BLOCK):
        target = targets[s]
        if target < 0 or weights[s] == 0:
            continue
        scale = np.sqrt(most * shares[s])
        step = np.float32(rate * weights[s])
        row, out = total[s], steps[s]
        if hinge:
            rival = -1
            for c in range(classes):
                if c != target and (rival < 0 or row[c] > row[rival]):
                    rival = c
            if rival >= 0 and row[target] - row[rival] < margin * scale:
                out[target], out[rival] = step, -step
            continue
        top = row[0]
        for c in range(1, classes):
            top = max(top, row[c])
        below = 0.0
        for c in range(classes):
            below += np.exp((row[c] - top) / (temperature * scale))
        for c in range(classes):
            share = np.exp((row[c] - top) / (temperature * scale)) / below
            out[c] = np.float32(-step * share)
        out[target] += step
