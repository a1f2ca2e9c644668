"""A WiSARD: tables addressed by random tuples of bits, one for each class, filled by counting and then bleached.

Source: Aleksander, Thomas and Bowden 1984; bleaching by Grieco, Lima, De Gregorio and França 2010; one bit a cell after
bleaching as in BTHOWeN (Susskind et al. 2022). Written for this comparison; NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.hashtron.booleans import Booleans
from benchmarks.hashtron.sizes import of_wisard

_LEAST = 4  # tuples
_HELD_OUT, _MOST_HELD_OUT = 0.2, 5_000  # of the training samples, to choose the threshold
# Counts below a share are bleached: of the samples of the class, or of a class if all were of one size.
_SHARES = (0.0, *np.geomspace(2e-4, 0.1, 14).tolist())


@dataclass(frozen=True)
class Wisard:
    """A fitted machine.

    Attributes:
        booleans: how samples become bits.
        places: of the bits of each tuple, (tuples, width).
        codes: (width,); the cell is the exclusive or of those of the bits that are set.
        tables: whether a cell votes for a class, (tuples, cells, classes).
        classes: the most frequent first, so that it wins a tie.
    """

    booleans: Booleans
    places: NDArray[np.int64]
    codes: NDArray[np.uint16]
    tables: NDArray[np.bool_]
    classes: NDArray[Any]

    @property
    def bytes(self) -> int:
        """What has to be kept to predict."""
        tuples, width = self.places.shape
        return of_wisard(tuples, width, self.tables.shape[1], len(self.classes)) + self.booleans.bytes

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """The class with the most votes."""
        return self.classes[_votes(self.tables, _addresses(self.booleans.bits(X), self.places, self.codes)).argmax(1)]


def fit_wisard(
    X: NDArray[Any],
    y: NDArray[Any],
    *,
    width: int,
    log_cells: int,
    levels: int,
    budget: int,
    seed: int,
    coded: bool = False,
) -> Wisard:
    """Fill tables of ``budget`` bytes at most; the threshold of bleaching is chosen on held-out samples."""
    random = np.random.default_rng(seed)
    booleans = Booleans.fit(X, levels, coded=coded)
    classes, y, sizes = np.unique(y, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    classes, y = classes[order], np.argsort(order)[y]
    tuples = max(_LEAST, (budget - booleans.bytes) // of_wisard(1, width, 1 << log_cells, len(classes)))
    bits = booleans.bits(X)
    places = _tuples(tuples, width, bits.shape[1], random)
    codes = _codes(width, log_cells, random)
    addresses = _addresses(bits, places, codes)
    shuffled = random.permutation(len(y))
    held = min(_MOST_HELD_OUT, round(_HELD_OUT * len(y)))
    out, seen = shuffled[:held], shuffled[held:]
    counts = _counts(addresses[:, seen], y[seen], 1 << log_cells, len(classes))
    ways = [(share, by_class) for share in _SHARES for by_class in (True, False)]
    right = [np.mean(_votes(_bleached(counts, y[seen], *way), addresses[:, out]).argmax(1) == y[out]) for way in ways]
    counts += _counts(addresses[:, out], y[out], 1 << log_cells, len(classes))
    tables = _bleached(counts, y, *ways[int(np.argmax(right))])
    return Wisard(booleans, places, codes, tables, classes)


def _tuples(count: int, width: int, bits: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Random tuples that use all bits equally often."""
    rounds = -(-count * width // bits)
    return np.concatenate([random.permutation(bits) for _ in range(rounds)])[: count * width].reshape(count, width)


def _codes(width: int, log_cells: int, random: np.random.Generator) -> NDArray[np.uint16]:
    """One for each bit of a tuple: powers of two where every address has a cell, else an H3 hash as in BTHOWeN."""
    if width <= log_cells:
        return (1 << np.arange(width)).astype(np.uint16)
    return random.integers(0, 1 << log_cells, width, dtype=np.uint16)


def _addresses(bits: NDArray[np.uint8], places: NDArray[np.int64], codes: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The cell of each sample in each table, (tuples, n)."""
    by_bit = np.ascontiguousarray(bits.T)
    out = np.zeros((len(places), len(bits)), np.uint16)
    for address, where in zip(out, places, strict=True):
        for code, place in zip(codes, where, strict=True):
            address ^= by_bit[place] * code
    return out


def _counts(addresses: NDArray[np.uint16], y: NDArray[np.int64], cells: int, classes: int) -> NDArray[np.int32]:
    """How often each cell was met by each class, (tuples, cells, classes)."""
    out = np.empty((len(addresses), cells, classes), np.int32)
    for table, address in zip(out, addresses, strict=True):
        met = np.bincount(address.astype(np.int64) * classes + y, minlength=cells * classes)
        table[:] = met.reshape(cells, classes)
    return out


def _bleached(counts: NDArray[np.int32], y: NDArray[np.int64], share: float, by_class: bool) -> NDArray[np.bool_]:
    """Which cells were met at least once, and in more than ``share`` of the samples of the class."""
    classes = counts.shape[2]
    sizes = np.bincount(y, minlength=classes) if by_class else np.full(classes, len(y) / classes)
    return counts >= np.maximum(1, share * sizes)


def _votes(tables: NDArray[np.bool_], addresses: NDArray[np.uint16]) -> NDArray[np.int32]:
    """Votes (n, classes)."""
    out = np.zeros((addresses.shape[1], tables.shape[2]), np.int32)
    for table, address in zip(tables, addresses, strict=True):
        out += table[address]
    return out
