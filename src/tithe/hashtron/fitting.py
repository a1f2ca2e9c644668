"""Training a network one hashtron at a time, each from the votes of all samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.filters import Filter
from tithe.hashtron.network import Network
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.topology import Topology
from tithe.hashtron.votes import Loss, Votes, answers_if, learn, losses, say, tally

__all__ = ["UNCAPPED", "Fit", "Step", "fit_network"]

UNCAPPED = (1 << 32) - 1
_MAJORITY_BITS = 16


@dataclass(frozen=True, slots=True)
class Step:
    """What happened to one hashtron in one round.

    Attributes:
        round: from 0.
        index: the hashtron, in network order.
        samples: N, how many samples were asked.
        pivotal: V, how many voted.
        total: S, the sum of their votes of ±1.
        premodulo: what its keys were hashed to; ``None`` for not at all.
        accepted: whether it was replaced; never without votes, nor where the validation loss would rise.
        answered_true: how often the hashtron says true now, of N.
    """

    round: int
    index: int
    samples: int
    pivotal: int
    total: int
    premodulo: int | None
    accepted: bool
    answered_true: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained network, and its steps in order."""

    network: Network
    steps: tuple[Step, ...]


def fit_network(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    seed: int | np.random.Generator,
    rounds: int = 1,
    premodulo: int | Callable[[Votes], int] | None = UNCAPPED,
    balanced: bool = True,
    final: Literal["votes", "majority"] = "votes",
    loss: Loss | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Fit:
    """Train every hashtron ``rounds`` times, in a new random order each round.

    A final hashtron that always says the same makes every other one irrelevant, so that none ever gets a vote. Two
    things keep it from that: ``balanced`` votes, and ``final="majority"``.

    Args:
        network: where to start; :meth:`Network.random` makes one.
        X: samples, as for :meth:`Network.predict`.
        y: what the network should answer, non-negative integers (N,) that it can answer.
        seed: of the order and of the salts.
        rounds: how often each hashtron is trained, at least once.
        premodulo: how many keys a hashtron may tell apart, 1 to 2^32 − 1, which its keys are hashed to with a random
            salt; or a function of its votes that says so; ``None`` leaves keys unsalted, which generalises worse.
        balanced: whether rare targets count as much as frequent ones; see :func:`tally`.
        final: ``"majority"`` fixes the only hashtron of the last layer to the majority of the bits it reads (at
            most 16), instead of training it.
        loss: see :func:`tally`; with one of your own, targets may be what only it understands, unless the last layer
            has no combiner, whose hashtrons learn the bits of the targets.
        validation: other samples and targets; a new hashtron is then kept only where their loss does not rise.
        progress: called after every step.

    Returns:
        The trained network and its steps; the same for the same arguments. Raises ``InvalidDTypeError`` or
        ``InvalidValueError`` for arguments that cannot be. O(rounds · neurons · N · what lies behind a hashtron).

    Source: MISSION H1; the trainers of the Go package neurlang/classifier.

    >>> from tithe.hashtron import Layer, Topology
    >>> start = Network.random(Topology((Layer(3),)), np.random.default_rng(0))
    >>> fit = fit_network(start, range(50), [x % 7 for x in range(50)], seed=0)
    >>> bool((fit.network.predict(range(50)) == np.arange(50) % 7).all())
    True
    """
    generator = np.random.default_rng(seed)
    if final not in ("votes", "majority"):
        raise InvalidValueError(f"final is {final!r}; use 'votes' or 'majority'")
    if not isinstance(rounds, int | np.integer) or rounds < 1:
        raise InvalidValueError(f"rounds is {rounds!r}; use a whole number from 1 on")
    fixed = None if callable(premodulo) else _modulo(premodulo)
    if final == "majority":
        network = _with_majority(network)
    most = _answers(network.topology) if loss is None or network.topology.layers[-1].combiner is None else None
    targets = _targets(y, most)
    trace, measure = network.trace(X), loss or losses(network.topology)
    held, held_targets = (
        (None, targets) if validation is None else (network.trace(validation[0]), _targets(validation[1], most))
    )
    trained = network.topology.neurons - (final == "majority")
    steps = []
    for number in range(rounds):
        for index in generator.permutation(trained).tolist():
            salt = int(generator.integers(1 << 32))
            votes = tally(network, trace, targets, index, loss=loss, balanced=balanced)
            modulo = _modulo(premodulo(votes)) if callable(premodulo) and votes.pivotal else fixed
            candidate = network.replace(index, learn(votes, () if modulo is None else ((salt, modulo),)))
            accepted = votes.pivotal > 0
            if accepted and held is not None:
                said = say(candidate, held, index)
                new = measure(answers_if(network, held, index, said), held_targets).sum()
                accepted = bool(new <= measure(held.answers, held_targets).sum())
                if accepted:
                    answers_if(network, held, index, said, keep=True)
            if accepted:
                answers_if(network, trace, index, say(candidate, trace, index), keep=True)
                network = candidate
            layer, position = network.topology.place(index)
            true = int(trace.bits[layer][position].sum(dtype=np.int64))
            steps.append(Step(number, index, votes.samples, votes.pivotal, votes.total, modulo, accepted, true))
            if progress is not None:
                progress(steps[-1])
    return Fit(network, tuple(steps))


def _modulo(premodulo: Any) -> int | None:
    if premodulo is None:
        return None
    if not isinstance(premodulo, int | np.integer) or not 1 <= premodulo <= UNCAPPED:
        raise InvalidValueError(
            f"premodulo is {premodulo!r}; use a whole number from 1 to 2^32 - 1, a function that gives one, or None"
        )
    return int(premodulo)


def _answers(topology: Topology) -> int:
    """How many answers a network can give; they are counted from 0."""
    last = topology.layers[-1]
    if last.combiner is None:
        return 1 << last.neurons
    return last.combiner.outputs if topology.answer == "argmax" else last.combiner.limit


def _targets(y: ArrayLike, most: int | None) -> NDArray[np.int64]:
    """Targets below ``most``, or of any size with None."""
    targets = np.asarray(y)
    if targets.dtype.kind not in "iub":
        raise InvalidDTypeError(f"y is {targets.dtype}; non-negative integers are expected")
    if targets.ndim != 1 or not targets.size or targets.min() < 0:
        raise InvalidValueError(f"y has shape {targets.shape}; (n,) of at least one non-negative integer is expected")
    if most is not None and targets.max() >= most:
        raise InvalidValueError(f"y goes up to {targets.max()}; this network answers with 0 to {most - 1}")
    return targets.astype(np.int64)


def _with_majority(network: Network) -> Network:
    layers = network.topology.layers
    before = layers[-2].combiner if len(layers) > 1 else None
    bits = 0 if before is None else (before.limit - 1).bit_length()
    if (
        layers[-1].combiner is not None
        or layers[-1].neurons != 1
        or layers[-1].premodulo
        or not 0 < bits <= _MAJORITY_BITS
    ):
        raise InvalidValueError(
            f"a majority needs one last hashtron that reads 1 to {_MAJORITY_BITS} bits, no premodulo and no combiner "
            "after it; for more bits end the topology in a layer with a MajorityPool of one block"
        )
    keys = np.arange(1 << bits)
    majority = Hashtron((), Filter.make(keys, 2 * np.bitwise_count(keys) > bits))
    return network.replace(network.topology.neurons - 1, majority)
