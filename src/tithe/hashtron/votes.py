"""The reference's tally: every sample votes for the bit of one hashtron that makes the answer better.

What a network computed is kept in a :class:`Trace`; flipping one hashtron re-evaluates only what lies behind it, and
only for the samples in which something there changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.filters import Filter
from tithe.hashtron.hashing import hash32
from tithe.hashtron.network import Network
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.stages import Trace, read_answers
from tithe.hashtron.topology import Topology

__all__ = ["Loss", "Votes", "answers_if", "learn", "losses", "say", "tally", "vote_weights", "weighed_totals"]

Loss = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
_ONE = 1 << 16  # the mean weight of a balanced vote


@dataclass(frozen=True, slots=True)
class Votes:
    """What the samples want of one hashtron.

    Attributes:
        keys: uint32 (V,), the key that the hashtron saw in each sample that votes, after the layer's premodulo.
        signs: int8 (V,), 1 for true, −1 for false.
        weights: int64 (V,), what each vote counts.
        samples: N, how many samples were asked.

    >>> votes = Votes(np.array([3, 3, 4], np.uint32), np.array([1, 1, -1], np.int8), np.ones(3, np.int64), 10)
    >>> votes.pivotal, votes.total, round(votes.margin, 2)
    (3, 1, 0.33)
    """

    keys: NDArray[np.uint32]
    signs: NDArray[np.int8]
    weights: NDArray[np.int64]
    samples: int

    @property
    def pivotal(self) -> int:
        """V, how many samples vote, because the hashtron's bit matters to them. O(1)."""
        return len(self.keys)

    @property
    def total(self) -> int:
        """S, the sum of the signs, from −V to V. O(V)."""
        return int(self.signs.sum(dtype=np.int64))

    @property
    def weighed(self) -> int:
        """S as the votes count, from −V to V: V·Σ sign·weight/Σ weight, towards 0. The same as S without weights. O(V).

        >>> Votes(np.zeros(3, np.uint32), np.array([1, -1, -1], np.int8), np.array([4, 1, 1]), 9).weighed
        1
        """
        return int(weighed_totals(self.signs[None], self.weights[None])[0])

    @property
    def margin(self) -> float:
        """|S|/V, 0 without votes: how one-sided they are. O(V)."""
        return abs(self.total) / max(1, self.pivotal)


def tally(
    network: Network,
    trace: Trace,
    y: NDArray[np.int64],
    index: int,
    *,
    loss: Loss | None = None,
    balanced: bool = False,
) -> Votes:
    """Ask every sample which bit of the hashtron ``index`` would make its answer better.

    A hashtron of a last layer without a combiner gets the bit of the target from each sample. Of any other, a sample
    votes for the bit with the smaller loss, and not at all where both are equal.

    Args:
        network: with the hashtron as it is.
        trace: ``network.trace`` of the samples.
        y: the targets, int64 (N,).
        index: the hashtron, in network order.
        loss: of answers and targets, (N,) each; by default the bits in which they differ, or for an argmax whether
            they do.
        balanced: whether the votes of rare targets count more, so that each target's samples count the same.

    Returns:
        The votes. O(N · what lies behind the hashtron).

    Source: MISSION H1; Tally4 of the Go package neurlang/classifier.

    >>> from tithe.hashtron import Layer
    >>> network, y = Network(Topology((Layer(1),)), [Hashtron()]), np.array([1, 1, 0])
    >>> tally(network, network.trace([1, 2, 3]), y, 0).signs.tolist()
    [1, 1, -1]
    """
    layer, position = network.topology.place(index)
    if len(y) != len(trace.answers):
        raise InvalidValueError(f"{len(y)} targets for the trace of {len(trace.answers)} samples; give one each")
    if network.topology.layers[layer].combiner is None:
        groups = y >> position & 1
        rows, signs = np.arange(len(y)), (2 * groups - 1).astype(np.int8)
    else:
        groups, bits = y, trace.bits[layer][position]
        measure = loss or losses(network.topology)
        better = measure(trace.answers, y) - measure(answers_if(network, trace, index, bits ^ 1), y).astype(np.float64)
        rows = np.flatnonzero(better)
        signs = (np.sign(better[rows]) * (1 - 2.0 * bits[rows])).astype(np.int8)
    return Votes(_keys(network, trace, layer, position)[rows], signs, vote_weights(groups, balanced)[rows], len(y))


