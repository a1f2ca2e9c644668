"""The measurement of H1: agreement with the reference, a network trained by tallies, and the classifier's accuracy."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from tithe import data
from tithe.audit.claim import Run
from tithe.audit.claims.h1_hashtron import FORWARD, OURS
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError
from tithe.hashtron import (
    Filter,
    Hashtron,
    HashtronClassifier,
    Layer,
    Network,
    Topology,
    fit_network,
    hash32,
    load,
    save,
    string_hash,
)
from tithe.hashtron.combiners import MajorityPool

__all__ = ["measure"]

# Made by the Go reference: hashes [n, salt, max, hash]; texts (seed, text, hash); a filter and its answers for keys
# 0, 7919, 2·7919, ...; programs with a filter and the answers for keys 0, 2654435761, 2·2654435761, ... mod 2³².
_HASHES = (
    (0, 1, 4294967295, 3084105114),
    (12345, 678, 1000, 666),
    (188198846, 1645802691, 13637815, 11714384),
    (1553415631, 520713656, 348132, 332951),
)
_TEXTS = ((1, "a", 3002439863), (0, "test", 4264482056), (12345, "čaj", 3473463667), (1, "日本", 542493207))
_FILTER = ("200030d00000203103010c", "0110010001011101010101100101001101010001")
_NEURONS = (
    (((2259930246, 223427790), (1230578776, 56)), "8000", "1111101010001001111010001000111101101111"),
    (
        ((3472199411, 8145631), (4150236254, 22), (3016871103, 29)),
        "100001a4",
        "1000110011011001110101100011010011111011",
    ),
)
_NEURONS_READ = 25
_PIXELS_READ = 10
_FOREST_ROWS, _REGRESSION_ROWS = 20_000, 5_000


def measure(run: Run) -> Evidence:
    """Agreement first, then the forward pipeline on odd and even digits, then whole images in several ways."""
    run.progress(0.0, "compares with the reference")
    agreement = _agreement()
    learning, kept = _forward(run)
    agreement.append(kept)
    models, notes, epochs = _models(run)
    learning_table = Table(
        "Is a digit odd? 25 neurons on ten random pixels each, and a majority",
        learning,
        (Column("method", "trained by"), Column("train", "train", ".1%"),
         Column("test", "test", ".1%", low="test_low", high="test_high"), Column("prior", "guessing", ".1%")),
    )  # fmt: skip
    models_table = Table(
        "Accuracy and size",
        models,
        (Column("method", "method"), Column("data", "data"), Column("train", "train", ".2%"),
         Column("test", "test", ".2%"), Column("prior", "guessing", ".1%"), Column("bytes", "model bytes", ",.0f"),
         Column("seconds", "fit, s", ".1f")),
    )  # fmt: skip
    tables = {
        "agreement": Table("Equal to the reference, bit for bit", agreement),
        "learning": learning_table,
        "models": models_table,
    }
    return Evidence(tables, [_plot(models)], {"epochs": epochs}, notes)


def _agreement() -> list[Row]:
    hashes = sum(hash32(n, s, most) == found for n, s, most, found in _HASHES)
    texts = sum(string_hash(seed, text) == found for seed, text, found in _TEXTS)
    rows: list[Row] = [
        {"what": "hash", "equal": hashes, "of": len(_HASHES)},
        {"what": "text hash", "equal": texts, "of": len(_TEXTS)},
    ]
    answers = "".join(str(int(Filter.from_hex(_FILTER[0])[7919 * i])) for i in range(len(_FILTER[1])))
    rows.append({"what": "filter", "equal": _same(answers, _FILTER[1]), "of": len(answers)})
    for program, cells, expected in _NEURONS:
        neuron = Hashtron(program, Filter.from_hex(cells))
        keys = (i * 2654435761 % (1 << 32) for i in range(len(expected)))
        answers = "".join(str(int(neuron.forward(key))) for key in keys)
        rows.append({"what": f"neuron of {len(program)} hashes", "equal": _same(answers, expected), "of": len(answers)})
    return rows


def _same(found: str, expected: str) -> int:
    return sum(a == b for a, b in zip(found, expected, strict=True))


def _forward(run: Run) -> tuple[list[Row], Row]:
    """The tally, neuron by neuron, on several seeds; and whether a saved network answers as before."""
    digits = data.load("digits")
    topology = Topology((Layer(_NEURONS_READ, 0, MajorityPool(1, 1, _NEURONS_READ)),))
    train_y, test_y = digits.train_y % 2, digits.test_y % 2
    seeds = run.seeds(run.pick(quick=5, full=20))
    train, test, equal = [], [], 0
    for index, seed in enumerate(seeds):
        run.progress(0.05 + 0.2 * index / len(seeds), f"trains a network, seed {index + 1} of {len(seeds)}")
        random = np.random.default_rng(seed)
        pixels = np.stack([random.permutation(64)[:_PIXELS_READ] for _ in range(_NEURONS_READ)])
        X, unseen = (
            ((x.reshape(-1, 64) > 7)[:, pixels] << np.arange(_PIXELS_READ)).sum(2)
            for x in (digits.train_x, digits.test_x)
        )
        network = fit_network(Network.random(topology, random), X, train_y, seed=seed, rounds=2).network
        answers = network.predict(unseen)
        train.append(float((network.predict(X) == train_y).mean()))
        test.append(float((answers == test_y).mean()))
        with tempfile.TemporaryDirectory() as folder:
            again = load(save(network, Path(folder) / "network.json.t.zlib"))
        equal += int((again.predict(unseen) == answers).all())
    found = interval(test)
    row: dict[str, Any] = {
        "method": FORWARD, "train": float(np.mean(train)), "test": found.mean, "test_low": found.low,
        "test_high": found.high, "prior": _prior(test_y),
    }  # fmt: skip
    return [row], {"what": "networks after saving and loading", "equal": equal, "of": len(seeds)}


def _models(run: Run) -> tuple[list[Row], list[str], int]:
    """The classifier beside what a user could take instead."""
    notes: list[str] = []
    try:
        name, images = "MNIST", data.load("mnist")
    except DataUnavailableError as error:
        name, images = "digits", data.load("digits")
        notes.append(f"Measured on scikit-learn's digits, 8×8 pixels, for want of MNIST: {str(error).split('. ')[0]}.")
    epochs = run.pick(quick=3 if name == "MNIST" else 30, full=15 if name == "MNIST" else 30)
    flat = [x.reshape(len(x), -1) / float(images.train_x.max()) for x in (images.train_x, images.test_x)]
    seed = run.seeds(1)[0]
    rows: list[Row] = []
    order = np.random.default_rng(seed).permutation(len(flat[0]))
    plans: tuple[tuple[str, Any, NDArray[Any], NDArray[Any], NDArray[Any]], ...] = (
        (OURS, HashtronClassifier(epochs=epochs, random_state=seed, n_jobs=-1), images.train_x, images.test_x,
         np.arange(len(order))),
        ("random forest", RandomForestClassifier(100, n_jobs=-1, random_state=seed), *flat, order[:_FOREST_ROWS]),
        ("logistic regression", LogisticRegression(max_iter=200), *flat, order[:_REGRESSION_ROWS]),
    )  # fmt: skip
    for index, (label, model, train_x, test_x, chosen) in enumerate(plans):
        run.progress(0.3 + 0.7 * index / len(plans), f"fits {label} on {name}")
        if index and run.left() < 0:
            notes.append(f"{label} was left out, for want of time.")
            continue
        start = time.perf_counter()
        model.fit(train_x[chosen], images.train_y[chosen])
        seconds = time.perf_counter() - start
        if len(chosen) < len(order):
            notes.append(f"The {label} learned from {len(chosen):,} of {len(order):,} images, to stay in the budget.")
        some = chosen[:_REGRESSION_ROWS]
        rows.append({
            "method": label, "data": name, "train": float(model.score(train_x[some], images.train_y[some])),
            "test": float(model.score(test_x, images.test_y)), "prior": _prior(images.test_y),
            "bytes": _bytes(model), "seconds": seconds,
        })  # fmt: skip
    return rows, notes, epochs


def _bytes(model: Any) -> int:
    """What a model needs to predict: our own count; coefficients of eight bytes; sixteen bytes a node of a tree."""
    if isinstance(model, HashtronClassifier):
        return int(model.model_bytes_)
    if isinstance(model, LogisticRegression):
        return int(model.coef_.nbytes + model.intercept_.nbytes)
    return sum(16 * int(tree.tree_.node_count) for tree in model.estimators_)


def _prior(y: NDArray[np.int64]) -> float:
    return float(np.bincount(y).max() / len(y))


def _plot(models: list[Row]) -> Plot:
    series = [
        Series(row["method"], [row["bytes"] / 1024], [1 - row["test"]], role="measured" if row["method"] == OURS else
               "baseline")
        for row in models
    ]  # fmt: skip
    return Plot(
        "Error against size",
        Axis("model, KiB", log=True),
        Axis("error on unseen images", log=True, spec=".2g%"),
        series,
    )
