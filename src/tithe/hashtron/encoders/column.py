"""The kinds of columns, each a small dataclass: how values become bits, what that costs, and what each bit says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from tithe.hashtron.encoders.categories import Categories, Codes
from tithe.hashtron.encoders.numbers import Numbers
from tithe.hashtron.encoders.text import Text

__all__ = ["Categories", "Codes", "Column", "Numbers", "Text", "column_from_dict", "column_to_dict"]

Column: TypeAlias = Numbers | Categories | Codes | Text
_KINDS: dict[Any, Any] = {cls.kind: cls for cls in (Numbers, Categories, Codes, Text)}


def column_to_dict(column: Column) -> dict[str, Any]:
    """A column as plain JSON types."""
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(column).items()}
    return {"kind": column.kind, **listed}


def column_from_dict(data: Mapping[str, Any]) -> Column:
    """The column that ``column_to_dict`` wrote; ``KeyError``, ``TypeError`` or ``ValueError`` where it did not.

    >>> column_from_dict({"kind": "numbers", "levels": [0.5, 2.0], "absent": False})
    Numbers(levels=(0.5, 2.0), absent=False)
    """
    column: Column = _KINDS[data["kind"]].from_dict(data)
    return column
