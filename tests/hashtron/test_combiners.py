"""Combiners: every feature and every disregarded bit of the reference, on arrays and tensors."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import vectors

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.combiners import Combiner, Full, MajorityPool, Stochastic
from tithe.hashtron.counts import CrossAttention, Parity, Sum

MADE = {
    "majpool2d.MustNew2(w": MajorityPool(width=15, height=1, subwidth=3, capwidth=5),
    "majpool2d.MustNew2(2": MajorityPool(25, 1, 3, 1, 25, 1, 1, 0),
    "full": Full(size=20, bits=1, maxbits=5),
    "sum": Sum(dims=(4, 6), axis=0),
    "parity": Parity(9),
    "sochastic": Stochastic(size=24, maxbits=8, seed=3),
    "crossattention.MustNew2": CrossAttention(dim=8, heads=2, masked=True),
    "crossattention.MustNew3": CrossAttention(dim=24, heads=1, qkv=True),
}
MORE = [
    MajorityPool(width=4, height=3, subwidth=2, subheight=2, capwidth=2, capheight=2, repeat=2, bias=1),
    MajorityPool(width=5, height=1, subwidth=1, capwidth=32, bias=-1),
    Full(size=23, bits=4, maxbits=7),
    Full(size=3, bits=1, maxbits=9),
    Sum(dims=(4, 6), axis=1),
    Stochastic(size=7, maxbits=32),
    CrossAttention(dim=5, heads=3),
    CrossAttention(dim=12, heads=2, qkv=True, masked=True),
]
EVERY = pytest.mark.parametrize("combiner", [*MADE.values(), *MORE], ids=str)


@pytest.mark.parametrize("vector", vectors("combiner_vectors"), ids=lambda v: v["Ctor"])
def test_every_vector(vector: dict) -> None:
    combiner = next(made for prefix, made in MADE.items() if vector["Ctor"].startswith(prefix))
    bits = np.array([[int(x)] for x in vector["Bits"]], np.uint8)
    assert combiner.inputs == vector["N"]
    which = np.arange(vector["NF"])
    assert combiner.features(bits, which)[:, 0].tolist() == vector["Features"]
    assert combiner.features(torch.from_numpy(bits), which)[:, 0].tolist() == vector["Features"]
    assert [bool(combiner.disregards(bits, n)[0]) for n in range(vector["N"])] == vector["Disregard"]


@EVERY
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1 << 16), samples=st.integers(1, 5))
def test_what_a_bit_changes(combiner: Combiner, seed: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (combiner.inputs, samples), np.uint8)
    features = combiner.features(bits)
    assert features.shape == (combiner.outputs, samples) and features.dtype == np.uint32
    assert int(features.max()) < combiner.limit <= 1 << 32
    chosen = rng.permutation(combiner.outputs)[: rng.integers(1, combiner.outputs + 1)]
    assert (combiner.features(bits, chosen) == features[chosen]).all()
    tensors = combiner.features(torch.from_numpy(bits))
    assert tensors.dtype == torch.int64 and (tensors.numpy() == features).all()

    n = int(rng.integers(combiner.inputs))
    disregarded = combiner.disregards(bits, n)
    bits[n] ^= 1
    changed = combiner.features(bits) != features
    assert set(np.flatnonzero(changed.any(1))) <= set(combiner.readers(n).tolist())
    assert not changed[:, disregarded].any()


def test_a_pool_of_matrices_cell_by_cell() -> None:
    pool = MORE[0]
    assert isinstance(pool, MajorityPool)
    bits = np.random.default_rng(0).integers(0, 2, pool.inputs, np.uint8)
    for m in range(pool.outputs):
        repeat, place = divmod(m, 48)
        y, x = divmod(place // 4, 4)
        expected = 0
        for dy in range(2):
            for dx in range(2):
                block = repeat * 12 + 4 * ((2 * y + dy) % 3) + (2 * x + dx) % 4
                expected = 2 * expected + (2 * int(bits[4 * block : 4 * block + 4].sum()) - 4 > 1)
        assert int(pool.features(bits[:, None], np.array([m]))[0, 0]) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Full(0, 1, 1), "at least 1"),
        (lambda: Full(8, 0, 1), "at least 1"),
        (lambda: Full(64, 1, 33), "pack 32"),
        (lambda: Full(1 << 25, 1, 1), "at most"),
        (lambda: MajorityPool(1 << 20, 1 << 20, 1), "at most"),
        (lambda: MajorityPool(8, 1, 1, capwidth=6, capheight=6), "pack 32"),
        (lambda: Sum((2, 3), 2), "axes 0 to 1"),
        (lambda: Sum(()), "axis"),
        (lambda: Sum((1 << 40, 1 << 40)), "at most"),
        (lambda: CrossAttention(8, 1, qkv=True), "multiple of three"),
        (lambda: Parity(-1), "at least 1"),
        (lambda: Stochastic(8, 2, seed=1 << 70), "at most"),
        (lambda: MajorityPool(8, 1, 1, bias=-(1 << 70)), "at most"),
    ],
)
def test_sizes_that_cannot_be(make, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: Full(8.0, 1, 1), lambda: Sum("ab"), lambda: CrossAttention(8, 1, 1)])
def test_sizes_of_another_type(make) -> None:
    with pytest.raises(InvalidDTypeError, match=re.compile("must be")):
        make()
