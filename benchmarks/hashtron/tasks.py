"""What is learned: eight data sets, their test parts, and the parts that are held out to choose settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, train_test_split

import tithe
from benchmarks.hashtron.tables_from_wheel import read_table

TEST_SHARE, VALIDATION_SHARE = 0.3, 0.2
# Catalan, because one letter tells 78 % of the phonemes and its neighbours most of the rest (unstressed a and e become
# ə, o becomes u; b, d and g soften between vowels), because 1,335 of its 2,000 words have as many letters as phonemes
# (10,630 rows, 37 phonemes), and because these line up: in English words of equal length they often do not ("axe").
_LANGUAGE = "cat"
_CONTEXT = 3  # letters on either side
_DIGITS_SCALE = 15  # grey values 0..16 become 0..240


@dataclass(frozen=True)
class Samples:
    """Rows of columns (n, c) of numbers or objects, or images (n, H, W) uint8; targets; what must stay together."""

    X: NDArray[Any]
    y: NDArray[Any]
    groups: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[Any] | slice) -> Samples:
        """Some of them."""
        return Samples(self.X[rows], self.y[rows], None if self.groups is None else self.groups[rows])


@dataclass(frozen=True)
class Task:
    """A data set and how it is parted.

    Attributes:
        name: as the command line has it.
        contents: in words.
        load: gives all samples, an official test part last.
        runs: splits into training and test part, or seeds of the models where the test part is official.
        official: samples of the official test part; 0 where 30 % are drawn for each run.
        quantity: whether the target is a quantity, scored by R², and not a class, scored by accuracy.
        warps: for images, the deformations of ``tithe.hashtron.tuples.warps`` that suit them.
        choice_rows: training samples from which candidates learn at most while settings are chosen, whoever chooses.
    """

    name: str
    contents: str
    load: Callable[[], Samples]
    runs: int
    official: int = 0
    quantity: bool = False
    warps: str | None = None
    choice_rows: int = 1_000_000

    @property
    def images(self) -> bool:
        """Whether the samples are images."""
        return self.warps is not None

    def split(self, samples: Samples, run: int) -> tuple[Samples, Samples]:
        """Training and test part of a run."""
        if self.official:
            return samples.take(slice(-self.official)), samples.take(slice(-self.official, None))
        return self.part(samples, TEST_SHARE, run)

    def part(self, samples: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
        """The samples but ``share`` of them, and these: by class, by group, or at random for quantities."""
        if samples.groups is not None:
            splitter = GroupShuffleSplit(1, test_size=share, random_state=seed)
            kept, out = next(splitter.split(samples.X, groups=samples.groups))
        else:
            strata = None if self.quantity else samples.y
            kept, out = train_test_split(np.arange(len(samples)), test_size=share, stratify=strata, random_state=seed)
        return samples.take(kept), samples.take(out)

    def prior(self, train: Samples, test: Samples) -> float:
        """The score of the most frequent class, or of the mean."""
        if self.quantity:
            return 0.0
        classes, counts = np.unique(train.y, return_counts=True)
        return float(np.mean(test.y == classes[counts.argmax()]))


def categorical(X: NDArray[Any]) -> list[int]:
    """The columns that hold strings."""
    return [c for c in range(X.shape[1]) if isinstance(X[0, c], str)] if X.dtype == object else []


def _labelled(name: str, scale: int = 1) -> Callable[[], Samples]:
    def load() -> Samples:
        data = tithe.data.load(name)
        X = np.concatenate((data.train_x, data.test_x))
        return Samples(X * scale if scale > 1 else X, np.concatenate((data.train_y, data.test_y)))

    return load


def _phonemes() -> Samples:
    """Rows of seven letters: the one whose phoneme is the target, and three on either side."""
    edge = "_" * _CONTEXT
    windows, targets, words = [], [], []
    for number, (word, phonemes) in enumerate(tithe.data.load(f"lexicon:{_LANGUAGE}")):
        if len(word) == len(phonemes):
            padded = edge + word + edge
            windows += [list(padded[i : i + 2 * _CONTEXT + 1]) for i in range(len(word))]
            targets += phonemes
            words += [number] * len(word)
    return Samples(np.array(windows, object), np.unique(targets, return_inverse=True)[1], np.array(words))


def _adult() -> Samples:
    *columns, income = read_table("adult").values()
    return Samples(np.array([column.astype(object) for column in columns], object).T, (income == ">50K").astype(int))


def _california() -> Samples:
    *columns, value = read_table("california_housing").values()
    return Samples(np.stack(columns, axis=1), value)


_ALL = (
    Task("digits", "images of 8×8 pixels, 10 digits", _labelled("digits", _DIGITS_SCALE), 10, warps="handwriting"),
    Task("breast_cancer", "30 numbers, 2 classes", _labelled("breast_cancer"), 10),
    Task("wine", "13 numbers, 3 classes", _labelled("wine"), 10),
    Task(
        "mnist", "images of 28×28 pixels, 10 digits", _labelled("mnist"), 3,
        official=10_000, warps="handwriting", choice_rows=20_000,
    ),
    Task(
        "fashion-mnist", "images of 28×28 pixels, 10 kinds of clothing", _labelled("fashion-mnist"), 3,
        official=10_000, warps="mirror", choice_rows=20_000,
    ),
    Task("phonemes", "7 letters of a Catalan word, 37 phonemes of the middle one, words apart", _phonemes, 3),
    Task("adult", "6 numbers and 8 categories, 2 classes of income", _adult, 3),
    Task("california_housing", "8 numbers, median value of houses", _california, 3, quantity=True),
)  # fmt: skip
TASKS = {task.name: task for task in _ALL}
