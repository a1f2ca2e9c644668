"""The measurement of M4: train with exact products, then classify the test set with every method, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tithe import data
from tithe.audit.claim import Run
from tithe.audit.claims._m4_network import Layers, Multiply, Split, forward, plain, quantised, train
from tithe.audit.claims.m4_mnist_mlp import LOST, RATIO
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError, InvalidValueError
from tithe.meter import paired
from tithe.product import matmul

__all__ = ["measure"]

# label, role, arguments of tithe.matmul
_METHODS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("auto at ratio 0.3", "tithe", {"ratio": RATIO}),
    ("truncated at 0.3", "tithe", {"method": f"truncated({RATIO})"}),
    ("centred + truncated at 0.28", "tithe", {"method": "centred(truncated(0.28))"}),
    ("auto at tol 0.1", "tithe", {"tol": 0.1}),
    ("auto at tol 0.01", "tithe", {"tol": 0.01}),
    ("int8", "tithe", {"method": "int8"}),
    ("bfloat16", "tithe", {"method": "bfloat16"}),
    ("sampled at 0.3", "baseline", {"method": f"sampled({RATIO})"}),
)
_TORCH_INT8 = "torch's dynamic int8"


def measure(run: Run) -> Evidence:
    """As many seeds as the mode asks for, fewer where the budget ends before."""
    split, notes = _load(run)
    epochs = run.pick(quick=1, full=3) if split.name == "MNIST" else 20
    wanted = run.seeds(run.pick(quick=5, full=10))
    accuracy: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    first: Layers | None = None
    slowest = 0.0
    for index, seed in enumerate(wanted):
        if run.left() < 0.4 * min(70.0, slowest * len(wanted)) + slowest and index >= 2:
            notes.append(f"{index} of {len(wanted)} seeds, for want of time.")
            break
        before = run.left()
        run.progress(0.8 * index / len(wanted), f"trains, seed {index + 1} of {len(wanted)}")
        layers = train(split, seed, epochs)
        first = first or layers
        run.progress(0.8 * (index + 0.7) / len(wanted), f"classifies, seed {index + 1} of {len(wanted)}")
        accuracy.setdefault("exact", []).append(_accuracy(plain(layers, split.test_x), split.test_y))
        for label, _, arguments in _METHODS:
            _classify(run, split, layers, label, seed, arguments, accuracy, shares, notes if index == 0 else [])
        if (classify := quantised(layers)) is not None:
            accuracy.setdefault(_TORCH_INT8, []).append(_accuracy(classify(split.test_x), split.test_y))
        slowest = max(slowest, before - run.left()) if math.isfinite(before) else 0.0
    assert first is not None
    if _TORCH_INT8 not in accuracy:
        notes.append("torch's dynamic int8 quantisation is not available here.")
    rows = _rows(accuracy, shares, _times(run, split, first, list(accuracy), notes))
    return Evidence(
        {"methods": _table(rows, split)}, [_plot(rows)], {"data": split.name, "seeds": rows[0]["seeds"]}, notes
    )


def _load(run: Run) -> tuple[Split, list[str]]:
    notes = []
    try:
        name, loaded = "MNIST", data.load("mnist")
    except DataUnavailableError as error:
        name, loaded = "digits", data.load("digits")
        notes.append(f"Measured on scikit-learn's digits (8×8 pixels, 64 → 512 → 256 → 10): {error}")
    highest = float(loaded.train_x.max())
    images = (
        torch.from_numpy(x).flatten(1).to(run.device, torch.float32) / highest for x in (loaded.train_x, loaded.test_x)
    )
    labels = (torch.from_numpy(y).to(run.device, torch.int64) for y in (loaded.train_y, loaded.test_y))
    (train_x, test_x), (train_y, test_y) = images, labels
    return Split(name, train_x, train_y, test_x, test_y), notes


def _multiply(run: Run, label: str, seed: int, arguments: dict[str, Any]) -> Multiply:
    generator = run.generator(label, seed)
    return lambda x, w: matmul(x, w, generator=generator, **arguments)


def _classify(
    run: Run,
    split: Split,
    layers: Layers,
    label: str,
    seed: int,
    arguments: dict[str, Any],
    accuracy: dict[str, list[float]],
    shares: dict[str, list[float]],
    notes: list[str],
) -> None:
    try:
        logits, receipt = forward(layers, split.test_x, _multiply(run, label, seed, arguments))
    except InvalidValueError as refusal:  # no units for it on this machine
        notes.append(f"{label} was refused: {refusal}")
        return
    accuracy.setdefault(label, []).append(_accuracy(logits, split.test_y))
    if (share := receipt.ratio("flops")) is not None:
        shares.setdefault(label, []).append(share)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _times(run: Run, split: Split, layers: Layers, labels: list[str], notes: list[str]) -> dict[str, Any]:
    found = {}
    for index, label in enumerate(labels[1:]):
        if run.left() < 1:
            notes.append(f"Not timed for want of time: {', '.join(labels[1 + index :])}.")
            break
        run.progress(0.8 + 0.2 * index / len(labels), f"times {label}")
        call = _timed_call(run, split, layers, label)
        repeats = run.pick(quick=7, full=21)
        found[label] = paired(call, lambda: plain(layers, split.test_x), repeats=repeats, warmup=1, device=run.device)
    return found


def _timed_call(run: Run, split: Split, layers: Layers, label: str) -> Callable[[], object]:
    if label == _TORCH_INT8:
        classify = quantised(layers)
        assert classify is not None
        return lambda: classify(split.test_x)
    arguments = next(given for name, _, given in _METHODS if name == label)
    multiply = _multiply(run, label, -1, arguments)
    return lambda: forward(layers, split.test_x, multiply)


def _rows(accuracy: dict[str, list[float]], shares: dict[str, list[float]], times: dict[str, Any]) -> list[Row]:
    roles = {"exact": "exact", _TORCH_INT8: "baseline"} | {label: role for label, role, _ in _METHODS}
    rows: list[Row] = []
    for label, values in accuracy.items():
        lost = interval([100 * (e - v) for e, v in zip(accuracy["exact"], values, strict=True)])
        share = shares.get(label)
        timing = times.get(label)
        exact = label == "exact"
        rows.append({
            "method": label, "role": roles[label], "share": 1.0 if exact else share and sum(share) / len(share),
            "time": 1.0 if exact else timing and timing.ratio, "time_low": timing and timing.low,
            "time_high": timing and timing.high, "accuracy": sum(values) / len(values), "lost": lost.mean,
            "lost_low": lost.low, "lost_high": lost.high, "seeds": len(values),
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
