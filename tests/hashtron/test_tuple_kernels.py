"""The loops of tuple tables, compiled and in NumPy, do the same bit for bit; one of them is chosen for all."""

import hashlib
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from tithe.hashtron.kernels import compiles
from tithe.hashtron.tuples import compiled, kernels, plain
from tithe.hashtron.tuples.plain import BLOCK, CLASSES

SEEDS = range(25)


def both(call, *arrays):
    """What either loop makes of copies of some arrays."""
    found = []
    for module in (compiled, plain):
        copies = [array.copy() for array in arrays]
        call(module, *copies)
        found.append(copies)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8))
    return found[0]


def random_tables(rng):
    """Sizes of tables and windows, and how many tuples of them are looked at."""
    width = int(rng.integers(1, 17))
    log_size = int(rng.integers(1, width + 1))
    down, across = (int(n) for n in rng.integers(1, 4, 2))
    count = int(rng.integers(1, 40))
    first, last = sorted(rng.integers(0, count + 1, 2).tolist())
    return width, log_size, down, across, count, first, last


def random_kept(rng, count):
    return (rng.random((count, BLOCK)) < 0.6).astype(np.uint8) if rng.integers(2) else np.empty((0, 0), np.uint8)


@pytest.mark.parametrize("seed", SEEDS)
def test_cells(seed):
    rng = np.random.default_rng(seed)
    width, log_size, down, across, count, first, last = random_tables(rng)
    stride, room = int(rng.integers(20)), int(rng.integers(1, 60))
    bits = rng.integers(0, 2, (room + (down - 1) * stride + across - 1, BLOCK)).astype(np.uint8)
    tuples = rng.integers(0, room, (count, width)).astype(np.int32)
    salts = rng.integers(0, 1 << 32, count, np.uint32)

    def call(module, cells):
        module.find_cells(bits, tuples, salts, log_size, across, down, stride, first, last, cells)

    (found,) = both(call, np.full((count, down * across, BLOCK), 12345, np.uint16))
    assert (found[first:last] < 1 << log_size).all()
    assert (found[:first] == 12345).all() and (found[last:] == 12345).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_votes(seed):
    rng = np.random.default_rng(seed)
    _, log_size, down, across, count, first, last = random_tables(rng)
    classes = CLASSES * int(rng.integers(1, 4))
    cells = rng.integers(0, 1 << log_size, (count, down * across, BLOCK)).astype(np.uint16)
    signs = rng.choice(np.array([-1, 1], np.int8), (count, 1 << log_size, classes))
    kept = random_kept(rng, count)
    before = rng.integers(-999, 999, (BLOCK, classes)).astype(np.int32)
    (found,) = both(lambda module, votes: module.vote(cells, signs, kept, first, last, votes), before)
    assert np.abs(found - before).max() <= (last - first) * down * across


@pytest.mark.parametrize("seed", SEEDS)
def test_learning(seed):
    """Samples and windows that meet in a cell move it one after the other, and are cut off in between."""
    rng = np.random.default_rng(seed)
    _, log_size, down, across, count, first, last = random_tables(rng)
    log_size, classes = min(log_size, 3), CLASSES * int(rng.integers(1, 3))
    cells = rng.integers(0, 1 << log_size, (count, down * across, BLOCK)).astype(np.uint16)
    latent = rng.uniform(-1, 1, (count, 1 << log_size, classes)).astype(np.float32)
    latent[rng.random(latent.shape) < 0.1] = -0.0
    signs = np.where(latent >= 0, 1, -1).astype(np.int8)
    steps = (rng.normal(0, 0.5, (BLOCK, classes)) * rng.integers(0, 2, (BLOCK, 1))).astype(np.float32)
    kept = random_kept(rng, count)

    def call(module, latent, signs):
        module.learn(cells, latent, signs, kept, first, last, steps)

    latent, signs = both(call, latent, signs)
    assert (np.abs(latent) <= 1).all()
    np.testing.assert_array_equal(signs, np.where(latent >= 0, 1, -1))


@pytest.mark.parametrize("samples", [1, 15, 16, 17, 40])
def test_blocks(samples):
    bits = np.random.default_rng(samples).integers(0, 2, (samples, 7)).astype(np.uint8)
    (found,) = both(
        lambda module, blocks: module.lay_out(bits, blocks), np.full((-(-samples // BLOCK), 7, BLOCK), 9, np.uint8)
    )
    rows = found.swapaxes(1, 2).reshape(-1, 7)
    np.testing.assert_array_equal(rows[:samples], bits)
    assert not rows[samples:].any()


def test_what_runs_without_numba(monkeypatch):
    assert kernels._loops is compiled
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not compiles.__wrapped__()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not compiles.__wrapped__()


FIT = """
import numpy as np
from tithe.hashtron import HashtronClassifier
rng = np.random.default_rng(0)
X, images = rng.normal(size=(120, 4)), rng.integers(0, 255, (24, 5, 5)).astype(np.uint8)
HashtronClassifier(4, epochs=2, random_state=0).fit(X, X[:, 0] > 0).save("{0}/columns")
HashtronClassifier(1, epochs=1, random_state=0).fit(images, np.arange(24) % 2).save("{0}/images")
"""


@pytest.mark.slow
def test_models_are_the_same_where_numba_does_not_compile(tmp_path):
    files = []
    for name, disabled in (("on", "0"), ("off", "1")):
        folder = tmp_path / name
        folder.mkdir()
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        subprocess.run([sys.executable, "-c", FIT.format(folder.as_posix())], check=True, env=environment)
        files.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()})
    assert files[0] == files[1] and len(files[0]) == 2
