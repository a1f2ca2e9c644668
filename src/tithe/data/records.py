"""What ``load`` returns: a few named tuples of NumPy arrays, to be unpacked or read by name."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Labelled", "Lexicon", "Ratings", "Stars"]

Lexicon: TypeAlias = list[tuple[str, tuple[str, ...]]]
"""Rows of (word, phonemes), sorted by word; one row for each pronunciation."""


class Labelled(NamedTuple):
    """Inputs and targets of a labelled set, split into a train and a test part.

    Attributes:
        train_x: uint8 (n, height, width) for images, float64 (n, features) for tables.
        train_y: int64 (n,) classes; float64 (n,) where the target is a quantity.
        test_x: as ``train_x``.
        test_y: as ``train_y``.

    All arrays are fresh and writable. O(1).

    >>> one = np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int64)
    >>> train_x, train_y, test_x, test_y = Labelled(*one, *one)
    >>> train_x.shape, test_y.dtype.name
    ((1, 8, 8), 'int64')
    """

    train_x: NDArray[Any]
    train_y: NDArray[Any]
    test_x: NDArray[Any]
    test_y: NDArray[Any]


class Stars(NamedTuple):
    """A star catalogue by columns, each of shape (n,), ordered from the brightest; row 0 is the Sun.

    Attributes:
        hip: int64, Hipparcos number; 0 is the Sun.
        ra: float64, right ascension in degrees, epoch J2000; 0 for the Sun.
        dec: float64, declination in degrees; 0 for the Sun.
        distance: float64, parsecs, from the parallax.
        magnitude: float64, apparent visual magnitude; smaller is brighter.
        b_v: float64, colour index B-V in magnitudes; NaN where the source has none.
        constellation: str, IAU abbreviation in lower case; empty for the Sun.

    O(1). Source: ESA 1997, the Hipparcos and Tycho catalogues (SP-1200), as compiled in the Big Sky catalogue.

    >>> column = np.zeros(1)
    >>> Stars(np.zeros(1, np.int64), *[column] * 5, np.array([""])).hip
    array([0])
    """

    hip: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    distance: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    b_v: NDArray[np.float64]
    constellation: NDArray[np.str_]


class Ratings(NamedTuple):
    """Who rated what, by columns of int64, each of shape (n,), in the order of the source.

    Attributes:
        user: 0-based: the number in the file minus one.
        item: 0-based: the number in the file minus one.
        rating: 1 to 5, as in the file.
        timestamp: seconds since 1970-01-01 UTC, as in the file.

    O(1). Source: Harper and Konstan 2015, doi:10.1145/2827872.

    >>> Ratings(*[np.array([0, 1])] * 4).user.max()
    np.int64(1)
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[np.int64]
    timestamp: NDArray[np.int64]
