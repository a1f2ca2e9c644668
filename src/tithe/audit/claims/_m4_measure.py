"""The measurement of M4: train with exact products, then classify the test set with every method, seed by seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tithe import data
from tithe.audit.claim import Run
from tithe.audit.claims._m4_network import Network, Split, by_estimator, forward, low_rank, plain, quantised, train
from tithe.audit.claims.m4_mnist_mlp import LOST, LOW_RANK, RATIO
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError, InvalidValueError
from tithe.meter import Comparison, paired
from tithe.product import matmul
from tithe.receipt import Receipt

__all__ = ["load", "measure"]

# label, role, and how to multiply: an estimator's name (no certificate), or arguments of tithe.matmul (with one)
_METHODS: tuple[tuple[str, str, str | dict[str, Any]], ...] = (
    ("tithe.matmul(ratio=0.3)", "tithe", {"ratio": RATIO}),
    ("tithe.matmul(tol=0.1)", "tithe", {"tol": 0.1}),
    ("tithe.matmul(tol=0.01)", "tithe", {"tol": 0.01}),
    ("truncated(0.3)", "tithe", f"truncated({RATIO})"),
    ("centred(truncated(0.28))", "tithe", "centred(truncated(0.28))"),
    ("int8", "tithe", "int8"),
    ("bfloat16", "tithe", "bfloat16"),
    ("sampled(0.3)", "baseline", f"sampled({RATIO})"),
)
_TORCH_INT8 = "torch's dynamic int8"
_RESERVE = 12.0  # seconds of the budget kept for the timing
_SLOW = 1.0  # seconds; a method that takes longer to classify the test set does so for two seeds only
_TIMED = 2000  # test images in the batch that is timed


def measure(run: Run) -> Evidence:
    """As many seeds as the mode asks for, fewer where the budget ends before."""
    split, notes = load(run)
    epochs = run.pick(quick=1, full=3) if split.name == "MNIST" else 20
    wanted = run.seeds(run.pick(quick=5, full=10))
    results: dict[str, _Scores] = {"exact": _Scores("exact"), LOW_RANK: _Scores("baseline")}
    results |= {label: _Scores(role) for label, role, _ in _METHODS} | {_TORCH_INT8: _Scores("baseline")}
    networks: list[Network] = []
    slowest = 0.0
    for index, seed in enumerate(wanted):
        if index >= 3 and run.left() < _RESERVE + 1.2 * slowest:
            notes.append(f"{index} of {len(wanted)} seeds, for want of time.")
            break
        start = time.monotonic()
        run.progress(0.8 * index / len(wanted), f"trains, seed {index + 1} of {len(wanted)}")
        networks.append(train(split, seed, epochs))
        run.progress(0.8 * (index + 0.5) / len(wanted), f"classifies, seed {index + 1} of {len(wanted)}")
        for label, scores in results.items():
            _score(_classifier(run, split, networks[-1], label, seed), split, scores, index)
        slowest = max(slowest, time.monotonic() - start)
    refused = {label: scores.refusal for label, scores in results.items() if scores.refusal}
    notes += [f"{label} was left out: {why}" for label, why in refused.items()]
    measured = {label: scores for label, scores in results.items() if scores.accuracy}
    if few := [label for label, scores in measured.items() if len(scores.accuracy) < len(networks)]:
        notes.append(f"Over two seeds only, being slow on this machine: {', '.join(few)}.")
    _time(run, split, networks[0], measured, notes)
    rows = _rows(measured)
    return Evidence(
        {"methods": _table(rows, split)}, [_plot(rows)], {"data": split.name, "seeds": len(networks)}, notes
    )


@dataclass(slots=True)
class _Scores:
    """What was found of one method, seed by seed."""

    role: str
    accuracy: list[float] = field(default_factory=list)
    share: float | None = None
    seconds: float = 0.0
    timing: Comparison | None = None
    refusal: str = ""


def load(run: Run) -> tuple[Split, list[str]]:
    """MNIST, or scikit-learn's digits where it cannot be had, and a note that says so."""
    notes = []
    try:
        name, loaded = "MNIST", data.load("mnist")
    except DataUnavailableError as error:
        name, loaded = "digits", data.load("digits")
        why = str(error).partition(". ")[0]
        notes.append(f"Measured on scikit-learn's digits, 8×8 pixels, 64 → 512 → 256 → 10, for want of MNIST: {why}.")
    highest = float(loaded.train_x.max())
    images = (
        torch.from_numpy(x).flatten(1).to(run.device, torch.float32) / highest for x in (loaded.train_x, loaded.test_x)
    )
    labels = (torch.from_numpy(y).to(run.device, torch.int64) for y in (loaded.train_y, loaded.test_y))
    (train_x, test_x), (train_y, test_y) = images, labels
    return Split(name, train_x, train_y, test_x, test_y), notes


