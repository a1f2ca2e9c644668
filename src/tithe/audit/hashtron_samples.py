"""Where the samples of yes-or-no questions come from: letters of lexica, images of two classes, rows of a table."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe import data
from tithe.hashtron.languages import LetterSamples, Part, letter_samples, parse

__all__ = ["Examples", "Maker", "Split", "images", "last_spoken", "letters", "pair", "pronounced", "table"]

Maker = Callable[[np.random.Generator, int], "Split"]
"""Makes the samples of a task, with so many keys each: one for each hashtron of the first layer."""

_HELD_OUT = 0.3  # of the words
_LETTERS = 3  # that a hashtron sees together
_PIXELS, _WINDOW, _INK = 10, 7, 127  # brighter is ink
_FEATURES, _EDGES = 4, (0.2, 0.4, 0.6, 0.8)

Examples = tuple[NDArray[np.uint32], NDArray[np.int64]]
Chunk = tuple[str, ...]
Asked = Callable[[LetterSamples, Part], tuple[NDArray[np.intp], NDArray[np.int64]]]  # rows of letters, and answers


@dataclass(frozen=True, slots=True)
class Split:
    """Samples of a task, each a key for each hashtron of the first layer, and yes (1) or no (0).

    Attributes:
        known: what may be learned from, uint32 (n, columns) and int64 (n,).
        groups: which of these stay together when they are parted, int64 (n,): the letters of a word.
        test: what is reported.
    """

    known: Examples
    groups: NDArray[np.int64]
    test: Examples

    def fold(self, number: int, of: int = 4) -> tuple[Examples, Examples]:
        """What is known without one of so many parts, and that part, to choose settings by. O(n).

        >>> known = np.zeros((6, 1), np.uint32), np.arange(6)
        >>> parts = Split(known, np.arange(6) // 2, test=known)
        >>> [later[1].tolist() for _, later in (parts.fold(i, 3) for i in range(3))]
        [[0, 1], [2, 3], [4, 5]]
        """
        (x, y), later = self.known, self.groups % of == number
        return (x[~later], y[~later]), (x[later], y[later])


def _tuples(values: NDArray[Any], places: list[NDArray[np.intp]], width: int) -> NDArray[np.uint32]:
    """One key for each column: the values at its places side by side, each in ``width`` bits."""
    shifts = np.arange(len(places[0]), dtype=np.uint32) * np.uint32(width)
    columns = [np.bitwise_or.reduce(values[:, chosen].astype(np.uint32) << shifts, axis=1) for chosen in places]
    return np.stack(columns, 1)


def _draw(random: np.random.Generator, among: NDArray[np.intp], count: int, columns: int) -> list[NDArray[np.intp]]:
    return [np.sort(random.choice(among, count, replace=False)) for _ in range(columns)]


@functools.cache
def _samples(code: str, width: int) -> LetterSamples:
    rows = data.load(f"lexicon:{code}")
    text = "\n".join(f"{word}\t{' '.join(phonemes)}" for word, phonemes in rows)
    return letter_samples(parse(text.encode()), seed=0, width=width, held_out=_HELD_OUT)


def letters(code: str, width: int, asked: Asked) -> Maker:
    """A question on letters; words are held out whole, and letters and phonemes aligned by the other words alone."""

    def make(random: np.random.Generator, columns: int) -> Split:
        samples = _samples(code, width)
        (rows, answers), (unseen, targets) = (asked(samples, part) for part in (samples.train, samples.held_out))
        windows, others = samples.train.windows[rows], samples.held_out.windows[unseen]
        places = _draw(random, np.flatnonzero((windows != windows[0]).any(0)), _LETTERS, columns)
        bits = (len(samples.alphabet.letters) + 1).bit_length()
        words, which = np.unique([word.casefold() for word in samples.train.words], return_inverse=True)
        groups = random.permutation(len(words))[np.repeat(which, np.diff(samples.train.edges))[rows]]
        return Split((_tuples(windows, places, bits), answers), groups, (_tuples(others, places, bits), targets))

    return make


def pronounced(letter: str, yes: Chunk, no: Chunk | None = None) -> Asked:
    """Rows of a letter, and whether it is said so; without ``no``, whatever else it may be is a no."""

    def asked(samples: LetterSamples, part: Part) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        code = samples.alphabet.letters.index(letter) + 2
        here = part.windows[:, part.windows.shape[1] // 2] == code
        is_yes = np.isin(part.labels, [i for i, chunk in enumerate(samples.chunks) if chunk == yes])
        other = [i for i, chunk in enumerate(samples.chunks) if no is None or chunk == no]
        rows = np.flatnonzero(here & (is_yes | np.isin(part.labels, other)))
        return rows, is_yes[rows].astype(np.int64)

    return asked


def last_spoken(samples: LetterSamples, part: Part) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Rows of the last letters of words, and whether these are spoken. O(rows)."""
    rows = part.edges[1:][np.diff(part.edges) > 0] - 1
    rows = rows[part.labels[rows] >= 0]
    spoken = np.array([bool(chunk) for chunk in samples.chunks])
    return rows, spoken[part.labels[rows]].astype(np.int64)


def images(name: str, no: int, yes: int, count: int, frame: int = 0) -> Maker:
    """Which of two classes an image is of, by tuples of pixels in one window each that leaves out a frame."""

    def make(random: np.random.Generator, columns: int) -> Split:
        x, y, test_x, test_y = pair(name, no, yes)
        chosen = random.permutation(len(x))[:count]
        edge = np.arange(_WINDOW)
        places = []
        for row, column in random.integers(frame, 28 - frame - _WINDOW + 1, (columns, 2)).tolist():
            window = ((row + edge[:, None]) * 28 + column + edge).ravel()
            places.append(np.sort(random.choice(window, _PIXELS, replace=False)))
        known = _tuples(x[chosen], places, 1), y[chosen]
        return Split(known, np.arange(len(chosen)), (_tuples(test_x, places, 1), test_y))

    return make


@functools.lru_cache(maxsize=4)
def pair(
    name: str, no: int, yes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """The training and test images of two classes as bits, and whether they are of the second. O(pixels)."""
    images = data.load(name)
    found = []
    for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y)):
        rows = (y == no) | (y == yes)
        found.append(((x[rows].reshape(-1, 28 * 28) > _INK).astype(np.uint8), (y[rows] == yes).astype(np.int64)))
    return *found[0], *found[1]


def table(name: str) -> Maker:
    """Whether a row is of the second class or, where the target is a quantity, above the median of what is known."""

    def make(random: np.random.Generator, columns: int) -> Split:
        table = data.load(name)
        edges = np.quantile(table.train_x, _EDGES, axis=0)
        places = _draw(random, np.arange(edges.shape[1]), _FEATURES, columns)
        known, test = (
            _tuples((x[None] > edges[:, None]).sum(0), places, len(_EDGES).bit_length())
            for x in (table.train_x, table.test_x)
        )
        least = np.median(table.train_y) if table.train_y.dtype.kind == "f" else 0
        y, test_y = ((part > least).astype(np.int64) for part in (table.train_y, table.test_y))
        return Split((known, y), random.permutation(len(known)), (test, test_y))

    return make