def vote_weights(groups: NDArray[np.int64], balanced: bool) -> NDArray[np.int64]:
    """What the vote of each sample counts, (N,): the same, or ``balanced`` less the more there are of its group. O(N).

    >>> (vote_weights(np.array([0, 0, 1]), balanced=True) / 65536).round(2).tolist()
    [0.75, 0.75, 1.5]
    """
    if not balanced:
        return np.full(len(groups), _ONE, np.int64)
    if len(groups) and 0 <= groups.min() <= groups.max() <= 2 * len(groups):
        which, counts = groups, np.bincount(groups)  # a tenth of the time that sorting takes
    else:
        _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights: NDArray[np.int64] = (_ONE * len(groups) // (np.count_nonzero(counts) * np.maximum(counts, 1)))[which]
    return weights


def weighed_totals(signs: NDArray[np.int8], weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """``Votes.weighed`` of many hashtrons: signs −1, 1 or 0 for no vote (k, n), and weights (k, n). O(k · n).

    >>> weighed_totals(np.array([[1, -1, 0], [1, 1, 1]], np.int8), np.array([[3, 1, 9], [1, 1, 1]])).tolist()
    [1, 3]
    """
    pivotal = np.count_nonzero(signs, 1)
    every = np.where(signs != 0, weights, 0).sum(1)
    total = (signs * weights).sum(1)
    found: NDArray[np.int64] = np.trunc(pivotal * (total / np.maximum(every, 1))).astype(np.int64)
    return found


def learn(votes: Votes, program: tuple[tuple[int, int], ...] = ()) -> Hashtron:
    """The hashtron that gives each key, hashed by ``program``, the bit most votes are for; ties are left open.

    O(V log V).

    >>> votes = Votes(np.array([2, 2, 5], np.uint32), np.array([1, 1, -1], np.int8), np.ones(3, np.int64), 3)
    >>> learn(votes).forward(np.array([2, 5])).tolist()
    [True, False]
    """
    keys = votes.keys
    for salt, modulo in program:
        keys = hash32(keys, salt, modulo)
    unique, which = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(unique), np.int64)
    np.add.at(sums, which, votes.signs * votes.weights)
    return Hashtron(program, Filter.make(unique[sums != 0], sums[sums != 0] > 0))


def losses(topology: Topology) -> Loss:
    """The loss that :func:`tally` takes by default: bits that differ, or for an argmax whether the answer is wrong.

    >>> from tithe.hashtron import Layer
    >>> losses(Topology((Layer(3),)))(np.array([5, 6]), np.array([6, 6])).tolist()
    [2, 0]
    """
    if topology.answer == "argmax":
        return lambda answers, y: (answers != y).astype(np.int64)
    return lambda answers, y: np.bitwise_count(answers ^ y).astype(np.int64)


def say(network: Network, trace: Trace, index: int) -> NDArray[np.uint8]:
    """What the hashtron ``index`` says for the samples of the trace of another network that differs in it alone."""
    layer, position = network.topology.place(index)
    keys = _keys(network, trace, layer, position)
    return network.neurons[index].forward(keys).astype(np.uint8)


def answers_if(
    network: Network, trace: Trace, index: int, bits: NDArray[np.uint8], *, keep: bool = False
) -> NDArray[np.int64]:
    """The answers if the hashtron ``index`` said ``bits``; with ``keep`` the trace is changed to that.

    O(N · what lies behind the hashtron); less where few samples change.

    >>> from tithe.hashtron import Layer
    >>> network = Network(Topology((Layer(2),)), [Hashtron(), Hashtron()])
    >>> answers_if(network, network.trace([4, 5]), 1, np.array([1, 1], np.uint8)).tolist()
    [2, 3]
    """
    topology = network.topology
    layer, position = topology.place(index)
    undo: list[tuple[Any, Any, Any]] = []

    def put(array: Any, rows: Any, values: Any) -> None:
        undo.append((array, rows, array[rows].copy()))
        array[rows] = values

    neurons = np.array([position])
    put(trace.bits[layer], neurons, bits[None])
    for number in range(layer, len(topology.layers)):
        combiner = topology.layers[number].combiner
        if combiner is None:
            break
        readers = np.unique(np.concatenate([combiner.readers(int(n)) for n in neurons]))
        readers = readers[readers < topology.read(number)]
        old, new = trace.features[number + 1][readers], combiner.features(trace.bits[number], readers)
        samples = np.flatnonzero((old != new).any(0))
        if not samples.size:
            break
        put(trace.features[number + 1], readers, new)
        if number + 1 < len(topology.layers):
            after = topology.layers[number + 1]
            neurons = readers if after.combiner is not None else np.arange(after.neurons)
            said = trace.bits[number + 1][neurons]
            said[:, samples] = network.bits(number + 1, new[:, samples], neurons)
            put(trace.bits[number + 1], neurons, said)
    answers: NDArray[np.int64] = read_answers(topology, trace.bits[-1], trace.features[-1])
    if keep:
        trace.answers = answers
    else:
        for array, rows, values in reversed(undo):
            array[rows] = values
    return answers


def _keys(network: Network, trace: Trace, layer: int, position: int) -> NDArray[np.uint32]:
    spec, features = network.topology.layers[layer], trace.features[layer]
    row: NDArray[np.uint32] = features[position if spec.combiner is not None and len(features) > 1 else 0]
    return hash32(row, position, spec.premodulo) if spec.premodulo else row
