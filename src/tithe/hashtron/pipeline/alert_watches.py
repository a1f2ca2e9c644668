"""What each alert looks at: told every step in order, a watch says whether its alert is on, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tithe.hashtron.backward.histories import Neuron
from tithe.hashtron.pipeline.alert_limits import Limits
from tithe.hashtron.pipeline.step import Step

__all__ = ["Memorisation", "Oscillation", "Stagnation", "Stuck", "Watch"]


class Watch(Protocol):
    """One of the four."""

    text: str

    def holds(self, step: Step, before: bool) -> bool:
        """Whether the alert is on after a step, if it was ``before``; ``text`` then says why."""


@dataclass(slots=True)
class Memorisation:
    """Nearly all of the training data are right and far fewer of the others."""

    limits: Limits
    text: str = ""

    def holds(self, step: Step, before: bool) -> bool:
        """Whether training accuracy is high and, where that is known, held-out accuracy far below. O(1)."""
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
class Stagnation:
    """Sweep after sweep the margins stay what they were; those of final neurons always do and are left out."""

    limits: Limits
    text: str = ""
    sweep: int = 0
    before: dict[Neuron, float] = field(default_factory=dict)
    now: dict[Neuron, float] = field(default_factory=dict)
    unchanged: int = 0

    def holds(self, step: Step, before: bool) -> bool:
        """Whether more than some sweeps have ended with the same margins. O(1), and O(neurons) once a sweep."""
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
class Oscillation:
    """The premodulo of a neuron goes up and down and up again."""

    limits: Limits
    text: str = ""
    neurons: dict[Neuron, _Swinging] = field(default_factory=dict)
    swinging: set[Neuron] = field(default_factory=set)

    def holds(self, step: Step, before: bool) -> bool:
        """Whether any neuron swings. O(1)."""
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
class Stuck:
    """Step after step in one layer, and nothing is trained."""

    limits: Limits
    text: str = ""
    layer: int = -1
    failures: int = 0
    successes: int = 0

    def holds(self, step: Step, before: bool) -> bool:
        """Whether the last steps were in one layer and all failed. O(1)."""
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
