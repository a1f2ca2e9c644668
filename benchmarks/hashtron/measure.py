"""One cell of the comparison, a rival at a task: settings are chosen on validation data, then the test part is read.

Of each training part a fifth is held out once; every candidate learns from the rest and is scored there. The best one,
the first among equals, learns from the whole training part, and the test part is read once. Where the test part is
official, the choice is made once and the runs differ by seed; else every run draws, chooses and tests anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score
from threadpoolctl import threadpool_limits

import tithe
from benchmarks.hashtron.copies import enlarged
from benchmarks.hashtron.rivals import Fitted, Rival, Settings
from benchmarks.hashtron.tasks import VALIDATION_SHARE, Samples, Task

PROTOCOL = 1  # raise it where a change of these modules makes older figures void
# What a quick run makes smaller: rows of each part, runs, and settings.
_QUICK_ROWS, _QUICK_RUNS = 1_000, 1
_QUICK = {
    "n_estimators": 20, "max_iter": 5, "clauses": 100, "epochs": 2, "max_leaf_nodes": 8, "preset": "tiny", "copies": 1,
}  # fmt: skip
_SCORED = 10_000  # training samples that are scored
_TIMED, _TIMES, _SHORT = 2_000, 3, 2.0  # samples to predict at least, how often, unless it takes seconds

Cell = dict[str, Any]


def key(task: Task, rival: Rival, *, quick: bool) -> dict[str, Any]:
    """What a finished cell depends on; it is measured anew where this differs."""
    return {
        "protocol": PROTOCOL, "task": task.name, "rival": rival.name, "version": rival.version, "quick": quick,
        "candidates": rival.candidates(task), "source": _fingerprint() if rival.package == "tithe" else "",
    }  # fmt: skip


def _fingerprint() -> str:
    """Of the modules of ``tithe.hashtron``."""
    digest = hashlib.sha256()
    for path in sorted((Path(tithe.__file__).parent / "hashtron").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def runs(task: Task, rival: Rival, *, seeds: int | None, quick: bool) -> int:
    """How many runs are wanted."""
    usual = 1 if task.official and rival.once else task.runs
    return min(usual, seeds or usual, _QUICK_RUNS if quick else usual)


def fits(task: Task, rival: Rival, wanted: int) -> int:
    """How many fits so many runs take."""
    candidates = len(rival.candidates(task))
    return wanted + (candidates * (1 if task.official else wanted) if candidates > 1 else 0)


def _done(cell: Cell) -> int:
    return len(cell["choices"]) + len(cell["tests"])


def measure(
    cell: Cell,
    task: Task,
    rival: Rival,
    *,
    wanted: int,
    quick: bool,
    threads: int,
    save: Callable[[Cell], None],
    tell: Callable[[str, int], None],
) -> None:
    """Add to a cell what it lacks, saving it after each fit.

    Args:
        cell: ``choices`` and ``tests``, lists of what was found so far.
        task: what is learned.
        rival: by whom.
        wanted: runs.
        quick: whether to learn from some samples only, with small settings.
        threads: that a fit may use.
        save: is given the cell after each fit.
        tell: is given what is going on, and how many fits are done.
    """
    samples, candidates = task.load(), rival.candidates(task)
    with threadpool_limits(threads):
        _warm_up(rival, task, samples, threads)
        for run in range(wanted):
            train, test = task.split(samples, run)
            if quick:
                train, test = (_some(part, _QUICK_ROWS, run) for part in (train, test))
            choice = 0 if task.official else run
            if len(candidates) > 1:
                _choose(cell, task, rival, train, choice, quick, threads, save, tell)
            if any(found["run"] == run for found in cell["tests"]):
                continue
            settings = chosen(cell, choice, candidates)
            tell(f"run {run + 1} of {wanted}: {described(settings)}", _done(cell))
            model, seconds = _fit(task, rival, train, settings, run, quick, threads)
            seen = _some(train, _SCORED, run)
            cell["tests"].append({
                "run": run, "settings": settings, "score": score(task, test.y, model.predict(test.X)),
                "train": score(task, seen.y, model.predict(seen.X)), "prior": task.prior(train, test),
                "bytes": model.bytes, "seconds": seconds, "speed": _speed(model, test.X), "rows": len(train),
            })  # fmt: skip
            save(cell)


def _choose(
    cell: Cell, task: Task, rival: Rival, train: Samples, choice: int, quick: bool, threads: int,
    save: Callable[[Cell], None], tell: Callable[[str, int], None],
) -> None:  # fmt: skip
    """Score every candidate on the held-out part that was not yet."""
    rest, held = task.part(train, VALIDATION_SHARE, choice)
    rest = _some(rest, task.choice_rows, choice)
    for number, settings in enumerate(rival.candidates(task), start=1):
        if any((found["run"], found["settings"]) == (choice, settings) for found in cell["choices"]):
            continue
        tell(f"choice {choice + 1}, candidate {number}: {described(settings)}", _done(cell))
        model, seconds = _fit(task, rival, rest, settings, choice, quick, threads)
        found = score(task, held.y, model.predict(held.X))
        cell["choices"].append(
            {"run": choice, "settings": settings, "score": found, "bytes": model.bytes, "seconds": seconds}
        )
        save(cell)


def chosen(cell: Cell, choice: int, candidates: list[Settings]) -> Settings:
    """The candidate with the best validation score, the first among equals."""
    if len(candidates) == 1:
        return candidates[0]
    scores = {described(found["settings"]): found["score"] for found in cell["choices"] if found["run"] == choice}
    return max(candidates, key=lambda settings: scores[described(settings)])


def described(settings: Settings) -> str:
    """Settings in words.

    >>> described({"C": 0.1, "copies": 2}), described({})
    ('C=0.1, copies=2', 'defaults')
    """
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items()) or "defaults"


def score(task: Task, y: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Accuracy, or R² for quantities."""
    return float(r2_score(y, predicted) if task.quantity else accuracy_score(y, predicted))


def _fit(
    task: Task, rival: Rival, train: Samples, settings: Settings, seed: int, quick: bool, threads: int
) -> tuple[Fitted, float]:
    """A model and the seconds that it took, deformed copies included."""
    settings = dict(settings)
    if quick:
        settings |= {name: small for name, small in _QUICK.items() if name in settings}
    start = time.perf_counter()
    if copies := settings.pop("copies", 0):
        train = enlarged(train, copies, str(task.warps), seed)
    model = rival.fit(task, train, settings, seed, threads)
    return model, time.perf_counter() - start


def _warm_up(rival: Rival, task: Task, samples: Samples, threads: int) -> None:
    """A first small fit compiles what is compiled at first use, so that no figure counts it."""
    if rival.package == "tithe":
        few = _some(samples, 300, 0)
        rival.fit(task, few, {"epochs": 1}, 0, threads).predict(few.X)


def _some(samples: Samples, most: int, seed: int) -> Samples:
    if len(samples) <= most:
        return samples
    return samples.take(np.random.default_rng(seed).permutation(len(samples))[:most])


def _speed(model: Fitted, X: NDArray[Any]) -> float:
    """Predictions a second, the best of three calls."""
    X = np.concatenate([X] * -(-_TIMED // len(X)))
    taken = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        model.predict(X)
        taken.append(time.perf_counter() - start)
        if taken[-1] > _SHORT:
            break
    return len(X) / min(taken)
