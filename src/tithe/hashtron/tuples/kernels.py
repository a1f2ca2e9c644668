"""The inner loops of tuple tables: which cell each tuple of bits names, what the cells vote, and how they learn.

They are there twice with the same bits, ``compiled`` and ``plain``; this is where the fastest that run here are chosen.
"""

from __future__ import annotations

import importlib
from typing import Any

from tithe.hashtron.kernels import compiles
from tithe.hashtron.tuples.plain import BLOCK, CLASSES

__all__ = ["BLOCK", "CLASSES", "find_cells", "lay_out", "learn", "vote"]

_loops: Any = importlib.import_module(f"tithe.hashtron.tuples.{'compiled' if compiles() else 'plain'}")
find_cells, lay_out, learn, vote = _loops.find_cells, _loops.lay_out, _loops.learn, _loops.vote
