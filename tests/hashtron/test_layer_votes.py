"""The tally of a whole layer: bit for bit that of each hashtron, on the CPU and on a GPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import VECTORS, random_network

from tithe.errors import InvalidValueError
from tithe.hashtron import Layer, Network, Topology, load, tally, tally_layer
from tithe.hashtron import layer_votes as module
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.layer_votes import LayerVotes

needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])


def check(network: Network, X: np.ndarray, y: np.ndarray, layer: int, device: str, balanced: bool) -> LayerVotes:
    found, trace = tally_layer(network, X, y, layer, device=device, balanced=balanced), network.trace(X)
    first = sum(spec.neurons for spec in network.topology.layers[:layer])
    for position in range(network.topology.layers[layer].neurons):
        one, other = tally(network, trace, y, first + position, balanced=balanced), found.of(position)
        assert one.keys.tolist() == other.keys.tolist()
        assert one.signs.tolist() == other.signs.tolist()
        assert one.weights.tolist() == other.weights.tolist()
        assert (one.total, one.pivotal) == (found.totals[position], found.pivotal[position])
    return found


@DEVICES
@pytest.mark.parametrize("layer", [1, 2])
def test_the_reference_model(layer: int, device: str) -> None:
    network = load(VECTORS / "squareroot_medium.json.t.zlib", "squareroot")
    X = np.arange(200)
    check(network, X, np.sqrt(X).astype(np.int64) ^ (X % 7 == 0), layer, device, balanced=layer == 1)


@DEVICES
def test_in_blocks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 9 * 9 * 10)
    network = Network.random(Topology((Layer(9, 8, MajorityPool(1, 3, 3)), Layer(1))), np.random.default_rng(3))
    X = np.arange(64)
    found = check(network, X, X % 2, 0, device, balanced=True)
    sums = found.sums(8).cpu().numpy()
    votes = found.of(4)
    assert sums[4].tolist() == [int((votes.signs * votes.weights)[votes.keys == key].sum()) for key in range(8)]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1 << 20), balanced=st.booleans())
def test_random_networks(seed: int, balanced: bool) -> None:
    random = np.random.default_rng(seed)
    network = random_network(random)
    X = random.integers(0, 1 << 16, 30)
    for layer in range(len(network.topology.layers)):
        check(network, X, random.integers(0, 4, 30), layer, "cpu", balanced)


def test_what_cannot_be() -> None:
    network = Network.random(Topology((Layer(2),)), np.random.default_rng(0))
    with pytest.raises(InvalidValueError, match="layers 0 to 0"):
        tally_layer(network, [1], np.array([1]), 1)
    with pytest.raises(InvalidValueError, match="2 targets for 1 samples"):
        tally_layer(network, [1], np.array([1, 0]), 0)
    with pytest.raises(InvalidValueError, match="size is 1"):
        tally_layer(network, [1, 9], np.array([1, 0]), 0).sums(1)
