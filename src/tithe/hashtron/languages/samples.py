"""From a lexicon to samples: a row for each letter, with the letters around it, and its phonemes as the label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress, pairwise

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.languages.alignment import Aligner, Chunk, fit_aligner
from tithe.hashtron.languages.lexicon import Pronunciations
from tithe.hashtron.languages.spelling import letters

__all__ = [
    "UNALIGNED",
    "UNSEEN",
    "Alphabet",
    "LetterSamples",
    "Part",
    "letter_samples",
    "split_words",
    "spoken",
]

UNSEEN = -1
"""Label of a letter whose phonemes no letter of the training words has: every answer is wrong."""

UNALIGNED = -2
"""Label of the letters of a word that could not be aligned: nobody knows the answer."""

_OUTSIDE, _OTHER = 0, 1  # codes before the first letter's


@dataclass(frozen=True)
class Alphabet:
    """Letters as numbers, and how many are seen at once.

    Attributes:
        letters: in lower case; their codes count from 2. 0 is a place outside the word, 1 any other letter.
        width: letters that a row sees, an odd number; that in the middle is the one to pronounce.

    Raises ``InvalidValueError`` for another width.
    """

    letters: tuple[str, ...]
    width: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 2 == 0:
            raise InvalidValueError(
                f"width is {self.width}; use an odd number of letters, so that one is in the middle"
            )

    def windows(self, words: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """A row for each letter of each word: the codes of the letters around it.

        Args:
            words: any.

        Returns:
            uint32 (rows, ``width``), as ``Network.predict`` takes them, and int64 (words + 1,) where the rows of each
            word begin and the last ones end. O(rows · width).

        >>> Alphabet(("a", "b"), 3).windows(["Ab", "c"])[0].tolist()
        [[0, 2, 3], [2, 3, 0], [0, 1, 0]]
        """
        codes = {letter: code for code, letter in enumerate(self.letters, start=_OTHER + 1)}
        aside = [_OUTSIDE] * (self.width // 2)
        spelled = [letters(word) for word in words]
        padded = [[*aside, *(codes.get(letter.lower(), _OTHER) for letter in word), *aside] for word in spelled]
        rows = [word[i : i + self.width] for word in padded for i in range(len(word) - self.width + 1)]
        return np.array(rows, np.uint32).reshape(-1, self.width), np.cumsum([0, *map(len, spelled)])

    def characters(self, windows: NDArray[np.uint32]) -> NDArray[np.str_]:
        """The same rows as texts, for encoders of categories: "" outside the word, U+FFFD for another letter. O(rows).

        >>> Alphabet(("a", "b"), 3).characters(np.array([[0, 2, 1]], np.uint32)).tolist()
        [['', 'a', '�']]
        """
        return np.array(["", "\ufffd", *self.letters])[windows]


@dataclass(frozen=True, eq=False)
class Part:
    """The words to train on, or those held out.

    Attributes:
        words: all, also those that could not be aligned.
        phonemes: of each word.
        windows: of all their letters, uint32 (rows, width).
        edges: where the rows of each word begin and the last ones end, int64 (words + 1,).
        labels: places in ``LetterSamples.chunks``, or ``UNSEEN`` or ``UNALIGNED``, int64 (rows,).
    """

    words: tuple[str, ...]
    phonemes: tuple[tuple[str, ...], ...]
    windows: NDArray[np.uint32]
    edges: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def aligned(self) -> int:
        """How many of the words could be aligned."""
        first = self.edges[:-1][np.diff(self.edges) > 0]
        return int((self.labels[first] != UNALIGNED).sum())


@dataclass(frozen=True, eq=False)
class LetterSamples:
    """A lexicon as samples.

    Attributes:
        alphabet: the letters of the words to train on.
        chunks: what labels stand for, most frequent first: none, one or two phonemes.
        train: the words to train on.
        held_out: the others.
        aligner: fitted to ``train`` alone, so that nothing of ``held_out`` is known before.
    """

    alphabet: Alphabet
    chunks: tuple[Chunk, ...]
    train: Part
    held_out: Part
    aligner: Aligner

    @property
    def share(self) -> float:
        """How much of all words could be aligned, 0 to 1."""
        words = len(self.train.words) + len(self.held_out.words)
        return (self.train.aligned + self.held_out.aligned) / words


def split_words(words: Sequence[str], fraction: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which words are held out: about ``fraction`` of the different ones, with all rows that they have.

    Args:
        words: some of them several times; those that differ only in case are the same.
        fraction: between 0 and 1.
        random: a NumPy generator.

    Returns:
        bool (words,), of both values. Raises ``InvalidValueError`` where that cannot be. O(n log n).

    >>> split_words(["a", "b", "B", "c"], 0.34, np.random.default_rng(5)).tolist()
    [False, True, True, False]
    """
    keys = [word.casefold() for word in words]
    different = sorted(set(keys))
    if not 0 < fraction < 1 or len(different) < 2:
        raise InvalidValueError(
            f"{fraction} of {len(different)} different words cannot be held out: use a fraction between 0 and 1, "
            "and at least two words"
        )
    count = min(max(1, round(fraction * len(different))), len(different) - 1)
    held = {different[i] for i in random.permutation(len(different))[:count].tolist()}
    return np.array([key in held for key in keys])


