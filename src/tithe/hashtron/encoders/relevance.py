"""Which bits of a table are worth a place in a tuple: those that say something about the target, drawn more often."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.encoders.columns import ColumnBits

__all__ = ["chances", "relevance"]

_CLASSES = 64  # among which targets are told apart; others share
_AT_ONCE = 1 << 22  # bits that are held as numbers
_EVEN = 0.5  # share of the draws in which all columns are alike
_DEVIATIONS = 3.0
_TRACE = 1e-9  # so that, of bits that say nothing alone, each column keeps its middle one first


def relevance(
    encoder: ColumnBits, packed: NDArray[np.uint8], y: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mutual information of each bit and the target in nats, (D,), less what chance alone gives; 0 where it gives more.

    Args:
        encoder: what made the bits.
        packed: samples, (n, ⌈D/8⌉).
        y: targets, (n,).
        weight: of the samples, (n,); they add up to how many there are.

    By chance 2·n times the information is χ² with classes − 1 degrees of freedom; three standard deviations above its
    mean are taken off. O(n · D · min(classes, 64)). Source: Wilks 1938.
    """
    classes, codes = np.unique(y % _CLASSES, return_inverse=True)
    said = np.zeros((len(classes), encoder.length))
    rows = max(1, _AT_ONCE // encoder.length)
    for part, bits in encoder.unpacked(packed):
        for start in range(0, len(bits), rows):
            chunk = bits[start : start + rows].astype(np.float32)
            own = codes[part][start : start + rows]
            shares = np.zeros((len(own), len(classes)), np.float32)
            shares[np.arange(len(own)), own] = weight[part][start : start + rows]
            said += shares.T @ chunk
    totals = np.bincount(codes, weight, len(classes))[:, None]
    count = totals.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sum(
            np.where(there > 0, there * np.log(there * count / (totals * there.sum(0))), 0).sum(0)
            for there in (said, np.maximum(totals - said, 0))
        )
    free = len(classes) - 1
    chance = (free + _DEVIATIONS * math.sqrt(2 * free)) / 2
    above: NDArray[np.float64] = np.maximum(np.asarray(found) - chance, 0) / count
    return above


def chances(encoder: ColumnBits, found: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """How likely each bit is to be drawn, (D,), in proportion; 0 where ``size`` bytes have no room to keep it.

    Half of the draws follow the relevance of each column's best bit, half take any column; then any of its bits.

    Args:
        encoder: what made the bits.
        found: their relevance, (D,).
        size: bytes that may be spent on bits.
    """
    owners, places = encoder.owners, np.arange(encoder.length)
    lengths = np.array(encoder.lengths)
    starts = np.cumsum(lengths) - lengths
    aside = np.abs(places - (starts + (lengths - 1) / 2)[owners])
    rank = np.empty(encoder.length, np.int64)  # within its column
    rank[np.lexsort((aside, -found, owners))] = places - starts[owners]
    kept = encoder.within(size, np.argsort(-(found + _TRACE) / (1 + rank), kind="stable"))
    room = np.zeros(encoder.length)
    room[kept] = 1
    best = np.maximum.reduceat(found * room, starts)
    there = np.maximum.reduceat(room, starts)
    by_column = _EVEN * there / there.sum() + ((1 - _EVEN) * best / best.sum() if best.sum() else 0)
    likely: NDArray[np.float64] = room * (by_column / np.maximum(np.add.reduceat(room, starts), 1))[owners]
    return likely
