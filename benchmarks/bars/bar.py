"""What a bar is, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["BARS", "Bar", "Reading", "bar"]


@dataclass(frozen=True)
class Reading:
    """One measured figure and whether it meets its target; ``None`` where the target does not apply to this machine."""

    what: str
    figure: str
    target: str
    holds: bool | None


@dataclass(frozen=True)
class Bar:
    """A named measurement that yields one or more readings."""

    name: str
    measure: Callable[[], Iterator[Reading]]

    @property
    def command(self) -> str:
        """How to measure this one alone."""
        return f"python -m benchmarks.bars {self.name}"


BARS: dict[str, Bar] = {}


def bar(name: str) -> Callable[[Callable[[], Iterator[Reading]]], Callable[[], Iterator[Reading]]]:
    """Register a measurement under ``name``."""

    def register(measure: Callable[[], Iterator[Reading]]) -> Callable[[], Iterator[Reading]]:
        BARS[name] = Bar(name, measure)
        return measure

    return register