def letter_samples(
    lexicon: Pronunciations, *, seed: int | np.random.Generator, width: int = 9, held_out: float = 0.2
) -> LetterSamples:
    r"""Split a lexicon by words, align its letters with its phonemes, and make a row of each letter.

    Args:
        lexicon: the pronunciations.
        seed: of the split.
        width: letters that a row sees, odd.
        held_out: the fraction of words that is held out.

    Returns:
        The samples; the same for the same arguments. Raises ``InvalidValueError`` for arguments that cannot be, or
        where no word to train on can be aligned. O(Σ letters · (phonemes + width)).

    Source: MISSION H8.

    >>> from tithe.hashtron.languages.lexicon import parse
    >>> samples = letter_samples(parse(b"ab\tA B\nba\tB A\nabba\tA B B A\naa\tA A\nbb\tB B\n"), seed=0, width=3)
    >>> samples.held_out.words, samples.held_out.windows.tolist()
    (('abba',), [[0, 2, 3], [2, 3, 3], [3, 3, 2], [3, 2, 0]])
    >>> samples.chunks, samples.held_out.labels.tolist(), samples.share
    ((('A',), ('B',)), [0, 1, 1, 0], 1.0)
    """
    out = split_words(lexicon.words, held_out, np.random.default_rng(seed))
    parts = [(tuple(compress(lexicon.words, m)), tuple(compress(lexicon.phonemes, m))) for m in (~out, out)]
    aligner = fit_aligner(*parts[0])
    found = [aligner.align(*part).chunks for part in parts]
    seen = Counter(chain.from_iterable(word for word in found[0] if word is not None))
    chunks = tuple(sorted(seen, key=lambda chunk: (-seen[chunk], chunk)))
    alphabet = Alphabet(tuple(aligner.alphabet), width)
    label = {chunk: number for number, chunk in enumerate(chunks)}
    made = []
    for part, aligned in zip(parts, found, strict=True):
        windows, edges = alphabet.windows(part[0])
        labels = np.full(len(windows), UNALIGNED, np.int64)
        for word, (first, last) in zip(aligned, pairwise(edges.tolist()), strict=True):
            if word is not None:
                labels[first:last] = [label.get(chunk, UNSEEN) for chunk in word]
        made.append(Part(*part, windows, edges, labels))
    train, other = made
    return LetterSamples(alphabet, chunks, train, other, aligner)


def spoken(chunks: Sequence[Chunk], labels: NDArray[np.int64], edges: NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
    """The pronunciations of words whose letters have these labels.

    Args:
        chunks: what labels stand for.
        labels: of all letters, int64 (rows,), at least 0.
        edges: where the letters of each word begin and the last ones end, int64 (words + 1,).

    Returns:
        The phonemes of each word. Raises ``InvalidValueError`` for a label that has no phonemes. O(rows).

    >>> spoken([("a",), (), ("k", "s")], np.array([0, 2, 1, 0]), np.array([0, 3, 4]))
    (('a', 'k', 's'), ('a',))
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(chunks):
        raise InvalidValueError(
            f"labels from {labels.min()} to {labels.max()} were given; those from 0 to {len(chunks) - 1} have phonemes"
        )
    said = [chunks[label] for label in labels.tolist()]
    return tuple(tuple(chain.from_iterable(said[first:last])) for first, last in pairwise(edges.tolist()))
