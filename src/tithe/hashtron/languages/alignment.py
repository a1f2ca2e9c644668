"""Which phonemes of a word belong to which of its letters, learned from a lexicon by expectation–maximisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.languages.alignment_loops import (
    NOWHERE,
    STEPS,
    best_paths,
    expected_counts,
    kinds,
    letter_keys,
    step_keys,
)
from tithe.hashtron.languages.spelling import letters

__all__ = ["MOST_LETTERS", "MOST_WORDS", "Aligned", "Aligner", "Chunk", "fit_aligner"]

Chunk: TypeAlias = tuple[str, ...]
"""The phonemes of a letter: none, one or two."""

MOST_WORDS = 20_000
"""Words from which an aligner is estimated; of more, so many at even distances."""

MOST_LETTERS = 100
"""Letters of a word that is aligned; what is longer is no word, and costs the square of its length."""

_ROUNDS = 12
_TOGETHER = 4096  # words aligned at once
_AT_FIRST = 0.1  # weight of other steps, where one of a letter with a phoneme has 1
_LEAST = 1e-12  # probability of a step that was never expected


class _Numbered(NamedTuple):
    """Words as numbers: all letters, all phonemes, and where those of each word begin and the last ones end."""

    letters: NDArray[np.int64]
    phonemes: NDArray[np.int64]
    letter_edges: NDArray[np.int64]
    phoneme_edges: NDArray[np.int64]


@dataclass(frozen=True)
class Aligned:
    """What ``Aligner.align`` found.

    Attributes:
        letters: of every word.
        chunks: for each letter of a word its phonemes, none, one or two; ``None`` for a word that cannot be aligned.
    """

    letters: tuple[tuple[str, ...], ...]
    chunks: tuple[tuple[Chunk, ...] | None, ...]

    @property
    def share(self) -> float:
        """How much of the words could be aligned, 0 to 1; 0 without words."""
        return sum(chunks is not None for chunks in self.chunks) / max(1, len(self.chunks))


@dataclass(frozen=True, eq=False)
class Aligner:
    """How probable the steps of an alignment are: one or two letters with none, one or two phonemes.

    Attributes:
        alphabet: number of each letter in lower case, from 1 on; 0 is any other.
        sounds: number of each phoneme, from 1 on; 0 is any other.
        keys: of the steps that were seen, as ``step_keys`` makes them, ascending, int64 (steps,).
        scores: log probability of each, float64 (steps,).
    """

    alphabet: dict[str, int]
    sounds: dict[str, int]
    keys: NDArray[np.int64]
    scores: NDArray[np.float64]

    def align(self, words: Sequence[str], phonemes: Sequence[Sequence[str]]) -> Aligned:
        """Give each letter its phonemes.

        Where two letters share a phoneme, that one gets it which is likelier to have it by itself, else the first.

        Args:
            words: any.
            phonemes: those of each word.

        Returns:
            The letters, and their phonemes, which one after the other are those of the word. A word cannot be aligned
            that has no letters, more than ``MOST_LETTERS``, no phonemes, or more than two of them a letter. Raises
            ``InvalidValueError`` where there are not as many of both. O(Σ letters · phonemes).

        >>> aligner = fit_aligner(["sh", "she", "he", "s"], [("ʃ",), ("ʃ", "i"), ("h", "i"), ("s",)])
        >>> aligner.align(["hesh"], [("h", "i", "ʃ")]).chunks
        ((('h',), ('i',), ('ʃ',), ()),)
        """
        _check(words, phonemes)
        spelled = tuple(map(letters, words))
        chunks: list[tuple[Chunk, ...] | None] = [None] * len(spelled)
        fitting = _alignable(spelled, phonemes)
        for start in range(0, len(fitting), _TOGETHER):
            here = fitting[start : start + _TOGETHER]
            numbered = _numbered([spelled[w] for w in here], [phonemes[w] for w in here], self.alphabet, self.sounds)
            keys, cells = step_keys(*numbered, *self._sizes)
            taken = best_paths(self._scores(keys), numbered.letter_edges, numbered.phoneme_edges, cells)
            lengths = self._lengths(taken, numbered).tolist()
            for w, (first, last) in zip(here, pairwise(numbered.letter_edges.tolist()), strict=True):
                chunks[w] = _cut(phonemes[w], lengths[first:last])
        return Aligned(spelled, tuple(chunks))

    @property
    def _sizes(self) -> tuple[int, int]:
        return len(self.alphabet) + 1, len(self.sounds) + 1

    def _scores(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        unseen = np.log(_LEAST) * STEPS[kinds(keys, *self._sizes), 0]
        found: NDArray[np.float64] = np.where(self.keys[at] == keys, self.scores[at], unseen)
        return found

    def _lengths(self, taken: NDArray[np.int8], numbered: _Numbered) -> NDArray[np.int64]:
        """How many phonemes each letter gets, where these steps begin."""
        lengths = np.where(taken >= 0, STEPS[taken, 1], 0)
        first = np.flatnonzero((taken >= 0) & (STEPS[taken, 0] == 2))
        shared = numbered.phonemes[np.cumsum(lengths)[first] - 1]

        def gain(letters: NDArray[np.int64]) -> NDArray[np.float64]:
            """How much more probable the phoneme is for these letters than silence."""
            sounds = self._sizes[1]
            return self._scores(letter_keys(letters, shared, sounds)) - self._scores(letter_keys(letters, None, sounds))

        late = first[gain(numbered.letters[first + 1]) > gain(numbered.letters[first])]
        lengths[late], lengths[late + 1] = 0, 1
        return lengths


def fit_aligner(words: Sequence[str], phonemes: Sequence[Sequence[str]]) -> Aligner:
    """Learn how letters and phonemes go together.

    Args:
        words: from which to learn.
        phonemes: those of each word.

    Returns:
        The aligner; the same for the same words. Raises ``InvalidValueError`` where there are not as many of both, or
        no word can be aligned. O(rounds · Σ letters · phonemes), for at most ``MOST_WORDS`` words.

    Source: Jiampojamarn, Kondrak & Sherif 2007, many-to-many alignments by expectation–maximisation.

    >>> aligner = fit_aligner(["lax", "la", "ax"], [("l", "a", "k", "s"), ("l", "a"), ("a", "k", "s")])
    >>> aligner.align(["xal"], [("k", "s", "a", "l")]).chunks
    ((('k', 's'), ('a',), ('l',)),)
    """
    _check(words, phonemes)
    some = np.linspace(0, len(words) - 1, min(len(words), MOST_WORDS)).astype(np.int64).tolist()
    spelled, spoken = [letters(words[w]) for w in some], [phonemes[w] for w in some]
    fitting = _alignable(spelled, spoken)
    if not fitting:
        raise InvalidValueError(
            f"none of {len(words)} words can be aligned: each has no letters, more than {MOST_LETTERS}, no phonemes, "
            "or more than two of them a letter; check that words and phonemes have not changed places"
        )
    spelled, spoken = [spelled[w] for w in fitting], [spoken[w] for w in fitting]
    alphabet = _numbers(letter.lower() for word in spelled for letter in word)
    sounds = _numbers(chain.from_iterable(spoken))
    numbered = _numbered(spelled, spoken, alphabet, sounds)
    sizes = len(alphabet) + 1, len(sounds) + 1
    found, cells = step_keys(*numbered, *sizes)
    keys, steps = np.unique(found, return_inverse=True)
    outside = int(keys[0] == NOWHERE)
    keys, steps = keys[outside:], steps.reshape(found.shape) - outside  # NOWHERE is the place before the first
    weight = _estimated(numbered, cells, steps, kinds(keys, *sizes))
    return Aligner(alphabet, sounds, keys, np.log(np.maximum(weight, _LEAST)))


def _estimated(
    numbered: _Numbered, cells: NDArray[np.int64], steps: NDArray[np.int64], kind: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The probability of each step, of which ``kind`` is the place in ``STEPS``."""
    spent = STEPS[kind, 0]
    weight = scaled = np.where(kind == 0, 1, _AT_FIRST)
    for _ in range(_ROUNDS):
        counts = expected_counts(steps, numbered.letter_edges, numbered.phoneme_edges, cells, scaled)
        weight = counts / counts.sum()
        # The same factor for each letter changes no path's share, and keeps long words in the range of floating point.
        by_letter = counts @ np.log(np.maximum(weight, _LEAST)) / (counts @ spent)
        scaled = weight * np.exp(-by_letter * spent)
    return weight


