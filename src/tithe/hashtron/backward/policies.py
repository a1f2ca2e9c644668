"""What decides the premodulo of a neuron: the capacity law, and the controls that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.dampers import DAMPERS, Damper
from tithe.hashtron.backward.histories import History, Neuron
from tithe.hashtron.backward.law import CapacityLaw
from tithe.hashtron.fitting import UNCAPPED

__all__ = ["POLICIES", "Constant", "Policy", "Shuffled", "policy"]

_LAW = ("damper", "most_change")
POLICIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "constant": ("premodulo",),
    "law": _LAW,
    "law_n": _LAW,
    "reversed": _LAW,
    "shuffled": (*_LAW, "seed"),
}  # names, and the options of each


class Policy(Protocol):
    """Decides to how many keys those of a neuron are hashed, out of histories alone: it keeps nothing itself."""

    @property
    def reads(self) -> int:
        """How many of a neuron's newest sums it reads; a history may drop older ones."""

    def premodulo(self, neuron: Neuron, histories: Mapping[Neuron, History]) -> int:
        """1 to 2^32 − 1 for the next training of ``neuron``, by the histories of all neurons.

        Raises ``InvalidValueError`` where it needs a sum with votes of the neuron and there is none.
        """


@dataclass(frozen=True, slots=True)
class Constant:
    """The same premodulo for every neuron; the largest is no cap.

    >>> Constant(64).premodulo((0, 3), {})
    64
    """

    value: int = UNCAPPED

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", integer("premodulo", self.value, 1, UNCAPPED))

    @property
    def reads(self) -> int:
        """0. O(1)."""
        return 0

    def premodulo(self, neuron: Neuron, histories: Mapping[Neuron, History]) -> int:
        """The value. O(1)."""
        return self.value


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A law that goes by the sums of another neuron: as many of each size as with the law, for the wrong neurons.

    The neurons of a layer that have sums stand in a ring, in a random order that depends on the seed, the layer and
    which neurons these are, and each goes by the sums of the next one; what it was given last stays its own. So the
    order stays once all of a layer have sums: probe them first. One that alone has sums goes by its own.

    Attributes:
        law: what it does with the sums.
        seed: of the order, not negative.

    >>> from tithe.hashtron.backward.histories import Sums
    >>> histories = {(0, i): History(None, (Sums(9 - 9 * i, 9, 9),)) for i in range(2)}
    >>> [each.premodulo((0, 0), histories) for each in (CapacityLaw(), Shuffled())]
    [1, 81]
    """

    law: CapacityLaw = field(default_factory=CapacityLaw)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", integer("seed", self.seed, 0))

    @property
    def reads(self) -> int:
        """As many as the law. O(1)."""
        return self.law.reads

    def premodulo(self, neuron: Neuron, histories: Mapping[Neuron, History]) -> int:
        """As of a law, by the next neuron's sums. O(neurons)."""
        ring = sorted(each for each in histories if each[0] == neuron[0] and histories[each].sums)
        if neuron not in ring:
            return self.law.premodulo(neuron, histories)  # which says what is missing
        order = np.random.default_rng([self.seed, neuron[0]]).permutation(len(ring)).tolist()
        place = order.index(ring.index(neuron))
        donor = ring[order[(place + 1) % len(order)]]
        return self.law.step(histories[donor], histories[neuron].given)


def policy(name: str, **options: Any) -> Policy:
    """The policy of a name.

    Args:
        name: ``"none"``, no cap; ``"constant"``; ``"law"`` with M = V; ``"law_n"``, the source's, with M = N;
            ``"reversed"``, the law with M − |S| in place of |S|; ``"shuffled"``, the law with another neuron's sums.
        options: ``premodulo`` of a constant, which it must have; of all laws ``most_change``, 10 by default, and
            ``damper``: a ``Damper``, its name in ``DAMPERS``, or a dictionary with its ``name`` and its own options;
            of shuffled ``seed``, which it must have.

    Returns:
        The policy. Raises ``InvalidValueError`` for another name, for an option that is not of this policy, and for
        what an option cannot be. O(1).

    Source: MISSION H3.

    >>> policy("law", damper={"name": "moving_average", "window": 3}).damper
    MovingAverage(window=3)
    >>> policy("law", seed=1)
    Traceback (most recent call last):
    tithe.errors.InvalidValueError: policy 'law' has no option seed; it has damper, most_change
    """
    if not isinstance(name, str) or name not in POLICIES:
        raise InvalidValueError(f"there is no policy {name!r}; use one of {', '.join(POLICIES)}")
    for option in options:
        if option not in POLICIES[name]:
            known = ", ".join(POLICIES[name])
            raise InvalidValueError(f"policy {name!r} has no option {option}; it has {known or 'none'}")
    for option in ("premodulo", "seed"):
        if option in POLICIES[name] and option not in options:
            raise InvalidValueError(f"policy {name!r} needs the option {option}, a whole number")
    if name in ("none", "constant"):
        return Constant(options.get("premodulo", UNCAPPED))
    law = CapacityLaw(
        of="samples" if name == "law_n" else "pivotal",
        damper=_damper(options.get("damper")),
        most_change=options.get("most_change", 10),
        reverse=name == "reversed",
    )
    return Shuffled(law, options["seed"]) if name == "shuffled" else law


def _damper(given: Any) -> Damper | None:
    if given is None or not isinstance(given, str | Mapping):
        return _as_damper(given)
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in DAMPERS:
        raise InvalidValueError(f"there is no damper {name!r}; use one of {', '.join(DAMPERS)}")
    try:
        return DAMPERS[name](**options)
    except TypeError as error:
        raise InvalidValueError(f"damper {name!r} cannot be made with {options}: {error}") from error


def _as_damper(given: Any) -> Damper | None:
    if given is not None and not all(hasattr(given, name) for name in ("reads", "weights", "limit")):
        raise InvalidValueError(f"damper is {given!r}; use a Damper, a name of {', '.join(DAMPERS)}, or None")
    damper: Damper | None = given
    return damper
