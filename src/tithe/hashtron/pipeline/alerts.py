"""What should make somebody look at a run: four alerts, each with a threshold to go on and another to go off.

Everything here follows from the steps alone, so a run that is read again gives the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from tithe.hashtron.pipeline.alert_limits import Limits
from tithe.hashtron.pipeline.alert_watches import Memorisation, Oscillation, Stagnation, Stuck, Watch
from tithe.hashtron.pipeline.step import Step

__all__ = ["Alert", "AlertName", "Alerts", "alerts"]

AlertName = Literal["memorisation", "stagnation", "oscillation", "stuck"]
_NAMES: tuple[AlertName, ...] = get_args(AlertName)


@dataclass(frozen=True, slots=True)
class Alert:
    """That an alert went on or off.

    Attributes:
        name: ``"memorisation"``, ``"stagnation"``, ``"oscillation"`` or ``"stuck"``.
        since: number of the step with which it went on.
        step: number of the step that this is about: the same where it goes on.
        text: what was found, with figures.
        on: whether it went on.
    """

    name: AlertName
    since: int
    step: int
    text: str
    on: bool


class Alerts:
    """Told every step of a run in order, it says which alerts go on or off with it.

    Args:
        limits: when they do.

    Attributes:
        on: the alerts that are on, with the step since when, a dictionary.

    Source: MISSION H7.

    >>> steps = [Step(0, 0, 1, 0, "trained", "final", 1, True, 100, 100, 20, 4, 100, 0.99, 0.7, 0.5)]
    >>> [alert.text for alert in Alerts().after(steps[0])]
    ['99.0 % right on the training data, 70.0 % on held-out data: it learns by heart']
    """

    def __init__(self, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._watches: dict[AlertName, Watch] = dict(
            zip(_NAMES, (Memorisation(limits), Stagnation(limits), Oscillation(limits), Stuck(limits)), strict=True)
        )
        self.on: dict[AlertName, int] = {}

    def after(self, step: Step) -> tuple[Alert, ...]:
        """What changes with a step. O(1), and O(neurons) once a sweep."""
        found = []
        for name, watch in self._watches.items():
            before = name in self.on
            holds = watch.holds(step, before)
            if holds != before:
                since = self.on.setdefault(name, step.number)
                found.append(Alert(name, since, step.number, watch.text, holds))
                if not holds:
                    del self.on[name]
        return tuple(found)


def alerts(steps: Iterable[Step], limits: Limits | None = None) -> Iterator[Alert]:
    """All alerts of a run that went on or off, in order; see :class:`Alerts`. O(steps + sweeps · neurons).

    >>> list(alerts([]))
    []
    """
    watch = Alerts(limits)
    for step in steps:
        yield from watch.after(step)
