"""Bars of the hashtron networks: bits of the reference, accuracy by model bytes, time and memory."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tithe
from benchmarks.bars.bar import Reading, bar
from tithe.hashtron import HashtronClassifier, Network, load
from tithe.hashtron.topology import TOPOLOGIES
from tithe.hashtron.votes import tally
from tithe.parallel import threads

_VECTORS = Path(__file__).parents[2] / "tests" / "hashtron" / "vectors"
_SEEDS = range(3)
_KIB = 1024
# What is asked of whom: data, settings, bytes, accuracy.
_IMAGES: tuple[tuple[str, dict[str, Any], int, float], ...] = (
    ("mnist", {}, 64 * _KIB, 0.990),
    ("mnist", {"preset": 400}, 400 * _KIB, 0.992),
    ("mnist", {"deskew": True}, 64 * _KIB, 0.9935),
    ("mnist", {"preset": "best", "deskew": True}, 1024 * _KIB, 0.9945),
    ("fashion-mnist", {"augment": "mirror"}, 64 * _KIB, 0.895),
    ("fashion-mnist", {"preset": "best", "augment": "mirror"}, 1024 * _KIB, 0.90),
)
_TABLES = {"digits": (load_digits, 0.973), "breast_cancer": (load_breast_cancer, 0.96), "wine": (load_wine, 0.97)}


@bar("hashtron-images")
def images() -> Iterator[Reading]:
    """Test accuracy on whole image sets, mean of three seeds; every model is trained in a process of its own."""
    for name, settings, size, target in _IMAGES:
        found = [_child("fit_images", name, settings, seed) for seed in _SEEDS]
        accuracy = statistics.mean(f["accuracy"] for f in found)
        spread = statistics.stdev(f["accuracy"] for f in found)
        largest = max(f["bytes"] for f in found)
        figure = f"{accuracy:.2%} ± {spread:.2%} in {largest / _KIB:.0f} KiB, {found[0]['seconds']:.0f} s"
        wanted = f"≥ {target:.2%} in {size // _KIB} KiB"
        shown = ", ".join(f"{k}={v}" for k, v in settings.items()) or "defaults"
        yield Reading(f"{name}, {shown}", figure, wanted, accuracy >= target and largest <= size)
        if not settings:
            seconds, memory = (max(f[key] for f in found) for key in ("seconds", "peak"))
            yield Reading("fit of the default MNIST model", f"{seconds:.0f} s", "≤ 180 s", seconds <= 180)
            yield Reading("its peak memory", f"{memory / 2**30:.2f} GiB", "≤ 1.5 GiB", memory <= 1.5 * 2**30)


@bar("hashtron-tables")
def tables() -> Iterator[Reading]:
    """Plain columns, 30 % held out, ten seeds, defaults."""
    for name, (source, target) in _TABLES.items():
        X, y = source(return_X_y=True)
        scores: dict[str, list[float]] = {"hashtron": [], "logistic regression": [], "random forest": []}
        for seed in range(10):
            train_x, test_x, train_y, test_y = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
            models = (
                HashtronClassifier(random_state=seed),
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
                RandomForestClassifier(500, random_state=seed),
            )
            for label, model in zip(scores, models, strict=True):
                scores[label].append(float(model.fit(train_x, train_y).score(test_x, test_y)))
        ours, *others = (statistics.mean(values) for values in scores.values())
        figure = " / ".join(f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in scores.values())
        wanted = f"≥ {target:.3f}, at most .01 under the better of logistic regression / random forest"
        yield Reading(f"{name}, 10 seeds", figure, wanted, ours >= target and ours >= max(others) - 0.01)


@bar("hashtron-speed")
def speed() -> Iterator[Reading]:
    """One core: images a second, the squareroot network, one neuron's tally."""
    with threads(1):
        yield from _speed()


def _speed() -> Iterator[Reading]:
    data = tithe.data.load("mnist")
    model = HashtronClassifier(epochs=1, random_state=0).fit(data.train_x, data.train_y)
    ours = len(data.test_x) / _fastest(lambda: model.predict(data.test_x))
    flat = data.train_x.reshape(len(data.train_x), -1)[:10_000]
    forest = RandomForestClassifier(100, n_jobs=1, random_state=0).fit(flat, data.train_y[:10_000])
    test = data.test_x.reshape(len(data.test_x), -1)
    trees = len(test) / _fastest(lambda: forest.predict(test))
    figure = f"{ours:,.0f} images/s; random forest of 100 trees {trees:,.0f}"
    yield Reading("default MNIST model, predict", figure, "≥ 50,000 images/s, > forest", ours >= max(50_000, trees))
    network = load(_VECTORS / "squareroot_medium.json.t.zlib", topology="squareroot")
    X = np.arange(1024)
    milliseconds = 1e3 * _fastest(lambda: network.predict(X))
    yield Reading("squareroot, 1024 inputs", f"{milliseconds:.2f} ms", "≤ 35 ms (reference 71–100)", milliseconds <= 35)
    fresh = Network.random(TOPOLOGIES["squareroot"], np.random.default_rng(0))
    trace, y = fresh.trace(X), np.sqrt(X).astype(np.int64)
    milliseconds = 1e3 * _fastest(lambda: tally(fresh, trace, y, 7))
    yield Reading("tally of one of 375 neurons, 1024 samples", f"{milliseconds:.2f} ms", "≤ 5 ms", milliseconds <= 5)


def _fastest(run: Callable[[], object], repeats: int = 5) -> float:
    run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def fit_images(name: str, settings: dict[str, Any], seed: int) -> dict[str, float]:
    """Fit on the whole training set and read the test set once."""
    data = tithe.data.load(name)
    start = time.perf_counter()
    model = HashtronClassifier(random_state=seed, n_jobs=-1, **settings).fit(data.train_x, data.train_y)
    seconds = time.perf_counter() - start
    return {
        "accuracy": float(model.score(data.test_x, data.test_y)), "bytes": model.model_bytes_, "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip


def _child(function: str, *arguments: Any) -> dict[str, float]:
    """A function of this module in a fresh process, so that its peak memory is its own."""
    code = (
        f"import json, sys; from benchmarks.bars.hashtrons import {function} as f; "
        "print(json.dumps(f(*json.loads(sys.argv[1]))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], check=True, capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found
