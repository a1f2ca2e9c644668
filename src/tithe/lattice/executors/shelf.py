"""Arrays in shared memory: files of a folder that lies in memory, mapped by whoever needs them."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import weakref
from collections import Counter, OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Label", "Mapped", "Shelf", "mapped", "put"]

_MEMORY = Path("/dev/shm")
_MOST_IDLE = 1 << 28  # bytes of arrays that are kept though nobody uses them now


class Label(NamedTuple):
    """Where an array lies: enough to map it."""

    path: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Shelf:
    """A folder of arrays, each written once, while somebody uses it and some time longer.

    An array must not change while it lies here.

    >>> shelf = Shelf()
    >>> block = np.arange(4.0)
    >>> label = shelf.use(block)
    >>> shelf.use(block) == label, mapped(label)
    (True, memmap([0., 1., 2., 3.]))
    >>> shelf.remove()
    """

    def __init__(self) -> None:
        _sweep()
        parent = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix=f"tithe-lattice-{os.getpid()}-", dir=parent))
        self._numbers = itertools.count()
        self._labels: dict[Hashable, tuple[Label, Any]] = {}  # with the array, so that its memory is not another's
        self._keys: dict[Label, Hashable] = {}
        self._users: Counter[Label] = Counter()
        self._idle: OrderedDict[Label, None] = OrderedDict()
        self._idle_bytes = 0
        self.remove = weakref.finalize(self, shutil.rmtree, str(self.folder), ignore_errors=True)

    def use(self, array: np.ndarray[Any, Any]) -> Label:
        """Where an array lies, which it does until ``release``."""
        key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if key not in self._labels:
            label = put(array, self.folder / f"in-{next(self._numbers)}")
            self._labels[key], self._keys[label] = (label, array), key
        label = self._labels[key][0]
        if label in self._idle:
            del self._idle[label]
            self._idle_bytes -= label.nbytes
        self._users[label] += 1
        return label

    def release(self, label: Label) -> None:
        """One user less; the array is kept for the next one while there is room."""
        self._users[label] -= 1
        if self._users[label]:
            return
        del self._users[label]
        self._idle[label] = None
        self._idle_bytes += label.nbytes
        while self._idle_bytes > _MOST_IDLE:
            oldest, _ = self._idle.popitem(last=False)
            self._idle_bytes -= oldest.nbytes
            del self._labels[self._keys.pop(oldest)]
            Path(oldest.path).unlink(missing_ok=True)

    def forget_idle(self) -> None:
        """Take away what nobody uses: it may change from now on."""
        for label in self._idle:
            del self._labels[self._keys.pop(label)]
            Path(label.path).unlink(missing_ok=True)
        self._idle.clear()
        self._idle_bytes = 0


class Mapped:
    """Arrays that a worker keeps mapped, the last used ones."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[Label, np.ndarray[Any, Any]] = OrderedDict()
        self._bytes = 0

    def get(self, label: Label) -> np.ndarray[Any, Any]:
        """The array, which cannot be written to: other calls will read it, too."""
        if label in self._arrays:
            self._arrays.move_to_end(label)
            return self._arrays[label]
        self._arrays[label] = mapped(label, writable=False)
        self._bytes += label.nbytes
        while self._bytes > _MOST_IDLE and len(self._arrays) > 1:
            self._bytes -= self._arrays.popitem(last=False)[0].nbytes
        return self._arrays[label]


def put(array: np.ndarray[Any, Any], path: Path) -> Label:
    """Write an array to a file, whole. O(bytes)."""
    contiguous = np.ascontiguousarray(array)
    contiguous.tofile(path)
    return Label(str(path), contiguous.dtype.str, array.shape)


def mapped(label: Label, *, writable: bool = True) -> np.ndarray[Any, Any]:
    """Map an array; what is written to it is seen by nobody else. O(1), then a page at a time."""
    return np.memmap(label.path, dtype=np.dtype(label.dtype), mode="c" if writable else "r", shape=label.shape)


def _sweep() -> None:
    """Take away folders of processes that were killed."""
    for folder in _MEMORY.glob("tithe-lattice-*"):
        process = folder.name.split("-")[2]
        if process.isdecimal() and not Path("/proc", process).exists():
            shutil.rmtree(folder, ignore_errors=True)
