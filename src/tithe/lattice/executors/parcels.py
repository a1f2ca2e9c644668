"""Calls and results between processes: pickled, but for large arrays, of which one copy is shared.

A parcel is bytes and the arrays that were taken out of it. Whoever sends decides how the arrays travel.
"""

from __future__ import annotations

import io
import pickle
import sys
import traceback
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np

from tithe.errors import TaskFailedError
from tithe.lattice.executors.executor import Result

__all__ = ["Fetch", "pack", "pack_results", "portable", "unpack", "unpack_results"]

Fetch = Callable[[int, bool], np.ndarray[Any, Any]]  # gives an array by its number, and whether to write to it
_ONLY_BY_VALUE = frozenset({ModuleType, memoryview, type({}.keys()), type({}.values()), type({}.items())})
_LEAST = 1 << 16  # bytes of an array that is worth taking out


class _Packer(pickle.Pickler):
    """Large arrays go by their number; functions and classes that another process cannot import go by value."""

    def __init__(self, file: io.BytesIO, script: bool) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._script = script
        self.arrays: list[np.ndarray[Any, Any]] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no identity is used twice

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is np.ndarray:
            if value.nbytes >= _LEAST and _plain(value.dtype):
                return _array, (self._number(value, value),)
        elif kind is FunctionType or issubclass(kind, type):
            if not _importable(value, self._script):
                return cloudpickle.loads, (cloudpickle.dumps(value),)
        elif kind in _ONLY_BY_VALUE:
            return cloudpickle.loads, (cloudpickle.dumps(value),)
        elif (torch := sys.modules.get("torch")) is not None and kind is torch.Tensor:
            return self._torch(value) if value.layout == torch.strided else NotImplemented
        return NotImplemented

    def _torch(self, value: Any) -> Any:
        try:
            return (_tensor, (self._number(value, value.numpy()),)) if value.nbytes >= _LEAST else NotImplemented
        except (RuntimeError, TypeError):  # on a GPU, with a gradient, conjugated, or of a type that NumPy lacks
            return NotImplemented

    def _number(self, value: Any, array: np.ndarray[Any, Any]) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.arrays)
            self._kept.append(value)
            self.arrays.append(array)
        return self._numbers[id(value)]


class _Unpacker(pickle.Unpickler):
    """Puts the arrays back."""

    def __init__(self, data: bytes, arrays: Fetch) -> None:
        super().__init__(io.BytesIO(data))
        self._arrays = arrays

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name in ("_array", "_tensor"):
            return self._array if name == "_array" else self._tensor
        return super().find_class(module, name)

    def _array(self, number: int) -> np.ndarray[Any, Any]:
        return self._arrays(number, False)

    def _tensor(self, number: int) -> Any:
        import torch

        return torch.from_numpy(self._arrays(number, True))  # torch knows no tensors that cannot be written to


def pack(value: Any, *, script: bool = True) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
    """Bytes of a value, and its large arrays, each once.

    Args:
        value: that is sent.
        script: whether the other process has loaded the same script, so that it finds what is defined there.

    Raises whatever pickle raises for what cannot be pickled. O(bytes but those of the arrays).

    >>> data, arrays = pack([np.zeros(10_000), np.zeros(3)])
    >>> len(arrays), [part.shape for part in unpack(data, lambda number, writable: arrays[number])]
    (1, [(10000,), (3,)])
    """
    file = io.BytesIO()
    packer = _Packer(file, script)
    packer.dump(value)
    return file.getvalue(), packer.arrays


def unpack(data: bytes, arrays: Fetch | None) -> Any:
    """The value of ``pack``; only for bytes of a process of one's own. Raises whatever pickle raises.

    Args:
        data: of ``pack``.
        arrays: gives an array by its number, one that may be written to where that is asked for; ``None`` where
            there were none.
    """
    return pickle.loads(data) if arrays is None else _Unpacker(data, arrays).load()


def pack_results(results: list[Result], *, script: bool = True) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
    """As ``pack``, for results; one that cannot be sent becomes the reason why."""
    results = [result if result.ok else result._replace(value=portable(result.value)) for result in results]
    try:
        return pack(list(zip(*results, strict=True)), script=script)  # by column it is a third of the work
    except Exception:
        return pack(list(zip(*map(_sendable, results), strict=True)), script=script)


def unpack_results(data: bytes, arrays: Fetch | None) -> list[Result]:
    """The results of ``pack_results``, as ``unpack``."""
    return list(map(Result, *unpack(data, arrays)))


def _importable(value: Any, script: bool) -> bool:
    """Whether another process finds this function or class by its name: in a module, or in the script that it runs."""
    module = sys.modules.get(value.__module__)
    if module is None or (value.__module__ == "__main__" and not (script and hasattr(module, "__file__"))):
        return False
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def portable(error: BaseException) -> BaseException:
    """An exception that survives the way to another process, with its traceback as a note."""
    text = "".join(traceback.format_exception(error))
    try:
        error.__cause__ = error.__context__ = None
        found = cloudpickle.loads(cloudpickle.dumps(error))
        if type(found) is type(error):
            error.add_note(f"in the worker:\n{text}")
            return error
    except Exception:  # its arguments are not those of its class, say
        pass
    return TaskFailedError(text)


def _sendable(result: Result) -> Result:
    try:
        pack(result.value)
    except Exception as error:
        why = f"it returned a {type(result.value).__name__} that cannot be sent from its process: {error}"
        return result._replace(ok=False, value=TaskFailedError(why))
    return result


def _plain(dtype: np.dtype[Any]) -> bool:
    """Whether the name of the dtype says all about it: it has no fields, no objects, and NumPy knows it."""
    return not dtype.hasobject and np.dtype(dtype.str) == dtype


def _array(number: int) -> Any:
    raise NotImplementedError  # stands in the bytes; _Unpacker puts the array there


def _tensor(number: int) -> Any:
    raise NotImplementedError
