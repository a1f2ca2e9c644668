"""Hashtrons trained one after the other, with all that is claimed about it open: which is next, and how many keys.

The last hashtron is a majority and stays as it is; what a neuron is hashed with depends on the seed, the sweep and its
place alone, so that two runs with the same seed differ in nothing but what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tithe.audit.hashtron_tasks import BALANCED, COLUMNS, Examples, majority_network
from tithe.hashtron import select
from tithe.hashtron.backward.histories import History, Neuron, Sums
from tithe.hashtron.backward.margin import gold_zone, margin
from tithe.hashtron.backward.pairs import anti_correlated_pairs
from tithe.hashtron.backward.policies import Policy
from tithe.hashtron.layer_votes import tally_layer
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import Votes, learn

__all__ = ["ORDERS", "Order", "Scene", "Training", "partners_of", "trainings"]


@dataclass(frozen=True, slots=True)
class Training:
    """One training of one hashtron.

    Attributes:
        position: of the hashtron.
        sums: S, V and N of its votes.
        keys: how many different keys these have.
        premodulo: to how many they were hashed; 0 without votes.
        train: accuracy of the network afterwards on what it learns from.
        test: on the rest.
    """

    position: int
    sums: Sums
    keys: int
    premodulo: int
    train: float
    test: float


@dataclass(slots=True)
class Scene:
    """What an order may go by: the latest sums of all hashtrons, and which were trained in this sweep."""

    trainee: Trainee
    random: np.random.Generator
    totals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(COLUMNS, np.int64))
    pivotal: NDArray[np.int64] = field(default_factory=lambda: np.zeros(COLUMNS, np.int64))
    done: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(COLUMNS, np.bool_))

    def probe(self, position: int) -> Votes:
        """Ask all samples about a hashtron, and note the sums. O(N)."""
        votes = self.trainee.tally(position, balanced=BALANCED)
        self.totals[position], self.pivotal[position] = votes.total, votes.pivotal
        return votes

    def left(self) -> NDArray[np.intp]:
        """The hashtrons whose turn is still to come. O(hashtrons)."""
        return np.flatnonzero(~self.done)


Order = Callable[[Scene], int]


def at_random(scene: Scene) -> int:
    """Any."""
    return int(scene.random.choice(scene.left()))


def gold_first(scene: Scene) -> int:
    """The source's choice by the latest sums, some of which are older than what was trained since."""
    found = select(scene.totals, scene.pivotal, done=scene.done, seed=scene.random)
    assert found is not None
    return found.neurons[0]


def gold_by_fresh_sums(scene: Scene) -> int:
    """The source's choice, by sums of this moment: every hashtron is asked about before every training."""
    for position in scene.left().tolist():
        scene.probe(position)
    return gold_first(scene)


def gold_last(scene: Scene) -> int:
    """The opposite: the farthest from the middle of the gold zone."""
    low, high = gold_zone(scene.pivotal)
    far = np.abs(margin(scene.totals, scene.pivotal) - (low + high) / 2)
    far[scene.done] = -1
    return int(far.argmax())


def partners_of(trainee: Trainee, samples: NDArray[np.uint32]) -> dict[int, int]:
    """The hashtrons whose votes are anti-correlated beyond chance, each with one other, the worst pairs first.

    O(hashtrons² · N).
    """
    signs = tally_layer(trainee.network, samples, trainee.targets, 0, balanced=BALANCED).signs.numpy()
    partners: dict[int, int] = {}
    for pair in anti_correlated_pairs(signs.T, most=COLUMNS):
        one, other = pair.neurons
        if one not in partners and other not in partners:
            partners |= {one: other, other: one}
    return partners


ORDERS: dict[str, Order] = {
    "at random": at_random,
    "gold zone": gold_first,
    "gold zone, sums taken anew": gold_by_fresh_sums,
    "farthest from it": gold_last,
}


def trainings(
    known: Examples, test: Examples, policy: Policy, *, seed: int, count: int, order: Order = at_random
) -> Iterator[Training]:
    """Train so many hashtrons, sweep after sweep, each once a sweep.

    Args:
        known: what is learned from.
        test: what is measured on, besides.
        policy: gives the premodulos.
        seed: of the network and all that is random in its training.
        count: how many trainings.
        order: of :data:`ORDERS`.

    Yields:
        The trainings. O(count · N).
    """
    trainee = Trainee(majority_network(seed), *known, held_out=test)
    scene = Scene(trainee, np.random.default_rng([seed, 1]))
    histories: dict[Neuron, History] = {}
    for position in range(COLUMNS):
        histories[0, position] = History().after(_sums(scene.probe(position)))
    for number in range(count):
        if scene.done.all():
            scene.done[:] = False
        position = order(scene)
        votes = scene.probe(position)
        neuron, premodulo = (0, position), 0
        if votes.pivotal:
            histories[neuron] = histories[neuron].after(_sums(votes), keep=max(1, policy.reads))
            premodulo = policy.premodulo(neuron, histories)
            histories[neuron] = History(premodulo, histories[neuron].sums)
            salt = int(np.random.default_rng([seed, number // COLUMNS, position]).integers(1 << 32))
            trainee.take(position, learn(votes, ((salt, premodulo),)))
        scene.done[position] = True
        held = trainee.held_accuracy
        assert held is not None
        yield Training(position, _sums(votes), len(np.unique(votes.keys)), premodulo, trainee.accuracy, held)


def _sums(votes: Votes) -> Sums:
    return Sums(votes.total, votes.pivotal, votes.samples)
