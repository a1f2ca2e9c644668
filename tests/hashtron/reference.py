"""What the tests of hashtrons share: the vectors of the reference implementation, and small generators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tithe.hashtron import Filter, Hashtron, Layer, Network, Topology
from tithe.hashtron.combiners import Full, MajorityPool, Stochastic
from tithe.hashtron.counts import Parity, Sum

VECTORS = Path(__file__).parent / "vectors"
LARGEST = (1 << 32) - 1


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def random_hashtron(rng: np.random.Generator) -> Hashtron:
    program = tuple(
        (int(rng.integers(1 << 32)), int(rng.integers(1 << rng.integers(1, 33)))) for _ in range(rng.integers(4))
    )
    keys = rng.integers(0, 1 << rng.integers(1, 33), rng.integers(40))
    return Hashtron(program, Filter.make(keys, keys * 7 % 3 == 0))


def random_network(rng: np.random.Generator) -> Network:
    """One to three layers, with every combiner that a random size allows."""
    layers = []
    for _ in range(rng.integers(1, 3)):
        kind = rng.integers(5)
        combiner = [
            MajorityPool(
                width=12, height=1, subwidth=3, capwidth=int(rng.integers(1, 20)), bias=int(rng.integers(-1, 2))
            ),
            Full(36, int(rng.integers(1, 3)), int(rng.integers(1, 32))),
            Sum((3, 12), int(rng.integers(2))),
            Parity(36),
            Stochastic(36, int(rng.integers(1, 33)), int(rng.integers(1 << 16))),
        ][kind]
        neurons = 36
        if layers and layers[-1].combiner.outputs < neurons:
            break
        layers.append(Layer(neurons, int(rng.choice([0, 1, 32, 1000, LARGEST])), combiner))
    argmax = bool(rng.integers(2))
    if not argmax:
        layers.append(Layer(int(rng.integers(1, 33)), int(rng.choice([0, 32, 1000]))))
    topology = Topology(tuple(layers), "argmax" if argmax else "bits")
    return Network(topology, [random_hashtron(rng) for _ in range(topology.neurons)])
