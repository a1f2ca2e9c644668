"""Real data by name: found on this machine, fetched with a checksum, or shipped with the package.

>>> from tithe.data import load
>>> train_x, train_y, test_x, test_y = load("digits")
"""

from tithe.data.catalogue import DataFile, Description
from tithe.data.loading import available, describe, load, names
from tithe.data.records import Labelled, Lexicon, Ratings, Stars

__all__ = [
    "DataFile",
    "Description",
    "Labelled",
    "Lexicon",
    "Ratings",
    "Stars",
    "available",
    "describe",
    "load",
    "names",
]
