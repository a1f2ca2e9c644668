"""The measurement of M1: errors by input and by what was asked for, then seconds beside the plain product."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tithe.audit.claim import Run
from tithe.audit.claims._m1_inputs import Maker, inputs
from tithe.audit.claims.m1_products import ACCURATE, SHARE, within
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Role, Row, Series, Table
from tithe.meter import paired
from tithe.parallel import threads
from tithe.product import matmul
from tithe.product.estimators import from_name
from tithe.product.pair import Pair

__all__ = ["measure"]

_ASKED: dict[str, dict[str, Any]] = {
    "ratio=0.1": {"ratio": 0.1},
    f"ratio={SHARE:g}": {"ratio": SHARE},
    f"tol={ACCURATE:g}": {"tol": ACCURATE},
}
_PEERS = ("tf32", "bfloat16")  # what one would write for units that have them
_DRAWN = 1e-6  # errors below are drawn as that


def measure(run: Run) -> Evidence:
    """Errors of every input first, then the seconds of what is accurate, as far as the budget goes."""
    with threads(1) if run.device == "cpu" else nullcontext():  # a second one loses much to a busy neighbour
        return _measure(run)


def _measure(run: Run) -> Evidence:
    makers, notes = inputs(run)
    large = 8192 if run.device == "cuda" else 1024
    sizes = run.pick(quick=(1024,), full=tuple(sorted({2048, large})))
    cells = [(name, n) for n in sizes for name in makers]
    rows: list[dict[str, Any]] = []
    limits: list[Row] = []
    for index, (name, n) in enumerate(cells):
        run.progress(0.4 * index / len(cells), f"errors, {name}, n = {n:,}")
        found, limit = _errors(run, makers[name], name, n, best=n == sizes[0])
        rows += found
        limits += limit
    notes += _time(run, makers, rows)
    if run.device == "cpu":
        notes.append("Seconds on one thread; the plain product is float32 A @ B.")
    tables = {"products": _products_table(rows), "limits": _limits_table(limits)}
    return Evidence(tables, (_plot(rows, "share"), _plot(rows, "time")), {}, notes)


def _operands(run: Run, maker: Maker, name: str, n: int) -> tuple[Tensor, Tensor]:
    return maker(n, run.generator("operands", name, n))


def _ways(run: Run, A: Tensor, B: Tensor, name: str) -> dict[str, Callable[[], Any]]:
    """Each way to make the product: what was asked of ``tithe.matmul``, and on CUDA the plain ways in fewer bits."""
    generator = run.generator("choices", name)
    ways: dict[str, Callable[[], Any]] = {
        asked: partial(matmul, A, B, generator=generator, **given) for asked, given in _ASKED.items()
    }
    if run.device == "cuda":
        ways |= {kind: partial(_reduced, A, B, kind) for kind in _PEERS}
    return ways


def _reduced(A: Tensor, B: Tensor, kind: str) -> Tensor:
    return from_name(kind).multiply(Pair(A, B)).tensor(A.dtype)


def _errors(run: Run, maker: Maker, name: str, n: int, *, best: bool) -> tuple[list[dict[str, Any]], list[Row]]:
    """One row for each way; where none is accurate, also what the best matrix of the rank that fits would miss."""
    A, B = _operands(run, maker, name, n)
    exact = A.double() @ B.double()
    norm = exact.norm()
    rows: list[dict[str, Any]] = []
    for asked, way in _ways(run, A, B, name).items():
        row = {"input": name, "n": n, "asked": asked, "time": None, "time_low": None, "time_high": None}
        if asked in _ASKED:
            C, receipt = way()
            bound = receipt.bound.upper
            row |= {"role": "tithe", "method": receipt.method, "share": receipt.ratio("flops"),
                    "upper": bound if math.isfinite(bound) else None}  # fmt: skip
        else:
            C = way()
            row |= {"role": "peer", "method": asked, "share": 1.0, "upper": None}
        rows.append(row | {"error": float((C - exact).norm() / norm)})
    if not best or any(within(row, "share") for row in rows):
        return rows, []
    rank = int(SHARE * n)
    squares = torch.linalg.svdvals(exact.float()).double().square()
    missed = math.sqrt(float(squares[rank:].sum() / squares.sum()))
    return rows, [{"input": name, "n": n, "rank": rank, "error": missed}]


def _time(run: Run, makers: dict[str, Maker], rows: list[dict[str, Any]]) -> Iterator[str]:
    """Write the seconds of accurate products into their rows, tolerances first; yields what was left out."""
    worth = [row for row in rows if row["error"] <= ACCURATE]
    if run.mode == "quick":
        worth = [row for row in worth if row["asked"] != "ratio=0.1" and row["method"] != "exact"]
        worth.sort(key=lambda row: not row["asked"].startswith("tol"))
    yield "Seconds are those of products that err by 1% or less" + (
        "; in quick mode not at a ratio of 0.1, nor of plain products." if run.mode == "quick" else "."
    )
    slowest = 0.0
    for index, row in enumerate(worth):
        before = run.left()
        if before < slowest:
            yield f"Not timed for want of time: {len(worth) - index} of {len(worth)} products."
            return
        run.progress(0.4 + 0.6 * index / len(worth), f"seconds, {row['input']}, {row['asked']}")
        A, B = _operands(run, makers[row["input"]], row["input"], row["n"])
        way = _ways(run, A, B, row["input"])[row["asked"]]
        repeats, warmup = run.pick(quick=(6, 0), full=(15, 2))
        timing = paired(way, partial(torch.matmul, A, B), repeats, warmup=warmup, device=run.device)
        row |= {"time": timing.ratio, "time_low": timing.low, "time_high": timing.high}
        slowest = max(slowest, before - run.left()) if math.isfinite(before) else 0.0


def _products_table(rows: list[dict[str, Any]]) -> Table:
    columns = [
        Column("input", "input"), Column("n", "n", ","), Column("asked", "asked for"), Column("method", "taken"),
        Column("error", "relative error", ".2g%"), Column("upper", "bound", ".2g%"),
        Column("share", "operations, with the bound", ".3g%"), Column("time", "time", ".2g%", "time_low", "time_high"),
    ]  # fmt: skip
    caption = (
        "Products of every kind of input by tithe.matmul: error against float64, the bound on its receipt, and what it "
        "took beside the plain product in the same run."
    )
    return Table(caption, rows, columns)


def _limits_table(rows: list[Row]) -> Table:
    columns = [
        Column("input", "input"), Column("n", "n", ","), Column("rank", "rank", ","), Column("error", "error", ".2g%"),
    ]  # fmt: skip
    caption = "Where nothing within a fifth is accurate: what even the best matrix of rank 0.2n misses."
    return Table(caption, rows, columns)


def _plot(rows: list[dict[str, Any]], cost: str) -> Plot:
    n = max(row["n"] for row in rows)
    shown = [row for row in rows if row["n"] == n and row[cost] is not None and row["method"] != "exact"]
    ours, peers = ([row for row in shown if row["role"] == role] for role in ("tithe", "peer"))
    series = [_series(name, [row for row in ours if row["input"] == name], cost) for name in _each(ours, "input")]
    series += [
        _series(kind, [row for row in peers if row["method"] == kind], cost, "baseline")
        for kind in _each(peers, "method")
    ]
    series.append(Series("the source", [0.1, SHARE], [ACCURATE] * 2, role="claimed"))
    words = {"share": "share of the multiply–adds", "time": "share of the seconds"}[cost]
    caption = f"Each input at n = {n:,}, asked for by two ratios and a tolerance. Crosses mark 1% at 10 and 20%."
    return Plot(
        f"Error against the {words}", Axis(words, log=True, spec="g%"), Axis("relative error", log=True, spec="g%"),
        series, caption,
    )  # fmt: skip


def _series(name: str, rows: list[dict[str, Any]], cost: str, role: Role = "measured") -> Series:
    rows = sorted(rows, key=lambda row: float(row[cost]))
    return Series(name, [row[cost] for row in rows], [max(row["error"], _DRAWN) for row in rows], role=role)


def _each(rows: list[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
