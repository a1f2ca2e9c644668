"""What pictures need of a ledger: the events of one run and kind, and curves of them by member."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tithe.errors import InvalidValueError
from tithe.ledger import Ledger

__all__ = ["Curves", "add", "at", "named", "names", "needed", "payloads"]

_SYSTEM = "tether"

Curves = dict[str, tuple[list[float], list[float]]]  # steps and values by name


def payloads(ledger: Ledger, run: str, kind: str) -> list[dict[str, Any]]:
    """What the events of one kind hold, in the order in which they were written."""
    return [event.payload for event in ledger.read(run=run, system=_SYSTEM, kind=kind)]


def needed(ledger: Ledger, run: str, kind: str) -> list[dict[str, Any]]:
    """Likewise, by step; ``InvalidValueError``, with the runs that have some, where there are none."""
    if found := payloads(ledger, run, kind):
        return sorted(found, key=lambda payload: payload["step"])
    runs = dict.fromkeys(repr(event.run) for event in ledger.read(system=_SYSTEM, kind=kind))
    there = f"those of {', '.join(list(runs)[:10])} have" if runs else "no run of this ledger has"
    raise InvalidValueError(
        f"the run {run!r} has no {kind!r} events of {_SYSTEM}; {there}: record some, or take another"
    )


def names(ledger: Ledger, run: str, otherwise: Iterable[str]) -> list[str]:
    """The names of the members in the order in which events count them."""
    for kind in ("loss", "groups", "compatibility"):
        if found := ledger.read(run=run, system=_SYSTEM, kind=kind, limit=1):
            return [str(name) for name in found[0].payload["members"]]
    return list(dict.fromkeys(otherwise))


def named(member: int | str, names: Sequence[str]) -> str:
    """The name of a member that an event gives by its number or its name."""
    if isinstance(member, int):
        return names[member] if 0 <= member < len(names) else f"member {member}"
    return member


def add(curves: Curves, name: str, step: float, value: float | None) -> None:
    """Lengthen a curve; what is no finite number is a gap."""
    steps, values = curves.setdefault(name, ([], []))
    steps.append(step)
    values.append(math.nan if value is None or not math.isfinite(value) else value)


def at(curves: Curves, name: str, step: float) -> float:
    """The value of a curve at a step, between those that were recorded."""
    steps, values = curves.get(name, ([], []))
    known = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    return float(np.interp(step, [s for s, _ in known], [v for _, v in known])) if known else math.nan