Classifier = Callable[[Tensor], tuple[Tensor, float | None]]  # logits, and the share of the operations


def _classifier(run: Run, split: Split, network: Network, label: str, seed: int) -> Classifier | None:
    if label == "exact":
        return lambda x: (plain(network, x), 1.0)
    if label == LOW_RANK:
        factored, share = low_rank(network, split, RATIO)
        return lambda x: (factored(x), share)
    if label == _TORCH_INT8:
        classify = quantised(network)
        return None if classify is None else lambda x: (classify(x), None)
    given = next(how for name, _, how in _METHODS if name == label)
    generator = run.generator(label, seed)

    def multiply(x: Tensor, w: Tensor) -> tuple[Tensor, Receipt]:
        return (
            by_estimator(given, x, w, generator)
            if isinstance(given, str)
            else matmul(x, w, generator=generator, **given)
        )

    def approximate(x: Tensor) -> tuple[Tensor, float | None]:
        logits, receipt = forward(network, x, multiply)
        return logits, receipt.ratio("flops")

    return approximate


def _score(classify: Classifier | None, split: Split, scores: _Scores, index: int) -> None:
    if scores.refusal or (index >= 2 and scores.seconds > _SLOW):
        return
    if classify is None:
        scores.refusal = "torch cannot do it here"
        return
    start = time.monotonic()
    try:
        logits, scores.share = classify(split.test_x)
    except InvalidValueError as refusal:  # no units for it on this machine
        scores.refusal = str(refusal)
        return
    scores.seconds = time.monotonic() - start
    scores.accuracy.append(float((logits.argmax(1) == split.test_y).double().mean()))


def _time(run: Run, split: Split, network: Network, measured: dict[str, _Scores], notes: list[str]) -> None:
    batch = split.test_x[:_TIMED]
    labels = [label for label in measured if label != "exact"]
    for index, label in enumerate(labels):
        if run.left() < 20 * measured[label].seconds * len(batch) / len(split.test_x):
            notes.append(f"Not timed for want of time: {label}.")
            continue
        run.progress(0.8 + 0.2 * index / len(labels), f"times {label}")
        classify = _classifier(run, split, network, label, -1)
        assert classify is not None
        measured[label].timing = paired(
            partial(classify, batch),
            partial(plain, network, batch),
            repeats=run.pick(quick=7, full=21),
            warmup=1,
            device=run.device,
        )


def _rows(measured: dict[str, _Scores]) -> list[Row]:
    exact = measured["exact"].accuracy
    rows: list[Row] = []
    for label, scores in measured.items():
        count, timing = len(scores.accuracy), scores.timing
        lost = interval([100 * (e - a) for e, a in zip(exact[:count], scores.accuracy, strict=True)])
        rows.append({
            "method": label, "role": scores.role, "share": scores.share, "seeds": count,
            "time": None if timing is None else timing.ratio, "time_low": None if timing is None else timing.low,
            "time_high": None if timing is None else timing.high, "accuracy": sum(scores.accuracy) / count,
            "lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high,
        })  # fmt: skip
    return rows


def _table(rows: list[Row], split: Split) -> Table:
    columns = [
        Column("method", "products by"), Column("role", ""), Column("share", "operations", ".1%"),
        Column("time", "time", ".0%", "time_low", "time_high"), Column("accuracy", "accuracy", ".2%"),
        Column("lost", "points lost", ".2f", "lost_low", "lost_high"), Column("seeds", "seeds"),
    ]  # fmt: skip
    caption = (
        f"{split.name}, {len(split.test_y):,} test images: accuracy and cost beside the exact product, over seeds."
    )
    return Table(caption, rows, columns)


def _plot(rows: list[Row]) -> Plot:
    series = [
        Series(
            row["method"],
            [row["share"]],
            [max(row["lost"], 0.01)],
            role="baseline" if row["role"] == "baseline" else "measured",
        )
        for row in rows
        if row["share"] is not None and row["role"] != "exact"
    ]
    series.append(Series("the source", [RATIO], [LOST], role="claimed"))
    caption = "Points lost against the exact product, mean over seeds; 0.01 stands for that or less."
    return Plot(
        "Accuracy lost against cost",
        Axis("share of the operations", spec=".0%"),
        Axis("points lost", log=True),
        series,
        caption,
    )
