"""Yes-or-no questions on real data for networks of hashtrons, named before anything was measured on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe import data
from tithe.errors import InvalidValueError
from tithe.hashtron import Layer, Network, Topology
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.languages import LetterSamples, Part, letter_samples, parse
from tithe.hashtron.threshold import bits_counted, threshold

__all__ = [
    "BALANCED",
    "CLOTHES",
    "COLUMNS",
    "DIGITS",
    "NOISY",
    "TASKS",
    "TOPOLOGY",
    "Examples",
    "Split",
    "all_images",
    "majority_network",
    "present",
    "split",
]

BALANCED = False  # votes count alike, as in the reference; so more unseen answers are right where nothing caps the keys

COLUMNS = 45
_GROUP = 3  # hashtrons whose majority is one bit
_BITS = COLUMNS // _GROUP
TOPOLOGY = Topology(
    (Layer(COLUMNS, combiner=MajorityPool(width=_BITS, height=1, subwidth=_GROUP, capwidth=_BITS)), Layer(1))
)
_HELD_OUT = 0.3  # of the words
_LETTERS = 3  # that a hashtron sees together
_PIXELS, _WINDOW, _INK = 10, 7, 127  # brighter is ink
_FEATURES, _EDGES = 4, (0.2, 0.4, 0.6, 0.8)
_IMAGES, _CLOTHES = 2000, 4000
_DIGITS, _FRAME = ("mnist", 4, 9), 4  # four or nine; the frame is always empty

Examples = tuple[NDArray[np.uint32], NDArray[np.int64]]
Chunk = tuple[str, ...]
Asked = Callable[[LetterSamples, Part], tuple[NDArray[np.intp], NDArray[np.int64]]]  # rows of letters, and answers


@dataclass(frozen=True, slots=True)
class Split:
    """Samples of a task, each a key for each of the ``COLUMNS`` hashtrons of the first layer, and yes (1) or no (0).

    Attributes:
        known: what may be learned from, uint32 (n, ``COLUMNS``) and int64 (n,).
        groups: which of these stay together when they are parted, int64 (n,): the letters of a word.
        test: what is reported.
    """

    known: Examples
    groups: NDArray[np.int64]
    test: Examples

    def fold(self, number: int, of: int = 4) -> tuple[Examples, Examples]:
        """What is known without one of so many parts, and that part, to choose settings by. O(n).

        >>> sum(len(split("breast cancer", 0).fold(i)[1][1]) for i in range(4))
        398
        """
        (x, y), later = self.known, self.groups % of == number
        return (x[~later], y[~later]), (x[later], y[later])


@functools.lru_cache(maxsize=64)
def split(task: str, seed: int) -> Split:
    """The samples of a task, seen through other tuples with every seed; those of the test are always the same.

    Args:
        task: a key of ``TASKS``, ``NOISY``, ``CLOTHES`` or ``DIGITS``.
        seed: not negative.

    Returns:
        The samples. Raises ``InvalidValueError`` for another task, ``DataUnavailableError`` where its data are not
        there. O(samples · ``COLUMNS``).

    >>> x, y = split("breast cancer", 0).known
    >>> x.shape, sorted(set(y.tolist()))
    ((398, 45), [0, 1])
    """
    if task not in _NEEDED:
        raise InvalidValueError(f"there is no task {task!r}; use one of {', '.join(_NEEDED)}")
    return (TASKS | NOISY | CLOTHES | DIGITS)[task](np.random.default_rng([seed, *task.encode()]))


def present(group: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """The tasks of a group, by default ``TASKS``, whose data are on this machine; those of tables always are. O(tasks).

    >>> "breast cancer" in present(), "diabetes" in present(NOISY)
    (True, True)
    """
    return tuple(task for task in (TASKS if group is None else group) if data.available(_NEEDED[task]))


def majority_network(seed: int) -> Network:
    """Random hashtrons, and a last one that says what most of the bits it reads say. O(2^bits it reads).

    >>> majority_network(0).neurons[-1].forward(np.array([0b111111110000000, 0b111111100000000])).tolist()
    [True, False]
    """
    network = Network.random(TOPOLOGY, np.random.default_rng(seed))
    bits = bits_counted(TOPOLOGY)
    return network.replace(COLUMNS, threshold(bits, bits // 2 + 1))


def _tuples(values: NDArray[Any], places: list[NDArray[np.intp]], width: int) -> NDArray[np.uint32]:
    """One key for each column: the values at its places side by side, each in ``width`` bits."""
    shifts = np.arange(len(places[0]), dtype=np.uint32) * np.uint32(width)
    columns = [np.bitwise_or.reduce(values[:, chosen].astype(np.uint32) << shifts, axis=1) for chosen in places]
    return np.stack(columns, 1)


def _draw(random: np.random.Generator, among: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    return [np.sort(random.choice(among, count, replace=False)) for _ in range(COLUMNS)]


@functools.cache
def _samples(code: str, width: int) -> LetterSamples:
    rows = data.load(f"lexicon:{code}")
    text = "\n".join(f"{word}\t{' '.join(phonemes)}" for word, phonemes in rows)
    return letter_samples(parse(text.encode()), seed=0, width=width, held_out=_HELD_OUT)


def _letters(code: str, width: int, asked: Asked) -> Callable[[np.random.Generator], Split]:
    """A question on letters; words are held out whole, and letters and phonemes aligned by the other words alone."""

    def make(random: np.random.Generator) -> Split:
        samples = _samples(code, width)
        (rows, answers), (unseen, targets) = (asked(samples, part) for part in (samples.train, samples.held_out))
        windows, others = samples.train.windows[rows], samples.held_out.windows[unseen]
        places = _draw(random, np.flatnonzero((windows != windows[0]).any(0)), _LETTERS)
        bits = (len(samples.alphabet.letters) + 1).bit_length()
        words, which = np.unique([word.casefold() for word in samples.train.words], return_inverse=True)
        groups = random.permutation(len(words))[np.repeat(which, np.diff(samples.train.edges))[rows]]
        return Split((_tuples(windows, places, bits), answers), groups, (_tuples(others, places, bits), targets))

    return make


def _pronounced(letter: str, yes: Chunk, no: Chunk | None = None) -> Asked:
    """Rows of a letter, and whether it is said so; without ``no``, whatever else it may be is a no."""

    def asked(samples: LetterSamples, part: Part) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        code = samples.alphabet.letters.index(letter) + 2
        here = part.windows[:, part.windows.shape[1] // 2] == code
        is_yes = np.isin(part.labels, [i for i, chunk in enumerate(samples.chunks) if chunk == yes])
        other = [i for i, chunk in enumerate(samples.chunks) if no is None or chunk == no]
        rows = np.flatnonzero(here & (is_yes | np.isin(part.labels, other)))
        return rows, is_yes[rows].astype(np.int64)

    return asked


def _last_spoken(samples: LetterSamples, part: Part) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    rows = part.edges[1:][np.diff(part.edges) > 0] - 1
    rows = rows[part.labels[rows] >= 0]
    spoken = np.array([bool(chunk) for chunk in samples.chunks])
    return rows, spoken[part.labels[rows]].astype(np.int64)


def all_images(seed: int) -> Split:
    """Four or nine, with all 11,791 training images of them in MNIST: for what depends on the size of data."""
    return _images(*_DIGITS, len(_pair(*_DIGITS)[0]), _FRAME)(np.random.default_rng(seed))


def _images(name: str, no: int, yes: int, count: int, frame: int = 0) -> Callable[[np.random.Generator], Split]:
    """Which of two classes an image is of, by tuples of pixels in one window each that leaves out a frame."""

    def make(random: np.random.Generator) -> Split:
        x, y, test_x, test_y = _pair(name, no, yes)
        chosen = random.permutation(len(x))[:count]
        edge = np.arange(_WINDOW)
        places = []
        for row, column in random.integers(frame, 28 - frame - _WINDOW + 1, (COLUMNS, 2)).tolist():
            window = ((row + edge[:, None]) * 28 + column + edge).ravel()
            places.append(np.sort(random.choice(window, _PIXELS, replace=False)))
        known = _tuples(x[chosen], places, 1), y[chosen]
        return Split(known, np.arange(len(chosen)), (_tuples(test_x, places, 1), test_y))

    return make


@functools.lru_cache(maxsize=4)
def _pair(
    name: str, no: int, yes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    images = data.load(name)
    found = []
    for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y)):
        rows = (y == no) | (y == yes)
        found.append(((x[rows].reshape(-1, 28 * 28) > _INK).astype(np.uint8), (y[rows] == yes).astype(np.int64)))
    return *found[0], *found[1]


def _table(name: str) -> Callable[[np.random.Generator], Split]:
    """Whether a row is of the second class or, where the target is a quantity, above the median of what is known."""

    def make(random: np.random.Generator) -> Split:
        table = data.load(name)
        edges = np.quantile(table.train_x, _EDGES, axis=0)
        places = _draw(random, np.arange(edges.shape[1]), _FEATURES)
        known, test = (
            _tuples((x[None] > edges[:, None]).sum(0), places, len(_EDGES).bit_length())
            for x in (table.train_x, table.test_x)
        )
        least = np.median(table.train_y) if table.train_y.dtype.kind == "f" else 0
        y, test_y = ((part > least).astype(np.int64) for part in (table.train_y, table.test_y))
        return Split((known, y), random.permutation(len(known)), (test, test_y))

    return make


TASKS: dict[str, Callable[[np.random.Generator], Split]] = {
    "Italian s": _letters("ita", 9, _pronounced("s", ("z",), ("s",))),
    "French last letter": _letters("fra", 13, _last_spoken),
    "English e": _letters("eng", 9, _pronounced("e", ())),
    "MNIST 4 or 9": _images(*_DIGITS, _IMAGES, _FRAME),
    "breast cancer": _table("breast_cancer"),
}
"""Is an s voiced? Is the last letter of a word spoken? Is an e silent? Four or nine? Benign or not?"""

NOISY: dict[str, Callable[[np.random.Generator], Split]] = {
    "English a": _letters("eng", 9, _pronounced("a", ("ə",))),
    "Portuguese e": _letters("por", 9, _pronounced("e", ("ɨ",))),
    "Slovene e": _letters("slv", 9, _pronounced("e", ("ɛ",))),
    "diabetes": _table("diabetes"),
}
"""Questions that the samples answer only in part, such as those on vowels whose stress is not written. They were named
when the others had been measured, and before they were themselves."""

CLOTHES: dict[str, Callable[[np.random.Generator], Split]] = {
    "T-shirt or shirt": _images("fashion-mnist", 0, 6, _CLOTHES),
    "pullover or coat": _images("fashion-mnist", 2, 4, _CLOTHES),
    "pullover or shirt": _images("fashion-mnist", 2, 6, _CLOTHES),
    "coat or shirt": _images("fashion-mnist", 4, 6, _CLOTHES),
    "T-shirt or dress": _images("fashion-mnist", 0, 3, _CLOTHES),
    "dress or shirt": _images("fashion-mnist", 3, 6, _CLOTHES),
    "sandal or sneaker": _images("fashion-mnist", 5, 7, _CLOTHES),
    "sneaker or boot": _images("fashion-mnist", 7, 9, _CLOTHES),
}
"""Clothes that people confuse, too. They were named when the test samples of the other groups had been measured, the
last four when those of the first four had been; before that, validation was looked at, their own test samples never."""

DIGITS: dict[str, Callable[[np.random.Generator], Split]] = {
    f"MNIST {no} or {yes}": _images("mnist", no, yes, _CLOTHES, _FRAME) for no, yes in ((3, 5), (3, 8), (5, 8), (7, 9))
}
"""Digits that look alike, named when all others had been measured, and before they were, validation included."""

_NEEDED = {
    **dict(zip(TASKS, ("lexicon:ita", "lexicon:fra", "lexicon:eng", "mnist", "breast_cancer"), strict=True)),
    **dict(zip(NOISY, ("lexicon:eng", "lexicon:por", "lexicon:slv", "diabetes"), strict=True)),
    **dict.fromkeys(CLOTHES, "fashion-mnist"),
    **dict.fromkeys(DIGITS, "mnist"),
}
