"""The tally: votes equal those of flipping a hashtron in the whole network, and training learns from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import random_hashtron, random_network

from tithe.errors import InvalidValueError
from tithe.hashtron import Hashtron, Layer, Network, Topology, Votes, tally
from tithe.hashtron.combiners import Full, MajorityPool
from tithe.hashtron.hashing import hash32
from tithe.hashtron.stages import Trace, forward, read_answers
from tithe.hashtron.votes import answers_if, learn, losses, say, vote_weights


def answers_from(network: Network, trace: Trace, layer: int, position: int, said: np.ndarray) -> np.ndarray:
    """All of the network behind a layer again, with other bits of one hashtron."""
    topology, bits = network.topology, trace.bits[layer].copy()
    bits[position] = said
    combiner = topology.layers[layer].combiner
    if combiner is None:
        return read_answers(topology, bits, None)
    features = combiner.features(bits)[: topology.read(layer)]
    if layer + 1 == len(topology.layers):
        return read_answers(topology, bits, features)
    behind = Topology(topology.layers[layer + 1 :], topology.answer)
    return forward(network._stages[layer + 1 :], behind, features).answers


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 1 << 20))
def test_votes_are_those_of_the_whole_network(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    X, y = rng.integers(0, 1 << 12, (60, 36)), rng.integers(0, 8, 60)
    trace, index = network.trace(X), int(rng.integers(network.topology.neurons))
    before = [array.copy() for array in (*trace.features, *trace.bits, trace.answers)]
    votes = tally(network, trace, y, index)
    assert all((a == b).all() for a, b in zip(before, (*trace.features, *trace.bits, trace.answers), strict=True))

    layer, position = network.topology.place(index)
    bits, spec = trace.bits[layer][position], network.topology.layers[layer]
    if spec.combiner is None:
        expected = 2 * (y >> position & 1) - 1
    else:
        measure = losses(network.topology)
        flipped = answers_from(network, trace, layer, position, bits ^ 1)
        assert (answers_if(network, trace, index, bits ^ 1) == flipped).all()
        better = np.sign(measure(trace.answers, y) - measure(flipped, y))
        expected = better * (1 - 2 * bits.astype(int))
    assert votes.signs.tolist() == expected[expected != 0].tolist()
    assert votes.samples == 60 and votes.pivotal == np.count_nonzero(expected) and votes.total == expected.sum()
    features = trace.features[layer]
    keys = features[position if len(features) > 1 and spec.combiner is not None else 0]
    keys = hash32(keys, position, spec.premodulo) if spec.premodulo else keys
    assert votes.keys.tolist() == keys[expected != 0].tolist()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 20))
def test_a_kept_change_is_a_new_trace(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    X = rng.integers(0, 1 << 12, (40, 36))
    trace, index = network.trace(X), int(rng.integers(network.topology.neurons))
    changed = network.replace(index, random_hashtron(rng))
    answers_if(network, trace, index, say(changed, trace, index), keep=True)
    fresh = changed.trace(X)
    for kept, new in zip((*trace.features, *trace.bits), (*fresh.features, *fresh.bits), strict=True):
        assert (kept == new).all()
    assert (trace.answers == fresh.answers).all() and (changed.predict(X) == fresh.answers).all()


def test_a_disregarded_bit_gets_no_vote() -> None:
    network = Network(Topology((Layer(3, 0, MajorityPool(1, 1, 3)),)), [Hashtron()] * 3)
    trace = network.trace([[1, 1, 0], [1, 0, 0], [1, 0, 1]])
    votes = tally(network, trace, np.array([1, 1, 1]), 0)
    assert (votes.pivotal, votes.total, votes.margin) == (2, 2, 1.0)  # the sample in the middle cannot be helped
    assert tally(network, trace, np.array([0, 0, 0]), 2).signs.tolist() == [-1, -1]


def test_a_constant_final_hashtron_silences_all_others() -> None:
    topology = Topology((Layer(4, 0, Full(4, 4, 4)), Layer(1)))
    always = Hashtron(((0, 1),))  # the only key is 0, whose lowest bit is 0
    network = Network(topology, [*Network.random(topology, np.random.default_rng(0)).neurons[:4], always])
    trace = network.trace(np.arange(100))
    assert [tally(network, trace, np.arange(100) % 2, index).pivotal for index in range(5)] == [0, 0, 0, 0, 100]


def test_another_loss() -> None:
    network = Network(Topology((Layer(2, 0, Full(2, 2, 2)), Layer(2))), [Hashtron(), *[Hashtron()] * 3])
    trace, y = network.trace([[1, 1]]), np.array([0])
    assert trace.answers.tolist() == [3]
    assert tally(network, trace, y, 1).signs.tolist() == [-1]
    assert tally(network, trace, y, 1, loss=lambda answers, y: answers * 0).pivotal == 0
    halves = tally(network, trace, y, 1, loss=lambda answers, y: np.where(answers > 1, 0.5, 0.75))
    assert halves.signs.tolist() == [1]


def test_balanced_votes_weigh_each_target_the_same() -> None:
    network, y = Network(Topology((Layer(1),)), [Hashtron()]), np.array([1] + [0] * 9)
    votes = tally(network, network.trace(np.zeros(10, int)), y, 0, balanced=True)
    assert votes.weights[0] == pytest.approx(votes.weights[1:].sum(), rel=1e-3)
    assert votes.total == -8


def test_ties_are_left_open() -> None:
    votes = Votes(np.array([2, 2, 4], np.uint32), np.array([1, -1, 1], np.int8), np.ones(3, np.int64), 3)
    neuron = learn(votes)
    assert neuron.forward(4) and not neuron.forward(2)
    salted = learn(votes, ((9, 1000),))
    assert salted.program == ((9, 1000),) and salted.forward(4)
    assert learn(Votes(votes.keys[:0], votes.signs[:0], votes.weights[:0], 3)) == Hashtron()


def test_targets_must_fit() -> None:
    network = Network(Topology((Layer(1),)), [Hashtron()])
    with pytest.raises(InvalidValueError, match="2 targets for the trace of 3"):
        tally(network, network.trace([1, 2, 3]), np.array([0, 1]), 0)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.sampled_from([1, 1 << 20]))
def test_balanced_weights_depend_on_how_many_there_are_and_not_on_their_size(groups, size):
    array = np.array(groups, np.int64) * size
    found = vote_weights(array, balanced=True)
    assert found.tolist() == [(1 << 16) * len(groups) // (len(set(groups)) * groups.count(each)) for each in groups]
