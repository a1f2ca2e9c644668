"""The two Tsetlin machines that install from PyPI, behind one face: fit to truth values, predict, count bytes."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.hashtron.booleans import Booleans
from benchmarks.hashtron.sizes import of_clauses
from benchmarks.hashtron.tasks import Task

_EVALUATED = 100  # training samples that green-tsetlin's trainer has to look at after each epoch


def missing(module: str, package: str) -> str | None:
    """What to do where the machine is not installed."""
    if importlib.util.find_spec(module):
        return None
    return f"{package} is not installed. Do: python -m pip install --no-deps {package} && python -m pip install tqdm"


def fit_green(
    X: NDArray[Any],
    y: NDArray[Any],
    *,
    clauses: int,
    s: float,
    T: int,
    epochs: int,
    levels: int,
    seed: int,
    threads: int,
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], int]:
    """green-tsetlin: clauses that all classes share, each with a weight for each class."""
    import green_tsetlin as gt

    booleans = Booleans.fit(X, levels)
    bits = np.ascontiguousarray(booleans.bits(X))
    classes, codes = np.unique(y, return_inverse=True)
    codes = codes.astype(np.uint32)
    machine = gt.TsetlinMachine(bits.shape[1], clauses, len(classes), float(s), T)
    trainer = gt.Trainer(machine, n_jobs=threads, n_epochs=epochs, seed=seed + 1, early_exit_acc=2.0,
                         load_best_state=False, progress_bar=False)  # fmt: skip
    trainer.set_train_data(bits, codes)
    trainer.set_eval_data(bits[:_EVALUATED], codes[:_EVALUATED])
    trainer.train()
    predictor = machine.get_predictor()
    state = machine._state

    def predict(X: NDArray[Any]) -> NDArray[Any]:
        return classes[[predictor.predict(row) for row in np.ascontiguousarray(booleans.bits(X))]]

    return predict, of_clauses(state.c >= 0, state.w) + booleans.bytes


def fit_pytsetlin(
    X: NDArray[Any],
    y: NDArray[Any],
    *,
    clauses: int,
    s: float,
    T: int,
    epochs: int,
    levels: int,
    weighted: bool,
    seed: int,
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], int]:
    """pyTsetlinMachine: clauses of its own for each class, for and against; one thread.

    Only the order of its samples can be seeded, and half of its random numbers go on from fit to fit.
    """
    from pyTsetlinMachine.tm import MultiClassTsetlinMachine

    ctypes.CDLL(None).srand(seed + 1)
    booleans = Booleans.fit(X, levels)
    classes, codes = np.unique(y, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(codes))
    machine = MultiClassTsetlinMachine(clauses, T, float(s), weighted_clauses=weighted)
    machine.fit(booleans.bits(X)[order], codes[order], epochs=epochs)

    def predict(X: NDArray[Any]) -> NDArray[Any]:
        return classes[machine.predict(booleans.bits(X))]

    size = booleans.bytes
    for weights, states in machine.get_state():
        # The highest bit of a state says that the literal is included; 32 literals to a word.
        words = states.reshape(clauses, machine.number_of_ta_chunks, machine.number_of_state_bits)[:, :, -1]
        included = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
        included = included[:, : machine.number_of_features].astype(np.bool_)
        size += of_clauses(included, weights[:, None] if weighted else None)
    return predict, size


def green_candidates(task: Task) -> list[dict[str, Any]]:
    """Five settings for green-tsetlin."""

    def way(clauses: int, s: float, T: int, epochs: int, levels: int) -> dict[str, Any]:
        return {"clauses": clauses, "s": s, "T": T, "epochs": epochs, "levels": levels}

    if task.official:  # the second is that of the documentation, with 4 epochs for 10
        n = 1 if task.name == "mnist" else 3
        ways = [way(2000, 10.0, 500, 5, n), way(6000, 21.6, 1218, 4, 1), way(1000, 10.0, 500, 5, n)]
        return [*ways, way(2000, 5.0, 1000, 5, n), way(2000, 10.0, 500, 2, n) | {"copies": 2}]
    if task.images:
        ways = [way(1000, 10.0, 500, 50, 3), way(500, 5.0, 100, 50, 3), way(2000, 10.0, 500, 50, 3)]
        return [*ways, way(1000, 10.0, 500, 50, 1), way(1000, 10.0, 500, 20, 3) | {"copies": 2}]
    if task.name == "phonemes":
        sizes = ((2000, 10.0, 500), (500, 10.0, 2000), (2000, 5.0, 1000), (500, 5.0, 100), (1000, 10.0, 500))
        return [way(*size, 20, 1) for size in sizes]
    n = 20 if task.name == "adult" else 50
    ways = [way(1000, 10.0, 500, n, 10), way(500, 10.0, 2000, n, 25), way(500, 5.0, 500, n, 10)]
    return [*ways, way(200, 3.0, 50, n, 10), way(2000, 10.0, 1000, n, 25)]


def pytsetlin_candidates(task: Task) -> list[dict[str, Any]]:
    """Five settings for pyTsetlinMachine."""

    def way(clauses: int, T: int, s: float, epochs: int, levels: int, *, weighted: bool = False) -> dict[str, Any]:
        return {"clauses": clauses, "T": T, "s": s, "epochs": epochs, "levels": levels, "weighted": weighted}

    if task.official:  # the second is that of the documentation, with 3 epochs for 250
        n = 1 if task.name == "mnist" else 3
        ways = [way(500, 50, 10.0, 5, n), way(2000, 50, 10.0, 3, 1), way(500, 1250, 10.0, 5, n, weighted=True)]
        last = way(500, 1250, 10.0, 2, n, weighted=True) | {"copies": 2}
        return [*ways, way(500, 1250, 5.0, 5, n, weighted=True), last]
    if task.images:
        ways = [way(500, 50, 5.0, 50, 3), way(500, 500, 5.0, 50, 3, weighted=True), way(1000, 50, 10.0, 50, 3)]
        last = way(500, 500, 5.0, 20, 3, weighted=True) | {"copies": 2}
        return [*ways, way(500, 500, 10.0, 50, 3, weighted=True), last]
    if task.name == "phonemes":
        ways = [way(500, 500, 5.0, 20, 1, weighted=True), way(500, 500, 10.0, 20, 1, weighted=True)]
        return [way(500, 25, 5.0, 20, 1), *ways, way(200, 15, 3.9, 20, 1), way(300, 500, 10.0, 20, 1, weighted=True)]
    n = 10 if task.name == "adult" else 50
    ways = [way(800, 40, 5.0, n, 10), way(200, 15, 3.9, n, 10), way(800, 40, 5.0, n, 25)]
    return [*ways, way(800, 400, 10.0, n, 10, weighted=True), way(800, 400, 5.0, n, 25, weighted=True)]
