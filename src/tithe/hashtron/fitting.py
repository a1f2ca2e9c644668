"""Training a network one hashtron at a time, each from the votes of all samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tithe.errors import InvalidValueError
from tithe.hashtron.network import Network
from tithe.hashtron.threshold import bits_counted, majority, stair, threshold
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import Loss, Votes, learn

__all__ = ["UNCAPPED", "Fit", "Step", "fit_network"]

UNCAPPED = (1 << 32) - 1


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
        final: ``"majority"`` fixes the last hashtron to the majority of the bits it reads (at most 16), instead of
            training it; several last ones become the stairs of :func:`~tithe.hashtron.threshold.stair`.
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
        bits, last = bits_counted(network.topology), network.topology.layers[-1].neurons
        for k in range(last):
            neuron = threshold(bits, stair(majority(bits), k, last, bits))
            network = network.replace(network.topology.neurons - last + k, neuron)
    trainee = Trainee(network, X, y, loss=loss, held_out=validation)
    trained = network.topology.neurons - (network.topology.layers[-1].neurons if final == "majority" else 0)
    steps = []
    for number in range(rounds):
        for index in generator.permutation(trained).tolist():
            salt = int(generator.integers(1 << 32))
            votes = trainee.tally(index, balanced=balanced)
            modulo = _modulo(premodulo(votes)) if callable(premodulo) and votes.pivotal else fixed
            neuron = learn(votes, () if modulo is None else ((salt, modulo),))
            accepted = votes.pivotal > 0 and not trainee.worse(index, neuron)
            if accepted:
                trainee.take(index, neuron)
            true = trainee.answered_true(index)
            steps.append(Step(number, index, votes.samples, votes.pivotal, votes.total, modulo, accepted, true))
            if progress is not None:
                progress(steps[-1])
    return Fit(trainee.network, tuple(steps))


def _modulo(premodulo: Any) -> int | None:
    if premodulo is None:
        return None
    if not isinstance(premodulo, int | np.integer) or not 1 <= premodulo <= UNCAPPED:
        raise InvalidValueError(
            f"premodulo is {premodulo!r}; use a whole number from 1 to 2^32 - 1, a function that gives one, or None"
        )
    return int(premodulo)
