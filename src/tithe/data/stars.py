"""The star table: the Sun and the 5000 brightest single stars of the Hipparcos catalogue."""

from __future__ import annotations

import csv

import numpy as np

from tithe.data.records import Stars
from tithe.errors import CorruptFileError

__all__ = ["COLUMNS", "parse_stars"]

COLUMNS = ("hip", "ra_degrees", "dec_degrees", "dist_pc", "magnitude", "bv", "constellation")


def parse_stars(data: bytes) -> Stars:
    r"""The columns of a star table.

    Args:
        data: a UTF-8 CSV file whose first line is ``COLUMNS``; ``bv`` and ``constellation`` may be empty.

    Returns:
        The columns, in the order of the file. Raises ``CorruptFileError`` for other columns. O(rows).

    >>> parse_stars(f"{','.join(COLUMNS)}\n32349,101.3,-16.7,2.6,-1.4,,cma\n".encode())
    Stars(hip=array([32349]), ..., b_v=array([nan]), constellation=array(['cma'], dtype='<U3'))
    """
    header, *rows = csv.reader(data.decode().splitlines())
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise CorruptFileError(f"not a star table: its first line is {','.join(header)}, expected {','.join(COLUMNS)}")
    hip, *figures, constellation = zip(*rows, strict=True)
    ra, dec, distance, magnitude, b_v = (np.array([v or "nan" for v in column], np.float64) for column in figures)
    return Stars(np.array(hip, np.int64), ra, dec, distance, magnitude, b_v, np.array(constellation, np.str_))
