"""Numbers that were given, checked: as whole as they should be, and as exact as they are written."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["decimal", "integer"]


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """The value as an ``int`` of Python; errors name it and the bounds."""
    try:
        found = operator.index(value)
    except TypeError as error:
        raise InvalidDTypeError(f"{name} is {value!r}; a whole number is expected") from error
    if (low is not None and found < low) or (high is not None and found > high):
        raise InvalidValueError(
            f"{name} is {found}; use a whole number from {low} {'on' if high is None else f'to {high}'}"
        )
    return found


def decimal(name: str, value: Any) -> Fraction:
    """The number that is written, 4/5 for 0.8, so that what is compared with it has exact borders."""
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidValueError(f"{name} is {value!r}; use a finite number") from error
