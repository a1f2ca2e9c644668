"""What a pipeline did with one neuron: the unit that it makes durable, reports and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.histories import Neuron, Sums
from tithe.hashtron.backward.law import Regime, regime
from tithe.hashtron.backward.margin import TAU, capacity, margin
from tithe.hashtron.filters import Filter
from tithe.hashtron.neuron import Hashtron

__all__ = ["Kind", "Step", "Why"]

Kind = Literal["trained", "kept", "skipped", "forward"]
Why = Literal[
    "final", "gold", "moderate", "random", "pair", "order", "rebalance", "no votes", "worse", "timeout", "stuck"
]


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one neuron at one moment of a run.

    Attributes:
        number: of the step in its run, from 0.
        sweep: number of the sweep over the layers, from 0.
        layer: number of the neuron's layer, from 0 for the one that reads the input.
        position: its number in the layer.
        kind: ``"trained"``, it was replaced; ``"kept"``, a try failed and it stays as it was; ``"skipped"``, it has
            failed as often as it may, and its turn in this sweep is over; ``"forward"``, its whole layer is stuck, so
            the run goes forward to the final layer before it goes on.
        why: what it was chosen for, ``"final"``, ``"gold"``, ``"moderate"``, ``"random"``, ``"pair"``, ``"order"`` or
            ``"rebalance"``; or what went wrong, ``"no votes"``, ``"worse"``, ``"timeout"`` or ``"stuck"``.
        attempt: which try it was in this sweep, from 1.
        final: whether the neuron is of the last layer.
        samples: N, how many samples were asked.
        pivotal: V, how many voted.
        total: S, the sum of their votes of ±1; of a hidden neuron as they count where rare targets count more, see
            ``Votes.weighed``: that is what it learns from, and what the capacity law goes by.
        outputs: the sum of the neuron's outputs of ±1 over the samples, afterwards.
        premodulo: with which it was trained; 0 for none, and where it was not trained.
        train: accuracy of the network on the training data afterwards.
        eval: the same on held-out data; ``None`` without.
        prior: accuracy of always giving the most frequent target of the training data, on held-out data; without, on
            the training data.
        seconds: how long it took.
        neuron: what it was replaced by; ``None`` where it was not.

    >>> step = Step(0, 0, 1, 0, "trained", "final", 1, True, 100, 100, 20, 4, 100, 0.6, 0.5, 0.5, 0.01, Hashtron())
    >>> float(step.margin), step.regime, Step.from_plain(step.to_plain()) == step
    (0.2, 'gold', True)
    """

    number: int
    sweep: int
    layer: int
    position: int
    kind: Kind
    why: Why
    attempt: int
    final: bool
    samples: int
    pivotal: int
    total: int
    outputs: int
    premodulo: int = 0
    train: float = 0.0
    eval: float | None = None
    prior: float = 0.0
    seconds: float = 0.0
    neuron: Hashtron | None = None

    @property
    def place(self) -> Neuron:
        """Layer and position."""
        return self.layer, self.position

    @property
    def sums(self) -> Sums:
        """S, V and N, as a policy reads them."""
        return Sums(self.total, self.pivotal, self.samples)

    @property
    def most(self) -> int:
        """M, the largest |S| that could have been: N for a final neuron, V for a hidden one."""
        return self.samples if self.final else self.pivotal

    @property
    def margin(self) -> float:
        """|S|/M, from 0 to 1."""
        return float(margin(self.total, self.most))

    @property
    def capacity(self) -> float:
        """M/(|S| + 1), at least 1: what the capacity law would have aimed at."""
        return float(capacity(self.total, self.most))

    @property
    def regime(self) -> Regime:
        """``"noisy"``, ``"gold"`` or ``"collapsed"``, with the usual τ."""
        return regime(self.total, self.most, TAU)

    def to_plain(self) -> dict[str, Any]:
        """The step as JSON can hold it; :meth:`from_plain` reads it. O(size of the neuron)."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        if self.neuron is not None:
            plain["neuron"] = {"program": self.neuron.program, "filter": self.neuron.filter.hex()}
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Step:
        """The step that :meth:`to_plain` wrote; raises ``CorruptFileError`` for anything else. O(size of it)."""
        try:
            found = dict(plain)
            if found["neuron"] is not None:
                program, cells = found["neuron"]["program"], found["neuron"]["filter"]
                found["neuron"] = Hashtron(tuple((salt, modulo) for salt, modulo in program), Filter.from_hex(cells))
            return cls(**found)
        except (KeyError, TypeError, ValueError, InvalidValueError, InvalidDTypeError) as error:
            raise CorruptFileError(f"no step of a pipeline: {type(error).__name__}: {error}") from error
