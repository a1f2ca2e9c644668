"""The values of one column, scanned once: numbers, or names of categories, and which of them are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["Name", "Values", "scan"]

Name: TypeAlias = str | float
"""Of a category: text, or a number, where 3, 3.0 and (in a column of truths) ``True`` are what ``==`` makes of them."""

_NUMBERS = (int, float, np.number, np.bool_)  # bool is an int
_WHOLE = (int, np.integer, np.bool_)


@dataclass(frozen=True)
class Values:
    """A column as ``scan`` finds it.

    Attributes:
        label: what messages call it.
        data: (n,); where all that is there are numbers, of an integer dtype or float64 with NaN for what is missing.
        absent: which are missing, bool (n,).
        numeric: whether there are numbers only, and some.
    """

    label: str
    data: NDArray[Any]
    absent: NDArray[np.bool_]
    numeric: bool

    def numbers(self) -> NDArray[Any]:
        """As numbers (n,), NaN where missing; ``InvalidDTypeError`` for what is none."""
        if self.numeric:
            return self.data
        for value in self.data[~self.absent].tolist():
            if not isinstance(value, _NUMBERS):
                raise _refused(value, self.label, "real number, as where the model was fitted")
        return np.full(len(self.data), np.nan)

    def names(self) -> list[Name | None]:
        """As names of categories, None where missing; ``InvalidDTypeError`` for what is neither text nor number."""
        if self.numeric:
            named: list[Any] = self.data.astype(np.float64).tolist()
        else:
            named = [value if type(value) is str else _name(value, self.label) for value in self.data.tolist()]
        return [None if absent else name for name, absent in zip(named, self.absent.tolist(), strict=True)]

    def encoded(self) -> list[bytes]:
        """As UTF-8, empty where missing; ``InvalidValueError`` for a text that is none (a lone surrogate)."""
        try:
            return [b"" if name is None else str(name).encode() for name in self.names()]
        except UnicodeEncodeError as error:
            raise InvalidValueError(f"{self.label} holds a text that is not Unicode ({error}): repair it") from error


def scan(column: NDArray[Any], label: str) -> Values:
    """A column (n,) of numbers, truths, strings and, among objects, None, NaN and pandas' NA, which are missing.

    Raises ``InvalidDTypeError`` for dates and times, ``InvalidValueError`` for infinity and what is too large. O(n).

    >>> scan(np.array([1, None, True], object), "column 0").data.tolist()
    [1.0, nan, 1.0]
    >>> scan(np.array(["a", None, 3], object), "column 0").names()
    ['a', None, 3.0]
    """
    kind = column.dtype.kind
    if kind in "biuf":
        return _numeric(column.astype(np.float64) if kind == "f" else column, label)
    if kind in "mM":
        raise InvalidDTypeError(f"{label} holds {column.dtype}, dates or times: convert it to numbers, say days")
    if kind != "O":
        return Values(label, column, np.zeros(len(column), np.bool_), False)
    kinds = {kind for kind in set(map(type, column)) if kind is not type(None) and kind.__name__ != "NAType"}
    if kinds and all(issubclass(kind, _NUMBERS) and not issubclass(kind, np.timedelta64) for kind in kinds):
        return _numeric(_as_numbers(column, all(issubclass(kind, _WHOLE) for kind in kinds), label), label)
    absent = np.array([_is_missing(value) for value in column], np.bool_)
    return Values(label, column, absent, False)


def _as_numbers(column: NDArray[Any], whole: bool, label: str) -> NDArray[Any]:
    listed = [None if type(value).__name__ == "NAType" else value for value in column.tolist()]
    try:
        if whole and None not in listed:
            return np.array(listed, np.int64)
    except OverflowError:
        pass  # larger than 64 bits
    try:
        return np.array(listed, np.float64)
    except OverflowError as error:
        raise InvalidValueError(f"{label} holds a number that is too large for float64: scale it down") from error


def _numeric(data: NDArray[Any], label: str) -> Values:
    absent = np.isnan(data) if data.dtype.kind == "f" else np.zeros(len(data), np.bool_)
    if data.dtype.kind == "f" and np.isinf(data).any():
        raise InvalidValueError(f"{label} holds infinity, or a number too large for float64: clip or remove it")
    return Values(label, data, absent, True)


def _name(value: Any, label: str) -> Name | None:
    if isinstance(value, str):
        return str(value)
    if _is_missing(value):
        return None
    if isinstance(value, _NUMBERS) and not isinstance(value, np.timedelta64):
        return float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise _refused(value, label, "string or a real number")


def _refused(value: Any, label: str, expected: str) -> InvalidDTypeError:
    return InvalidDTypeError(
        f"{label} holds {str(value)[:40]!r}, a {type(value).__name__}; each argument must be a {expected}: convert it"
    )


def _is_missing(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float | np.floating) and value != value) or type(value).__name__ == "NAType"
    )
