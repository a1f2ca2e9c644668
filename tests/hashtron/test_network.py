"""Networks: the reference's answers, the same on every path."""

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import VECTORS, random_hashtron, random_network, vectors

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron import Filter, Hashtron, Layer, Network, Topology, load
from tithe.hashtron.combiners import Full, MajorityPool
from tithe.hashtron.counts import Sum
from tithe.hashtron.kernels import compiled, plain
from tithe.hashtron.stages import Stage, pack
from tithe.hashtron.topology import TOPOLOGIES

PREDICTIONS = np.array(vectors("squareroot_model_predictions"))
needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = pytest.mark.parametrize("device", [None, "cpu", pytest.param("cuda", marks=needs_cuda)])


@pytest.mark.parametrize("vector", vectors("hashtron_vectors"), ids=lambda v: v["json"][:24])
def test_every_hashtron(vector: dict, loops: ModuleType) -> None:
    neuron = Hashtron(tuple(map(tuple, vector["program"])), Filter.from_hex(vector["quaternary"]))
    keys = np.arange(64, dtype=np.uint32) * np.uint32(2654435761)
    assert neuron.forward(keys).astype(int).tolist() == vector["forward_k_times_2654435761"]
    assert [neuron.forward(int(key)) for key in keys] == neuron.forward(keys).tolist()
    assert loops.evaluate(keys[None], np.array([0]), 0, pack([neuron]))[0].tolist() == neuron.forward(keys).tolist()
    assert neuron.to_json() == vector["json"]


@DEVICES
def test_squareroot(device: str | None) -> None:
    network = load(VECTORS / "squareroot_medium.json.t.zlib", "squareroot")
    assert (network.predict(np.arange(7), device=device) == PREDICTIONS[:7]).all()  # without tables
    assert (network.predict(np.arange(1000), device=device) == PREDICTIONS).all()  # with them
    assert (network.trace(np.arange(1000)).answers == PREDICTIONS).all()


def test_squareroot_on_both_loops(loops: ModuleType) -> None:
    network = load(VECTORS / "squareroot_medium.json.t.zlib", "squareroot")
    assert (network.predict(np.arange(1000)) == PREDICTIONS).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_blocks_and_threads(threads: int) -> None:
    network, before = load(VECTORS / "squareroot_medium.json.t.zlib", "squareroot"), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        answers = network.predict(np.tile(np.arange(1000, dtype=np.uint32), 9))
    finally:
        torch.set_num_threads(before)
    assert (answers == np.tile(PREDICTIONS, 9)).all()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 20), samples=st.sampled_from([1, 3, 300]), shared=st.booleans())
def test_paths_agree(seed: int, samples: int, shared: bool) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    X = rng.integers(0, 1 << rng.integers(1, 33), samples if shared else (samples, 36))
    trace = network.trace(X)
    assert (network.predict(X) == trace.answers).all()
    assert (network.predict(X, device="cpu") == trace.answers).all()
    one_by_one = np.concatenate([Network(network.topology, network.neurons).predict(x[None]) for x in X[:3]])
    assert (one_by_one == trace.answers[:3]).all()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1 << 20), premodulo=st.sampled_from([1, 8, 9, 32, 1000]), shared=st.booleans())
def test_tables_have_the_same_bits(seed: int, premodulo: int, shared: bool) -> None:
    rng = np.random.default_rng(seed)
    neurons = [random_hashtron(rng) for _ in range(6)]
    stage = Stage(Layer(6, premodulo, Full(6, 1, 1)), neurons, 1 << 32)
    features = rng.integers(0, 1 << 32, (1 if shared else 3, 50), np.uint32)
    some = np.array([4, 0, 5])
    direct = stage.bits(features, some)
    assert stage.served(premodulo)._tables is not None
    assert (stage.bits(features, some) == direct).all()
    for module in (compiled, plain):
        assert (module.evaluate(features, some, premodulo, stage.packed) == direct).all()
        assert (module.bits_at(features, some, premodulo, stage._tables) == direct).all()


def test_answers_by_argmax() -> None:
    network = Network(Topology((Layer(4, 0, Sum((2, 2))),), "argmax"), [Hashtron()] * 4)
    assert network.predict([[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1]]).tolist() == [1, 0, 0]


def test_a_majority_as_the_last_combiner() -> None:
    network = Network(Topology((Layer(3, 0, MajorityPool(1, 1, 3)),)), [Hashtron()] * 3)
    assert network.predict([[0, 1, 1], [1, 0, 0]]).tolist() == [1, 0]


def test_replace_leaves_the_old_one() -> None:
    network = Network.random(TOPOLOGIES["squareroot"], np.random.default_rng(0))
    before = network.predict(np.arange(50))
    neuron = Hashtron((), Filter.make(range(32), [True] * 32))
    changed = network.replace(400, neuron)
    assert changed.neurons[400] == neuron and changed.neurons[:400] == network.neurons[:400]
    assert (network.predict(np.arange(50)) == before).all()
    fresh = Network(network.topology, changed.neurons)
    assert (changed.predict(np.arange(50)) == fresh.predict(np.arange(50))).all()
    with pytest.raises(InvalidValueError, match="455"):
        network.replace(455, neuron)
    with pytest.raises(InvalidValueError):
        network.replace(-1, neuron)


def test_inputs_that_cannot_be() -> None:
    network = Network(Topology((Layer(2, 0, Full(2, 1, 1)),)), [Hashtron()] * 2)
    with pytest.raises(InvalidDTypeError, match="float64"):
        network.predict([0.5])
    with pytest.raises(InvalidValueError, match="-1 to 3"):
        network.predict([-1, 3])
    with pytest.raises(InvalidValueError, match="4294967296"):
        network.predict([1 << 32])
    with pytest.raises(InvalidValueError, match="1 features; the first layer reads 2"):
        network.predict([[1], [2]])
    with pytest.raises(InvalidValueError, match="shape"):
        network.predict(np.zeros((1, 2, 3), int))
    with pytest.raises(InvalidValueError, match="device 'nowhere'"):
        network.predict([1], device="nowhere")
    assert network.predict([]).shape == (0,)
    assert network.predict(np.zeros((0, 2), int), device="cpu").shape == (0,)


def test_networks_that_cannot_be() -> None:
    with pytest.raises(InvalidValueError, match="1 hashtrons for a topology of 2"):
        Network(Topology((Layer(2),)), [Hashtron()])
    with pytest.raises(InvalidValueError, match="only be the last"):
        Topology((Layer(2), Layer(1)))
    with pytest.raises(InvalidValueError, match="has 2 features"):
        Topology((Layer(4, 0, Full(4, 2, 2)), Layer(3, 0, Full(3, 1, 1))))
    with pytest.raises(InvalidValueError, match="takes 4 bits of a layer of 5"):
        Layer(5, 0, Full(4, 2, 2))
    with pytest.raises(InvalidValueError, match="argmax needs"):
        Topology((Layer(2),), "argmax")
    with pytest.raises(InvalidValueError, match="at most 32 bits"):
        Topology((Layer(33),))
    with pytest.raises(InvalidValueError, match="salts and modulos"):
        Hashtron(((1, 1 << 32),))
    with pytest.raises(InvalidDTypeError):
        Topology(())
