"""What a network looks like without its neurons: layers, premodulos, combiners, and how the answer is read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.combiners import Combiner, Full, MajorityPool, Stochastic
from tithe.hashtron.counts import CrossAttention, Parity, Sum

__all__ = ["COMBINERS", "TOPOLOGIES", "Answer", "Layer", "Topology"]

Answer = Literal["bits", "argmax"]
COMBINERS: dict[str, type[Combiner]] = {
    kind.kind: kind for kind in (CrossAttention, Full, MajorityPool, Parity, Stochastic, Sum)
}
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of hashtrons and what becomes of their bits.

    Attributes:
        neurons: how many hashtrons.
        premodulo: hashtron i gets ``hash32(feature, i, premodulo)``; 0 gives it the feature as it is.
        combiner: what makes the next layer's features; ``None`` in a last layer whose bits are the answer.

    With a combiner, hashtron i reads feature i of what is before it; without one, all read feature 0.
    Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what cannot be.

    >>> Layer(6, premodulo=64, combiner=Full(6, 3, 3)).combiner.outputs
    2
    """

    neurons: int
    premodulo: int = 0
    combiner: Combiner | None = None

    def __post_init__(self) -> None:
        if type(self.neurons) is not int or type(self.premodulo) is not int:
            raise InvalidDTypeError(f"neurons {self.neurons!r} and premodulo {self.premodulo!r} must be integers")
        if self.neurons < 1 or not 0 <= self.premodulo < 1 << 32:
            raise InvalidValueError(
                f"neurons is {self.neurons} and premodulo {self.premodulo}; at least 1, and 0 to 2^32 - 1, are expected"
            )
        if self.combiner is not None and self.combiner.inputs != self.neurons:
            raise InvalidValueError(f"{self.combiner} takes {self.combiner.inputs} bits of a layer of {self.neurons}")


@dataclass(frozen=True, slots=True)
class Topology:
    """The layers of a network and how its answer is read.

    Attributes:
        layers: at least one; only the last may have no combiner.
        answer: ``"bits"``, the sum of bit_k·2^k over the last layer (at most 32 hashtrons), or feature 0 of its
            combiner where it has one; ``"argmax"``, the number of the largest feature of the last combiner, the first
            of several.

    Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what cannot be.

    >>> topology = Topology((Layer(30, combiner=Sum((3, 10))),), answer="argmax")
    >>> Topology.from_json(topology.to_json()) == topology
    True
    >>> TOPOLOGIES["squareroot"].neurons
    455
    """

    layers: tuple[Layer, ...]
    answer: Answer = "bits"

    def __post_init__(self) -> None:
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise InvalidDTypeError("a topology has a tuple of at least one Layer")
        if self.answer not in get_args(Answer):
            raise InvalidValueError(f"answer is {self.answer!r}; {' or '.join(get_args(Answer))} is expected")
        for before, after in pairwise(self.layers):
            if before.combiner is None:
                raise InvalidValueError("a layer without a combiner can only be the last one")
            if after.combiner is not None and before.combiner.outputs < after.neurons:
                raise InvalidValueError(f"{before.combiner} has {before.combiner.outputs} features for {after}")
        last = self.layers[-1]
        if last.combiner is None and self.answer == "argmax":
            raise InvalidValueError("an argmax needs a combiner after the last layer, for instance Sum")
        if last.combiner is None and last.neurons > 32:
            raise InvalidValueError(f"the last layer has {last.neurons} hashtrons; an answer has at most 32 bits")

    @property
    def neurons(self) -> int:
        """How many hashtrons all layers have. O(layers)."""
        return sum(layer.neurons for layer in self.layers)

    def read(self, number: int) -> int:
        """How many features are read of the combiner after layer ``number``; 0 where it has none. O(1).

        >>> [TOPOLOGIES["squareroot"].read(number) for number in range(3)]
        [75, 1, 0]
        """
        combiner = self.layers[number].combiner
        if combiner is None:
            return 0
        if number + 1 < len(self.layers):
            after = self.layers[number + 1]
            return 1 if after.combiner is None else after.neurons
        return combiner.outputs if self.answer == "argmax" else 1

    def place(self, index: int) -> tuple[int, int]:
        """Layer and position of the hashtron that is ``index``-th in network order. O(layers).

        Raises ``InvalidValueError`` where there is none.

        >>> TOPOLOGIES["squareroot"].place(376)
        (1, 1)
        """
        position = index
        for number, layer in enumerate(self.layers):
            if 0 <= position < layer.neurons:
                return number, position
            position -= layer.neurons
        raise InvalidValueError(f"hashtron {index} of {self.neurons}: they are counted from 0")

    def to_json(self) -> str:
        """The topology as JSON; :meth:`from_json` reads it. O(layers)."""
        layers = [
            {"neurons": layer.neurons, "premodulo": layer.premodulo, "combiner": _combiner_fields(layer.combiner)}
            for layer in self.layers
        ]
        return json.dumps({"version": _VERSION, "answer": self.answer, "layers": layers}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Topology:
        """The topology that was written as ``text``. O(len(text)).

        Raises ``InvalidValueError`` or ``InvalidDTypeError`` for anything else.

        >>> Topology.from_json('{"version": 1, "answer": "bits", "layers": [{"neurons": 1}]}')
        Topology(layers=(Layer(neurons=1, premodulo=0, combiner=None),), answer='bits')
        """
        try:
            found = json.loads(text)
            if found["version"] != _VERSION:
                raise InvalidValueError(f"version {found['version']!r} of a topology; this Tithe reads {_VERSION}")
            layers = [Layer(**{**fields, "combiner": _combiner(fields.get("combiner"))}) for fields in found["layers"]]
            return cls(tuple(layers), found["answer"])
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, (InvalidValueError, InvalidDTypeError)):
                raise
            raise InvalidValueError(f"no topology: {type(error).__name__}: {error}; write one with to_json") from error


def _combiner_fields(combiner: Combiner | None) -> dict[str, Any] | None:
    return None if combiner is None else {"kind": combiner.kind, **asdict(combiner)}  # type: ignore[call-overload]  # all are dataclasses


def _combiner(fields: dict[str, Any] | None) -> Combiner | None:
    if fields is None:
        return None
    sizes = {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items() if name != "kind"}
    return COMBINERS[fields["kind"]](**sizes)


TOPOLOGIES: dict[str, Topology] = {
    "squareroot": Topology((
        Layer(375, 32, Full(size=375, bits=5, maxbits=5)),
        Layer(75, 32, MajorityPool(width=25, height=1, subwidth=3, capwidth=25)),
        Layer(5),
    )),
}  # fmt: skip
