"""Evidence: what a measurement found, as plain data: tables, pictures, single facts and notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tithe.errors import InvalidValueError

__all__ = ["Axis", "Column", "Evidence", "Plot", "Role", "Row", "Series", "Table"]

Role = Literal["measured", "baseline", "claimed", "theory"]
Row = Mapping[str, Any]  # values: str, int, float, bool or None; `Table` checks it
_ROLES = ("measured", "baseline", "claimed", "theory")


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a table is shown.

    Attributes:
        key: the key of the rows' values.
        label: its heading, with the unit.
        spec: a format specification (``".2f"``, ``".1%"``, or ``".3g%"`` for significant digits of a percentage).
        low: key of the lower end of an interval, shown in brackets beside the value.
        high: key of the upper end.

    >>> Column("error", "relative error", ".3g%", low="error_low", high="error_high").label
    'relative error'
    """

    key: str
    label: str
    spec: str = ""
    low: str | None = None
    high: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The column as plain JSON types."""
        return {"key": self.key, "label": self.label, "spec": self.spec, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain values under a caption; without ``columns`` every key of the first row becomes one.

    Raises ``InvalidValueError`` where a cell is not a str, int, float, bool or None, or a row lacks a column.

    >>> Table("Errors", [{"n": 64, "error": 0.04}, {"n": 128, "error": 0.03}]).select(n=128)
    [{'n': 128, 'error': 0.03}]
    """

    caption: str
    rows: Sequence[Row]
    columns: Sequence[Column] = ()

    def __post_init__(self) -> None:
        rows = tuple(dict(row) for row in self.rows)
        columns = tuple(self.columns) or tuple(Column(key, key) for key in (rows[0] if rows else ()))
        for index, row in enumerate(rows):
            for key, value in row.items():
                if value is not None and not isinstance(value, str | int | float):
                    raise InvalidValueError(
                        f"table {self.caption!r}: {key!r} of row {index} is a {type(value).__name__}; "
                        "a cell is a str, int, float, bool or None (call .item() on a tensor)"
                    )
            if lacking := [column.key for column in columns if column.key not in row]:
                raise InvalidValueError(f"table {self.caption!r}: row {index} has no {', '.join(lacking)}")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "columns", columns)

    def select(self, **equal: Any) -> list[Row]:
        """The rows whose values equal all of those given, in order. O(rows)."""
        return [row for row in self.rows if all(row.get(key) == value for key, value in equal.items())]

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON types; numbers that JSON lacks become ``"nan"``, ``"inf"`` and ``"-inf"``."""
        return {
            "caption": self.caption,
            "columns": [column.to_dict() for column in self.columns],
            "rows": [{key: _plain(value) for key, value in row.items()} for row in self.rows],
        }


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a plot: its label with the unit, logarithmic or not, and the format of its ticks (as in ``Column``).

    >>> Axis("relative error", log=True, spec="g%").to_dict()
    {'label': 'relative error', 'log': True, 'spec': 'g%'}
    """

    label: str
    log: bool = False
    spec: str = "g"

    def to_dict(self) -> dict[str, Any]:
        """The axis as plain JSON types."""
        return {"label": self.label, "log": self.log, "spec": self.spec}


@dataclass(frozen=True, slots=True)
class Series:
    """Points of a plot that belong together, with an interval around each where ``low`` and ``high`` are given.

    ``role`` decides the look, the same on every plot: what was ``measured``, the ``baseline``, what the source
    ``claimed``, and ``theory`` for closed forms. Raises ``InvalidValueError`` for lists of different lengths.

    >>> Series("mean part", x=[64, 128], y=[0.042, 0.029]).role
    'measured'
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    role: Role = "measured"

    def __post_init__(self) -> None:
        given = {"x": self.x, "y": self.y, "low": self.low, "high": self.high}
        lengths = {key: len(values) for key, values in given.items() if values is not None}
        if len(set(lengths.values())) > 1 or (self.low is None) != (self.high is None):
            raise InvalidValueError(f"series {self.name!r}: x, y and both interval ends must match; got {lengths}")
        if self.role not in _ROLES:
            raise InvalidValueError(f"series {self.name!r}: unknown role {self.role!r}; use one of {', '.join(_ROLES)}")
        for key, values in given.items():
            object.__setattr__(self, key, None if values is None else tuple(values))

    def to_dict(self) -> dict[str, Any]:
        """The series as plain JSON types."""
        ends = {key: None if (v := getattr(self, key)) is None else [_plain(e) for e in v] for key in ("low", "high")}
        points = {key: [_plain(float(value)) for value in getattr(self, key)] for key in ("x", "y")}
        return {"name": self.name, "role": self.role, **points, **ends}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture as data: drawn by the report, readable without it.

    >>> Plot("Error", Axis("n", log=True), Axis("error"), [Series("a", [1, 2], [3, 4])]).to_dict()["x"]["log"]
    True
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    caption: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The plot as plain JSON types."""
        return {
            "title": self.title,
            "caption": self.caption,
            "x": self.x.to_dict(),
            "y": self.y.to_dict(),
            "series": [series.to_dict() for series in self.series],
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a measurement found, and all that a judge may look at.

    Attributes:
        tables: by name, the order kept.
        plots: drawn in the report in this order.
        facts: single values of plain JSON types, by name: a fitted exponent, which data set was used.
        notes: sentences that a reader must know: what was left out, and why.

    >>> found = Evidence(tables={"errors": Table("Errors", [{"n": 64, "error": 0.04}])}, facts={"exponent": -0.5})
    >>> found.rows("errors", n=64)[0]["error"], found.facts["exponent"]
    (0.04, -0.5)
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    plots: Sequence[Plot] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def rows(self, table: str, **equal: Any) -> list[Row]:
        """The rows of a table whose values equal all of those given; none where there is no such table."""
        return self.tables[table].select(**equal) if table in self.tables else []

    def to_dict(self) -> dict[str, Any]:
        """The evidence as plain JSON types."""
        return {
            "tables": {name: table.to_dict() for name, table in self.tables.items()},
            "plots": [plot.to_dict() for plot in self.plots],
            "facts": {name: _plain(value) for name, value in self.facts.items()},
            "notes": list(self.notes),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