def _check(words: Sequence[str], phonemes: Sequence[Sequence[str]]) -> None:
    if len(words) != len(phonemes):
        raise InvalidValueError(f"{len(words)} words and the phonemes of {len(phonemes)}: give as many")


def _alignable(spelled: Sequence[Sequence[str]], spoken: Sequence[Sequence[str]]) -> list[int]:
    return [
        w
        for w, (word, sounds) in enumerate(zip(spelled, spoken, strict=True))
        if 0 < len(word) <= MOST_LETTERS and 0 < len(sounds) <= 2 * len(word)
    ]


def _numbers(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)), start=1)}


def _numbered(
    spelled: Sequence[Sequence[str]],
    spoken: Sequence[Sequence[str]],
    alphabet: dict[str, int],
    sounds: dict[str, int],
) -> _Numbered:
    return _Numbered(
        np.array([alphabet.get(letter.lower(), 0) for word in spelled for letter in word], np.int64),
        np.array([sounds.get(sound, 0) for word in spoken for sound in word], np.int64),
        np.cumsum([0, *map(len, spelled)]),
        np.cumsum([0, *map(len, spoken)]),
    )


def _cut(phonemes: Sequence[str], lengths: Sequence[int]) -> tuple[Chunk, ...]:
    edges = np.cumsum([0, *lengths]).tolist()
    return tuple(tuple(phonemes[first:last]) for first, last in pairwise(edges))
