"""Hashes of byte strings: of a whole one, or of all its runs of one to three bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["codes", "runs"]

_jit: Any = numba.njit(nogil=True, cache=True)
_LONGEST = 3
_SALT = 0x9E3779B9


def runs(texts: Sequence[bytes], buckets: int) -> NDArray[np.bool_]:
    """Which of ``buckets`` the runs of each text fall into, bool (n, buckets); a zero byte is put at both its ends.

    A run's hash is that of its first byte, hashed again with the next byte for its salt. O(bytes).

    >>> np.flatnonzero(runs([b"a"], 8)[0]).tolist()
    [0, 2]
    """
    out = np.zeros((len(texts), buckets), np.bool_)
    _runs(*_joined([b"\0" + text + b"\0" for text in texts]), out)
    return out


def codes(texts: Sequence[bytes]) -> NDArray[np.uint32]:
    """A hash of each text, (n,): that of all its bytes, one after the other. O(bytes).

    >>> codes([b"oak", b"elm"]).tolist()
    [2890125592, 4257502275]
    """
    out = np.empty(len(texts), np.uint32)
    _codes(*_joined(texts), np.uint32(_SALT), out)
    return out


def _joined(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All bytes, and where each text begins and the last one ends."""
    edges = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=edges[1:])
    return np.frombuffer(b"".join(texts), np.uint8), edges


def _hash_plainly(n: Any, s: Any) -> Any:
    """``hash32(n, s, 2**32 - 1)``."""
    m = np.uint32(n - s)
    m = np.uint32(m ^ np.uint32(m << np.uint32(2)))
    m = np.uint32(m ^ np.uint32(m << np.uint32(3)))
    m = np.uint32(m ^ np.uint32(m >> np.uint32(5)))
    m = np.uint32(m ^ np.uint32(m >> np.uint32(7)))
    m = np.uint32(m ^ np.uint32(m << np.uint32(11)))
    m = np.uint32(m ^ np.uint32(m << np.uint32(13)))
    m = np.uint32(m ^ np.uint32(m >> np.uint32(17)))
    m = np.uint32(m ^ np.uint32(m << np.uint32(19)))
    m = np.uint32(m + s)
    return np.uint32((np.uint64(m) * np.uint64(0xFFFFFFFF)) >> np.uint64(32))


_hash: Any = _jit(_hash_plainly)


def _mark_runs(read: Any, edges: Any, out: Any) -> None:
    buckets = np.uint32(out.shape[1])
    for t in range(len(out)):
        for first in range(edges[t], edges[t + 1]):
            value = np.uint32(0)
            for i in range(first, min(first + _LONGEST, edges[t + 1])):
                value = _hash(value, np.uint32(read[i]))
                out[t, value % buckets] = True


def _hash_all(read: Any, edges: Any, salt: Any, out: Any) -> None:
    for t in range(len(out)):
        value = salt
        for i in range(edges[t], edges[t + 1]):
            value = _hash(value, np.uint32(read[i]))
        out[t] = _hash(_hash(value, salt), salt)


_runs: Any = _jit(_mark_runs)
_codes: Any = _jit(_hash_all)
