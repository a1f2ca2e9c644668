"""Arrays that workers share: each is put in one place, once, and lies there while somebody uses it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, which has no folder in memory to sweep
    fcntl = None  # type: ignore[assignment]

__all__ = ["Folder", "Label", "Mapped", "Shelf", "mapped", "put"]

_MEMORY = Path("/dev/shm")
_MOST_IDLE = 1 << 28  # bytes of arrays that are kept though nobody uses them now

Place = TypeVar("Place", bound=Hashable)


class Label(NamedTuple):
    """Where an array lies as a file: enough to map it."""

    path: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Folder:
    """A folder in memory, where there is such a thing; it goes with this process, or with the next one's start.

    >>> folder = Folder()
    >>> mapped(folder.put(np.arange(4.0)))
    array([0., 1., 2., 3.])
    >>> folder.remove()
    """

    def __init__(self) -> None:
        _sweep()
        self.path, lock = _make()
        self._numbers = itertools.count()
        self.remove = weakref.finalize(self, _remove, self.path, lock)

    def put(self, array: np.ndarray[Any, Any]) -> Label:
        """Write an array to a file of its own. O(bytes)."""
        return put(array, self.path / f"array-{next(self._numbers)}")


class Shelf(Generic[Place]):
    """Knows where arrays lie that somebody uses, or has used not long ago. They must not change while they do.

    Args:
        put: copies an array to a place.
        remove: takes it away from there.

    >>> folder = Folder()
    >>> shelf = Shelf(folder.put, lambda label: Path(label.path).unlink())
    >>> block = np.arange(4.0)
    >>> shelf.use(block) == shelf.use(block)
    True
    >>> folder.remove()
    """

    def __init__(self, put: Callable[[np.ndarray[Any, Any]], Place], remove: Callable[[Place], object]) -> None:
        self._put, self._remove = put, remove
        self._places: dict[Hashable, Place] = {}
        self._arrays: dict[Place, tuple[Hashable, Any]] = {}  # they are kept, so that their memory is not another's
        self._users: Counter[Place] = Counter()
        self._idle: OrderedDict[Place, int] = OrderedDict()  # with their bytes
        self._idle_bytes = 0

    def use(self, array: np.ndarray[Any, Any]) -> Place:
        """Where an array lies, which it does until ``release``."""
        key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if key not in self._places:
            place = self._put(array)
            self._places[key], self._arrays[place] = place, (key, array)
        place = self._places[key]
        self._idle_bytes -= self._idle.pop(place, 0)
        self._users[place] += 1
        return place

    def release(self, place: Place) -> None:
        """One user less; the array is kept for the next one while there is room."""
        self._users[place] -= 1
        if self._users[place]:
            return
        del self._users[place]
        self._idle[place] = self._arrays[place][1].nbytes
        self._idle_bytes += self._idle[place]
        while self._idle_bytes > _MOST_IDLE:
            self._forget(next(iter(self._idle)))

    def forget_idle(self) -> None:
        """Take away what nobody uses: it may change from now on."""
        for place in list(self._idle):
            self._forget(place)

    def _forget(self, place: Place) -> None:
        self._idle_bytes -= self._idle.pop(place)
        del self._places[self._arrays.pop(place)[0]]
        self._remove(place)


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
    mode: Literal["c", "r"] = "c" if writable else "r"
    return np.memmap(label.path, dtype=np.dtype(label.dtype), mode=mode, shape=label.shape).view(np.ndarray)


def _make() -> tuple[Path, int | None]:
    """A new folder, and the lock on it, where there are locks."""
    parent = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"tithe-lattice-{os.getpid()}-", dir=parent))
        try:
            lock = _lock(path)
        except FileNotFoundError:  # another process has taken it for one that was left behind
            continue
        if fcntl is None or (lock is not None and path.is_dir()):
            return path, lock
        _unlock(lock)


def _lock(folder: Path) -> int | None:
    """Mark a folder as in use until this process ends; ``None`` where somebody else has, or nobody can."""
    if fcntl is None:
        return None
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _unlock(lock)


def _sweep() -> None:
    """Take away folders of processes that were killed; those of others, in containers too, hold a lock."""
    for folder in _MEMORY.glob("tithe-lattice-*"):
        try:
            lock = _lock(folder)
        except OSError:  # another sweeps at the same time, or it is another user's
            continue
        if lock is not None:
            _remove(folder, lock)
