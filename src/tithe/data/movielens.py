"""MovieLens 100K: a hundred thousand ratings of films."""

from __future__ import annotations

import numpy as np

from tithe.data.records import Ratings
from tithe.errors import CorruptFileError

__all__ = ["parse_ratings", "without_header"]


def without_header(raw: bytes) -> bytes:
    r"""``raw`` without the line of column names that RecBole puts before the ratings, if there is one.

    What is left is byte for byte the public ``u.data``. O(size).

    >>> without_header(b"user_id:token\titem_id:token\n196\t242\t3\t881250949\n")
    b'196\t242\t3\t881250949\n'
    """
    return raw.partition(b"\n")[2] if raw.startswith(b"user_id:") else raw


def parse_ratings(data: bytes) -> Ratings:
    r"""The columns of ``u.data``.

    Args:
        data: lines of user, item, rating and timestamp, integers with tabs between them; users and items from 1.

    Returns:
        The columns; users and items from 0. Raises ``CorruptFileError`` for anything else. O(rows).

    >>> parse_ratings(b"196\t242\t3\t881250949\n").item
    array([241])
    """
    try:
        table = np.array([line.split(b"\t") for line in data.splitlines()], np.int64)
        user, item, rating, timestamp = table.T.copy()
    except ValueError as error:
        raise CorruptFileError(f"not a table of four integers a line, with tabs between them: {error}") from None
    return Ratings(user - 1, item - 1, rating, timestamp)
