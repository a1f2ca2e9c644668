"""Whether what a file says can be: each function gives the value that it checked, or raises a ``ValueError``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ascending", "fields", "number", "strings", "truth", "whole", "wholes"]

_LARGEST = 1 << 64


def fields(data: Any, *names: str) -> list[Any]:
    """The values of these names, and no others but ``kind``."""
    if not isinstance(data, Mapping) or set(data) - {"kind"} != set(names):
        raise ValueError(f"{', '.join(names)} were expected")
    return [data[name] for name in names]


def truth(value: Any, name: str) -> bool:
    """A truth."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {str(value)[:40]!r}, neither true nor false")
    return value


def number(value: Any, name: str) -> Any:
    """A finite number."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and abs(value) < _LARGEST) and not (isinstance(value, float) and math.isfinite(value)):
        raise ValueError(f"{name} is {str(value)[:40]!r}, no finite number")
    return value


def whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a whole number from {least} to {most}")
    return value


def wholes(values: Any, name: str, least: int, most: int) -> tuple[int, ...]:
    """Ascending whole numbers in a range."""
    return ascending([whole(value, name, least, most) for value in _listed(values, name)], name)


def ascending(values: Any, name: str) -> tuple[Any, ...]:
    """Finite numbers, each larger than the one before."""
    found = tuple(number(value, name) for value in _listed(values, name))
    if any(b <= a for a, b in itertools.pairwise(found)):
        raise ValueError(f"{name} do not ascend")
    return found


def strings(values: Any, name: str) -> tuple[str, ...]:
    """Texts."""
    if not all(isinstance(value, str) for value in _listed(values, name)):
        raise ValueError(f"{name} are not all texts")
    return tuple(values)


def _listed(values: Any, name: str) -> Sequence[Any]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} is {str(values)[:40]!r}, no list")
    return values
