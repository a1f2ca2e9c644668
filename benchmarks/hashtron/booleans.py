"""Samples as truth values, for machines that know nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.hashtron.sizes import of_names
from benchmarks.hashtron.tasks import categorical

_GREY = 75  # where the documentation of both Tsetlin machines parts black from white
_LEVEL = 4  # bytes


@dataclass(frozen=True)
class Booleans:
    """How samples become truth values.

    Attributes:
        columns: for each column the levels of a number, ascending, or the names of the categories, in a list; for
            images the grey levels, the same for all pixels.
        images: whether the samples are images.
        coded: whether a category is given by the bits of its number and not by a bit of its own.
    """

    columns: tuple[NDArray[Any] | list[Any], ...]
    images: bool
    coded: bool = False

    @classmethod
    def fit(cls, X: NDArray[Any], levels: int, *, coded: bool = False) -> Booleans:
        """Learn levels, spread over the distinct values of a column as pyTsetlinMachine's Binarizer does."""
        if X.ndim == 3:
            steps = np.array([_GREY]) if levels == 1 else np.arange(1, levels + 1) * 255 / (levels + 1)
            return cls((steps,), images=True)
        named = categorical(X)
        return cls(tuple(sorted(set(X[:, c])) if c in named else _levels(X[:, c].astype(np.float64), levels)
                         for c in range(X.shape[1])), images=False, coded=coded)  # fmt: skip

    @property
    def bytes(self) -> int:
        """What has to be kept."""
        if self.images:
            return len(self.columns[0])
        return sum(of_names(c) if isinstance(c, list) else _LEVEL * len(c) for c in self.columns)

    def bits(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples as (n, D) of 0 and 1. A category that was not seen has no bit set."""
        if self.images:
            flat = X.reshape(len(X), -1)
            return np.concatenate([flat > level for level in self.columns[0]], axis=1).view(np.uint8)
        return np.concatenate([self._column(X[:, c], each) for c, each in enumerate(self.columns)], axis=1)

    def _column(self, values: NDArray[Any], each: NDArray[Any] | list[Any]) -> NDArray[np.uint8]:
        if not isinstance(each, list):
            return (values.astype(np.float64)[:, None] >= each).astype(np.uint8)
        places = {name: place for place, name in enumerate(each, start=1)}
        numbers = np.array([places.get(name, 0) for name in values])
        if self.coded:
            return (numbers[:, None] >> np.arange(len(each).bit_length()) & 1).astype(np.uint8)
        return (numbers[:, None] == np.arange(1, len(each) + 1)).astype(np.uint8)


def _levels(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    distinct = np.unique(values)[1:]
    if len(distinct) <= most:
        return distinct
    return distinct[(np.arange(most) * len(distinct) / most).astype(int)]
