"""``load`` a data set by its name, list the names, and ask what a set is."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Literal, get_args, overload

from tithe.data.catalogue import LEXICON, SETS, Description, Kind, lexica
from tithe.data.images import labelled_images
from tithe.data.lexicon import parse_lexicon
from tithe.data.locate import find, read
from tithe.data.movielens import parse_ratings
from tithe.data.records import Labelled, Ratings, Stars
from tithe.data.stars import parse_stars
from tithe.data.tables import bundled
from tithe.errors import InvalidValueError

__all__ = ["available", "describe", "load", "names"]

_PARSERS: dict[Kind, Callable[..., Any]] = {
    "images": labelled_images,
    "stars": parse_stars,
    "lexicon": parse_lexicon,
    "ratings": parse_ratings,
}


@overload
def load(name: Literal["mnist", "fashion-mnist", "digits", "breast_cancer", "wine", "diabetes"]) -> Labelled: ...
@overload
def load(name: Literal["stars"]) -> Stars: ...
@overload
def load(name: Literal["movielens-100k"]) -> Ratings: ...
@overload
def load(name: str) -> Any: ...
def load(name: str) -> Any:
    """Load a data set.

    Its files are taken from the folder named by the environment variable ``TITHE_DATA_DIR``, else from the user's
    cache, else fetched from the public source into the cache; ``digits``, ``breast_cancer``, ``wine``, ``diabetes``
    and ``stars`` need none of these. Checksums are verified at every load, wherever the file was.

    Args:
        name: one of ``names()``.

    Returns:
        ``Labelled`` for images and tables, ``Stars``, ``Ratings``, or for ``lexicon:…`` a list of (word, phonemes)
        with phonemes a tuple of strings. Arrays are fresh and writable. O(size).

    Raises ``InvalidValueError`` for an unknown name, ``DataUnavailableError`` where a file is nowhere (a connection
    is given up after 5 seconds, a silent one after 30), ``CorruptFileError`` where a checksum differs.
    Source: ``describe(name)`` has it for each set.

    >>> train_x, train_y, test_x, test_y = load("digits")
    >>> train_x.shape, train_x.dtype.name, test_x.shape
    ((1258, 8, 8), 'uint8', (539, 8, 8))
    >>> stars = load("stars")
    >>> int(stars.hip[1]), float(stars.magnitude[1]), str(stars.constellation[1])  # Sirius
    (32349, -1.44, 'cma')
    """
    entry = describe(name)
    return _PARSERS[entry.kind](*read(entry)) if entry.files else bundled(name)


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """The names that ``load`` takes, the lexica last.

    Args:
        kind: only those of one kind: ``images``, ``table``, ``stars``, ``lexicon`` or ``ratings``.

    Returns:
        The names. Raises ``InvalidValueError`` for an unknown kind. O(sets).

    >>> names("images")
    ('digits', 'mnist', 'fashion-mnist')
    >>> len(names()), names()[-1]
    (148, 'lexicon:zul')
    """
    if kind is not None and kind not in get_args(Kind):
        raise InvalidValueError(f"unknown kind {kind!r}; use one of {', '.join(get_args(Kind))}, or None for all")
    return tuple(name for name, entry in (SETS | lexica()).items() if kind in (None, entry.kind))


def describe(name: str) -> Description:
    """What a data set is: contents, source, licence, citation, files and bytes to fetch. ``print`` it.

    Args:
        name: one of ``names()``.

    Returns:
        The description. Raises ``InvalidValueError`` for an unknown name. O(1).

    >>> describe("stars").licence
    'MIT'
    >>> describe("fashion_mnist")
    Traceback (most recent call last):
        ...
    tithe.errors.InvalidValueError: unknown data set 'fashion_mnist'; did you mean 'fashion-mnist' or 'mnist'? ...
    """
    entry = SETS.get(name) or lexica().get(name)
    if entry is None:
        pool = lexica() if str(name).startswith(LEXICON) else SETS
        near = difflib.get_close_matches(str(name), pool, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise InvalidValueError(f"unknown data set {name!r}; {hint}tithe.data.names() lists all {len(names())}")
    return entry


def available(name: str) -> bool:
    """Whether all files of a data set are on this machine, so that ``load`` needs no network.

    Their content is not looked at.

    Args:
        name: one of ``names()``.

    Returns:
        The answer. Raises ``InvalidValueError`` for an unknown name. O(files).

    >>> available("digits")
    True
    """
    entry = describe(name)
    return entry.embedded or all(find(file) for file in entry.files)
