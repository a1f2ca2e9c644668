"""The inner loops of hashtron networks, twice with the same bits: compiled, and on NumPy arrays or torch tensors."""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

__all__ = ["Packed", "compiles", "kernels"]


class Packed(NamedTuple):
    """The neurons of a layer, one after the other; NumPy arrays for the compiled loops, or tensors on one device.

    Attributes:
        salts: the salts of all programs; uint32 for the compiled loops, else int64, as all below.
        modulos: the modulos of all programs.
        pairs: (neurons + 1,) where each program starts in ``salts`` and ``modulos``.
        cells: the bytes of all filters, uint8.
        bytes: (neurons + 1,) where each filter starts in ``cells``.
    """

    salts: Any
    modulos: Any
    pairs: Any
    cells: Any
    bytes: Any


@functools.cache
def compiles() -> bool:
    """Whether numba is there and its JIT is not switched off (``NUMBA_DISABLE_JIT``)."""
    try:
        from numba import config
    except ImportError:
        return False
    return not config.DISABLE_JIT


@functools.cache
def kernels() -> Any:
    """The fastest loops that run here: ``kernels.compiled``, or ``kernels.plain`` where numba does not compile.

    >>> kernels().__name__.startswith("tithe.hashtron.kernels.")
    True
    """
    return importlib.import_module(f"tithe.hashtron.kernels.{'compiled' if compiles() else 'plain'}")
