"""How a figure is written in tables, on axes and in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tithe.errors import InvalidValueError

__all__ = ["duration", "points", "show"]


def show(value: Any, spec: str = "") -> str:
    """A value as text: by a format specification where it is a number, an en dash where there is none.

    Args:
        value: a str, int, float, bool or None.
        spec: as for ``format``; ``g%``, which Python lacks, writes a percentage with significant digits.

    Returns:
        The text; a true minus sign before negative numbers. Raises ``InvalidValueError`` for an unusable ``spec``.

    >>> show(0.0043, ".3g%"), show(None), show(-1.5, ".1f"), show(1024, ","), show(True)
    ('0.43%', '–', '−1.5', '1,024', 'yes')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"
    try:
        if spec.endswith("g%"):
            text = _significant(value * 100, int(spec[1:-2] or 3) if spec.startswith(".") else 3) + "%"
        else:
            text = format(value, spec or (".4g" if isinstance(value, float) else ""))
    except ValueError as error:
        raise InvalidValueError(f"format {spec!r} does not fit {value!r}: {error}") from error
    return text.replace("-", "−", 1) if text.startswith("-") else text


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(0.0042), duration(12.34), duration(200), duration(None)
    ('4.2 ms', '12.3 s', '3 min 20 s', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def points(row: Mapping[str, Any], key: str, spec: str = "+.1f") -> str:
    """Percentage points of a row, with the interval in its columns ``<key>_low`` and ``<key>_high`` where there is one.

    >>> points({"gap": -1.25, "gap_low": -2.0, "gap_high": -0.5}, "gap")
    '−1.2 [−2.0, −0.5] points'
    """
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    ends = "" if low is None else f" [{show(low, spec)}, {show(high, spec)}]"
    return f"{show(row[key], spec)}{ends} points"


def _significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    if places > 8:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
