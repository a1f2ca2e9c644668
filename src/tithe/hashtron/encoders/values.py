"""The values of one column: numbers, or names of categories, or missing."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError

__all__ = ["Name", "all_numbers", "missing", "names", "numbers"]

Name: TypeAlias = str | float
"""Of a category: text, or a number, where 3, 3.0 and (in a column of truths) ``True`` are what ``==`` makes of them."""

_NUMBERS = (int, float, np.number, np.bool_)  # bool is an int


def missing(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a column (n,) holds None, NaN or pandas' NA; bool (n,).

    >>> missing(np.array(["a", None, float("nan"), 3], object)).tolist()
    [False, True, True, False]
    """
    if column.dtype.kind == "f":
        return np.asarray(np.isnan(column))
    if column.dtype.kind != "O":
        return np.zeros(len(column), np.bool_)
    return np.array([_is_missing(value) for value in column], np.bool_)


def all_numbers(column: NDArray[Any]) -> bool:
    """Whether a column (n,) holds numbers only, besides what is missing, and some."""
    if column.dtype.kind != "O":
        return column.dtype.kind in "biuf"
    kinds = {type(value) for value in column if not _is_missing(value)}
    return bool(kinds) and all(issubclass(kind, _NUMBERS) for kind in kinds)


def numbers(column: NDArray[Any], label: str) -> NDArray[np.float64]:
    """A column (n,) as float64, NaN where missing; ``InvalidDTypeError`` for what is no number.

    >>> numbers(np.array([1, None, True], object), "column 0").tolist()
    [1.0, nan, 1.0]
    """
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    absent = missing(column)
    for value in column[~absent]:
        if not isinstance(value, _NUMBERS):
            raise _refused(value, label, "real number, as where the model was fitted")
    return np.where(absent, np.nan, column).astype(np.float64)


def names(column: NDArray[Any], label: str) -> list[Name | None]:
    """A column (n,) as names of categories, None where missing; ``InvalidDTypeError`` for neither text nor number.

    >>> names(np.array(["a", None, 3], object), "column 0")
    ['a', None, 3.0]
    """
    return [None if absent else _name(value, label) for value, absent in zip(column, missing(column), strict=True)]


def _name(value: Any, label: str) -> Name:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, _NUMBERS):
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
