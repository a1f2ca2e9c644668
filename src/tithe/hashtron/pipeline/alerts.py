"""What should make somebody look at a run: four alerts, each with a threshold to go on and another to go off.

Everything here follows from the steps alone, so a run that is read again gives the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.histories import Neuron
from tithe.hashtron.pipeline.step import Step

__all__ = ["Alert", "AlertName", "Alerts", "Band", "Limits", "alerts"]

AlertName = Literal["memorisation", "stagnation", "oscillation", "stuck"]
_NAMES: tuple[AlertName, ...] = get_args(AlertName)


@dataclass(frozen=True, slots=True)
class Band:
    """A threshold to go on and a lower one to go off; in between all stays as it is.

    Attributes:
        on: from above this on something is the case.
        off: below this it is no longer.

    Raises ``InvalidValueError`` unless ``off`` is below ``on``.

    >>> band, state, seen = Band(on=0.95, off=0.93), False, []
    >>> for value in (0.94, 0.96, 0.94, 0.92, 0.94):
    ...     state = band.state(value, state)
    ...     seen.append(state)
    >>> seen
    [False, True, True, False, False]
    """

    on: float
    off: float

    def __post_init__(self) -> None:
        if not self.off < self.on:
            raise InvalidValueError(f"off is {self.off} and on {self.on}; off below on is expected")

    def state(self, value: float, before: bool) -> bool:
        """Whether it is the case now. O(1)."""
        return value > self.on or (before and value >= self.off)


@dataclass(frozen=True, slots=True)
class Limits:
    """When alerts go on and off; all figures here are this project's choice but 95 % and 3 sweeps, which are H7's.

    Attributes:
        train: accuracy on the training data that counts as learnt by heart.
        gap: training minus held-out accuracy that shows it.
        change: mean change of a margin from sweep to sweep: below ``off`` a sweep has changed nothing, above ``on`` it
            has changed something.
        sweeps: sweeps that changed nothing, with none between them that changed something: more raise the alert.
        swing: factor by which a premodulo must have changed to have swung; up to ``off`` it has come to rest.
        swings: alternating swings that raise the alert.
        failures: steps in one layer, one after the other, without anything trained, that raise the alert.
        successes: neurons trained one after the other that take it back.
    """

    train: Band = Band(0.95, 0.93)
    gap: Band = Band(0.10, 0.08)
    change: Band = Band(0.02, 0.01)
    sweeps: int = 3
    swing: Band = Band(2.0, 1.25)
    swings: int = 4
    failures: int = 10
    successes: int = 3

    def __post_init__(self) -> None:
        for name in ("sweeps", "swings", "failures", "successes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidValueError(f"{name} is {value!r}; use a whole number from 1 on")


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


class Watch(Protocol):
    """One of the four."""

    text: str

    def holds(self, step: Step, before: bool) -> bool:
        """Whether the alert is on after a step, if it was ``before``; ``text`` then says why."""


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
            zip(_NAMES, (_Memorisation(limits), _Stagnation(limits), _Oscillation(limits), _Stuck(limits)), strict=True)
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


@dataclass(slots=True)
class _Memorisation:
    """Nearly all of the training data are right and far fewer of the others."""

    limits: Limits
    text: str = ""

    def holds(self, step: Step, before: bool) -> bool:
        train = f"{100 * step.train:.1f} %"
        high = self.limits.train.state(step.train, before)
        if step.eval is None:  # nothing can tell learning by heart from learning
            self.text = f"{train} right on the training data, and nothing held out to tell what that is worth"
            return high
        found = high and self.limits.gap.state(step.train - step.eval, before)
        self.text = f"{train} right on the training data, {100 * step.eval:.1f} % on held-out data" + (
            ": it learns by heart" if found else ""
        )
        return found


@dataclass(slots=True)
class _Stagnation:
    """Sweep after sweep the margins stay what they were; those of final neurons always do and are left out."""

    limits: Limits
    text: str = ""
    sweep: int = 0
    before: dict[Neuron, float] = field(default_factory=dict)
    now: dict[Neuron, float] = field(default_factory=dict)
    unchanged: int = 0

    def holds(self, step: Step, before: bool) -> bool:
        if step.sweep != self.sweep:
            self._end(step.sweep)
        if not step.final and step.pivotal:
            self.now[step.place] = step.margin
        return self.unchanged > self.limits.sweeps or (before and self.unchanged > 0)

    def _end(self, sweep: int) -> None:
        both = self.now.keys() & self.before.keys()
        if both:
            change = sum(abs(self.now[neuron] - self.before[neuron]) for neuron in both) / len(both)
            if change > self.limits.change.on:
                self.unchanged = 0
                self.text = f"the margins of {len(both)} neurons have changed by {change:.3f} on average"
            elif change < self.limits.change.off:  # in between it is neither
                self.unchanged += 1
                self.text = f"{self.unchanged} sweeps have left the margins of {len(both)} neurons as they were"
        self.sweep, self.before, self.now = sweep, {**self.before, **self.now}, {}


@dataclass(slots=True)
class _Swinging:
    """The premodulos of one neuron."""

    last: int
    up: bool | None = None
    swings: int = 0


@dataclass(slots=True)
class _Oscillation:
    """The premodulo of a neuron goes up and down and up again."""

    limits: Limits
    text: str = ""
    neurons: dict[Neuron, _Swinging] = field(default_factory=dict)
    swinging: set[Neuron] = field(default_factory=set)

    def holds(self, step: Step, before: bool) -> bool:
        if step.premodulo and step.kind == "trained":
            neuron = self.neurons.setdefault(step.place, _Swinging(step.premodulo))
            self._turn(step, neuron)
        return bool(self.swinging)

    def _turn(self, step: Step, neuron: _Swinging) -> None:
        up, ratio = step.premodulo > neuron.last, max(step.premodulo, neuron.last) / min(step.premodulo, neuron.last)
        if ratio > self.limits.swing.on:
            neuron.swings = neuron.swings + 1 if neuron.up != up else 1
            neuron.up = up
        elif ratio <= self.limits.swing.off:
            neuron.swings, neuron.up = 0, None
        name = f"the premodulo of neuron {step.layer}.{step.position}"
        if neuron.swings >= self.limits.swings and step.place not in self.swinging:
            self.swinging.add(step.place)
            self.text = f"{name} has swung {neuron.swings} times in turn, last from {neuron.last} to {step.premodulo}"
        elif neuron.swings <= 1 and step.place in self.swinging:
            self.swinging.remove(step.place)
            self.text = f"{name} has come to rest, last from {neuron.last} to {step.premodulo}"
        neuron.last = step.premodulo


@dataclass(slots=True)
class _Stuck:
    """Step after step in one layer, and nothing is trained."""

    limits: Limits
    text: str = ""
    layer: int = -1
    failures: int = 0
    successes: int = 0

    def holds(self, step: Step, before: bool) -> bool:
        trained = step.kind == "trained"
        if trained or step.layer != self.layer:
            self.failures = 0
        self.layer = step.layer
        self.failures += not trained
        self.successes = self.successes + 1 if trained else 0
        if before:
            self.text = f"{self.successes} neurons were trained one after the other, last in layer {step.layer}"
            return self.successes < self.limits.successes
        self.text = f"{self.failures} steps in layer {step.layer} and nothing trained, last for {step.why!r}"
        return self.failures >= self.limits.failures
