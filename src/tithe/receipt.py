"""Cost, Bound and Receipt: what a computation spent, how wrong it can be, and both next to the plain way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from tithe.errors import InvalidValueError

__all__ = ["UNITS", "Attempt", "Bound", "Cost", "Receipt", "Scope", "join_methods"]

UNITS = ("flops", "bytes", "seconds", "cpu_seconds", "joules", "context_switches")
Scope = Literal["checked", "plan", "calibration"]
_SCOPES: tuple[Scope, ...] = ("checked", "plan", "calibration")  # from the strongest to the weakest
_LABELS = {
    "flops": "operations", "bytes": "peak memory", "seconds": "time",
    "cpu_seconds": "CPU time", "joules": "energy", "context_switches": "switches",
}  # fmt: skip
_WIDTH = 56


@dataclass(frozen=True, slots=True)
class Cost:
    """What a computation spent, one figure per unit; ``None`` where nothing was counted or read.

    Attributes:
        flops: floating-point or integer operations; a multiply–add counts as two.
        bytes: peak of additionally allocated memory, in bytes.
        seconds: wall-clock time.
        cpu_seconds: CPU time of all threads of the process.
        joules: energy.
        context_switches: voluntary and involuntary ones together.
        estimated: the names of those units whose figure comes from a model, not from a reading or a count.

    Costs add up unit by unit; a unit unknown on one side is unknown in the sum. Only peak memory takes the larger
    of both. O(1). Source: MISSION, the receipt.

    >>> Cost(flops=2.0, seconds=1.0) + Cost(flops=3.0)
    Cost(flops=5.0, bytes=None, seconds=None, cpu_seconds=None, joules=None, context_switches=None, estimated=())
    """

    flops: float | None = None
    bytes: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    joules: float | None = None
    context_switches: float | None = None
    estimated: tuple[str, ...] = ()

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        total = {unit: _add(unit, getattr(self, unit), getattr(other, unit)) for unit in UNITS}
        flagged = {*self.estimated, *other.estimated}
        return Cost(**total, estimated=tuple(u for u in UNITS if u in flagged and total[u] is not None))

    def __radd__(self, other: object) -> Cost:
        return self if other == 0 else NotImplemented  # so that sum(costs) works

    def to_dict(self) -> dict[str, Any]:
        """The cost as plain JSON types; ``from_dict`` reads it back."""
        return {**{unit: getattr(self, unit) for unit in UNITS}, "estimated": list(self.estimated)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cost:
        """The cost that ``to_dict`` wrote; an unknown key raises ``InvalidValueError``."""
        _known_keys(cls, data)
        return cls(**{**data, "estimated": tuple(data.get("estimated", ()))})


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound of the relative Frobenius error ``‖C − Ĉ‖/‖C‖``, true with at least ``confidence``.

    Attributes:
        upper: the bound itself.
        estimate: the most likely error (unbiased in its square).
        confidence: probability that ``upper`` holds; 1 for a product that is exact.
        probes: how many random vectors made it.
        scope: ``checked`` on this very result, ``plan`` (on like operands) or ``calibration``.

    Adding two bounds keeps the larger error and lets the failure probabilities add up (union bound).

    >>> Bound(upper=0.01, estimate=0.008, confidence=0.999, probes=32)
    Bound(upper=0.01, estimate=0.008, confidence=0.999, probes=32, scope='checked')
    """

    upper: float
    estimate: float
    confidence: float
    probes: int
    scope: Scope = "checked"

    @classmethod
    def exact(cls) -> Bound:
        """The bound of a result that *is* the plain one."""
        return _EXACT

    def __add__(self, other: Bound) -> Bound:
        if not isinstance(other, Bound):
            return NotImplemented
        return Bound(
            upper=max(self.upper, other.upper),
            estimate=max(self.estimate, other.estimate),
            confidence=max(0.0, self.confidence + other.confidence - 1.0),
            probes=self.probes + other.probes,
            scope=max(self.scope, other.scope, key=_SCOPES.index),
        )

    def to_dict(self) -> dict[str, Any]:
        """The bound as plain JSON types (JSON knows no infinity: ``None``); ``from_dict`` reads it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {name: None for name in ("upper", "estimate") if math.isinf(values[name])}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Bound:
        """The bound that ``to_dict`` wrote; an unknown key raises ``InvalidValueError``."""
        _known_keys(cls, data)
        return cls(**{**data, **{name: math.inf for name in ("upper", "estimate") if data[name] is None}})


_EXACT = Bound(upper=0.0, estimate=0.0, confidence=1.0, probes=0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that was tried and dropped: the method, why it was dropped, the bound it reached if that is finite."""

    method: str
    reason: str
    upper: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The attempt as plain JSON types."""
        return {"method": self.method, "reason": self.reason, "upper": self.upper}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done, what it spent, what the plain way costs, and how far the result can be from the plain one.

    Attributes:
        method: the method whose result was returned, with the reason in brackets where it needs one.
        spent: the cost of everything, failed attempts and the certificate included.
        plain: the cost of the plain way (the baseline).
        bound: error of the result; ``None`` where the part that wrote the receipt has no error to speak of.
        tried: what was tried and dropped before.

    Receipts add up: costs and attempts add, bounds combine by the union bound. ``print(receipt)`` is a till receipt
    of at most ten lines. O(1). Source: MISSION, "pay a tenth, and get a receipt".

    >>> r = Receipt("mean_field", spent=Cost(flops=1e6), plain=Cost(flops=1e7))
    >>> r.ratio("flops"), r.saved("flops")
    (0.1, 9000000.0)
    """

    method: str
    spent: Cost
    plain: Cost
    bound: Bound | None = None
    tried: tuple[Attempt, ...] = ()

    def ratio(self, unit: str) -> float | None:
        """Share of the plain cost that was spent, in ``unit`` (one of ``UNITS``); ``None`` where one side is unknown.

        Raises ``InvalidValueError`` for an unknown unit.
        """
        spent, plain = self._pair(unit)
        return None if spent is None or not plain else spent / plain

    def saved(self, unit: str) -> float | None:
        """Plain minus spent, in ``unit``; negative where the shortcut cost more; ``None`` where one side is unknown.

        Raises ``InvalidValueError`` for an unknown unit.
        """
        spent, plain = self._pair(unit)
        return None if spent is None or plain is None else plain - spent

    def _pair(self, unit: str) -> tuple[float | None, float | None]:
        if unit not in UNITS:
            raise InvalidValueError(f"unknown unit {unit!r}; use one of {', '.join(UNITS)}")
        return getattr(self.spent, unit), getattr(self.plain, unit)

    def __add__(self, other: Receipt) -> Receipt:
        if not isinstance(other, Receipt):
            return NotImplemented
        bounds = [r.bound for r in (self, other) if r.bound is not None]
        return Receipt(
            method=join_methods(self.method, other.method),
            spent=self.spent + other.spent,
            plain=self.plain + other.plain,
            bound=bounds[0] + bounds[1] if len(bounds) == 2 else None,
            tried=self.tried + other.tried,
        )

    def __radd__(self, other: object) -> Receipt:
        return self if other == 0 else NotImplemented  # so that sum(receipts) works

    def with_costs(self, spent: Cost, plain: Cost) -> Receipt:
        """The same receipt with other costs, for instance those that a ``Meter`` read around the call."""
        return replace(self, spent=spent, plain=plain)

    def to_dict(self) -> dict[str, Any]:
        """The receipt as plain JSON types, with stable keys; ``from_dict`` reads it back."""
        return {
            "method": self.method,
            "spent": self.spent.to_dict(),
            "plain": self.plain.to_dict(),
            "bound": None if self.bound is None else self.bound.to_dict(),
            "tried": [attempt.to_dict() for attempt in self.tried],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Receipt:
        """The receipt that ``to_dict`` wrote; an unknown key raises ``InvalidValueError``."""
        _known_keys(cls, data)
        bound = data.get("bound")
        for attempt in data.get("tried", ()):
            _known_keys(Attempt, attempt)
        return cls(
            method=data["method"],
            spent=Cost.from_dict(data["spent"]),
            plain=Cost.from_dict(data["plain"]),
            bound=None if bound is None else Bound.from_dict(bound),
            tried=tuple(Attempt(**attempt) for attempt in data.get("tried", ())),
        )

    def __str__(self) -> str:
        lines = [" T I T H E ".center(_WIDTH, "-"), _line("method", self.method)]
        lines += [self._cost_line(unit) for unit in UNITS if getattr(self.spent, unit) is not None][:4]
        if self.bound is not None:
            lines.append(_line("error", _bound_text(self.bound)))
        if self.tried:
            lines.append(_line("dropped", ", ".join(attempt.method for attempt in self.tried)))
        ratio = next(((u, r) for u in ("seconds", "flops") if (r := self.ratio(u)) is not None), None)
        if ratio is not None:
            lines.append(_line("paid", f"{ratio[1]:.1%} of the plain {_LABELS[ratio[0]]}"))
        return "\n".join([*lines, "-" * _WIDTH])

    def _cost_line(self, unit: str) -> str:
        spent, plain = self._pair(unit)
        text = _figure(unit, spent, unit in self.spent.estimated)
        if plain is not None:
            text += f" of {_figure(unit, plain, unit in self.plain.estimated)}"
        return _line(_LABELS[unit], text)


def _add(unit: str, a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return None
    return max(a, b) if unit == "bytes" else a + b


def _known_keys(cls: type, data: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(data) - known):
        raise InvalidValueError(f"{cls.__name__} has no field {', '.join(unknown)}; its fields are {sorted(known)}")


def join_methods(a: str, b: str) -> str:
    """The names of the methods of several products as one, each once with how often.

    >>> join_methods("int8 ×2", "exact + int8")
    'int8 ×3 + exact'
    """
    counts: dict[str, int] = {}
    for part in (*a.split(" + "), *b.split(" + ")):
        name, _, times = part.rpartition(" ×")
        if not name or not times.isdecimal():
            name, times = part, "1"
        counts[name] = counts.get(name, 0) + int(times)
    return " + ".join(name if n == 1 else f"{name} ×{n}" for name, n in counts.items())


def _bound_text(bound: Bound) -> str:
    if bound == _EXACT:
        return "none: this is the plain result"
    return f"≤ {bound.upper:.2%} at {bound.confidence:.6g} ({bound.probes} probes, {bound.scope})"


def _figure(unit: str, value: float | None, estimated: bool) -> str:
    if value is None:
        return "?"
    suffix = {"flops": "flop", "bytes": "B", "seconds": "s", "cpu_seconds": "s", "joules": "J"}.get(unit, "")
    return ("~" if estimated else "") + _si(value) + suffix


def _si(value: float) -> str:
    size = abs(value)
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if size >= 0.9995 * scale:  # what rounds to 1000 takes the next prefix
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "


def _line(label: str, text: str) -> str:
    text = " ".join(text.split())  # a line break in a reason must not add a line
    room = _WIDTH - len(label) - 2
    if len(text) > room:
        text = text[: room - 1] + "…"
    return f"{label} {text.rjust(room + 1, ' ')}"
