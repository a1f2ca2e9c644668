"""The measurement of M8: a family of kernels, every anchor strategy, and the best that any matrix of the rank could."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from tithe.audit.claim import Run
from tithe.audit.claims._m8_kernel import POINTS, SINGULAR, best_of_rank, block_error, inside, kernel, radii, root
from tithe.audit.claims.m8_page_curve import CURVE, MOST, STRATEGY_ERRORS
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.meter import paired
from tithe.parallel import threads
from tithe.product.estimators import STRATEGIES, Anchored, flops
from tithe.product.pair import Pair

__all__ = ["measure"]

_LEAST = 1e-16  # stands for less, so that errors have a logarithm
_SHAPE = (POINTS, POINTS, POINTS, torch.float64)
_BEST, _BEST_BLOCK, _INSIDE = "best rank", "best rank of the block", "inside"
_ROLES = dict.fromkeys(STRATEGIES, "anchored") | {_INSIDE: "control", _BEST: "bound", _BEST_BLOCK: "bound"}


class _Kernel(NamedTuple):
    """One that fits the source's description, which says no more than this much."""

    along: str
    shape: str
    bandwidth: float

    @property
    def name(self) -> str:
        return f"{self.shape} in {self.along}, {self.bandwidth:g} wide"


def measure(run: Run) -> Evidence:
    """On the CPU and by one thread: matrices this small keep no more of them busy."""
    with threads(1), threadpool_limits(1, user_api="blas"):
        return _measure(replace(run, device="cpu"))


def _measure(run: Run) -> Evidence:
    """As many seeds as the mode asks for, fewer where the budget ends before."""
    bandwidths = run.pick(quick=(0.1, 0.5), full=(0.02, 0.1, 0.5))
    shapes = ("exponential", "Gaussian")
    family = [_Kernel(*one) for one in itertools.product(("radius", "proper length"), shapes, bandwidths)]
    wanted = run.seeds(run.pick(quick=5, full=20))
    notes = [
        f"The source gives no formula. Here half of {POINTS} points lie within the horizon, moved a little by each "
        f"seed; the singular block are those within {SINGULAR:g} of its radius, the unit of length. The kernel is "
        "the product of its own square root with itself and weighs points by √|1 − 1/r|.",
        "Anchors are counted as columns; there are a third more anchor rows, at least 8. Islands are chosen from all "
        "points, by looking at the product.",
    ]
    errors: dict[tuple[str, int, str], list[float]] = {}
    sizes: list[int] = []
    slowest = 0.0
    for index, seed in enumerate(wanted):
        if index >= 3 and run.left() < 1.5 * slowest + 0.5:
            notes.append(f"{index} of {len(wanted)} seeds, for want of time.")
            break
        before = run.left()
        run.progress(0.9 * index / len(wanted), f"seed {index + 1} of {len(wanted)}")
        r = radii(run.generator("radii", seed))
        sizes.append(int((r < SINGULAR).sum()))
        for one in family:
            K = kernel(r, *one)
            for anchors, strategy, error in _errors(run, K, sizes[-1], seed):
                errors.setdefault((one.name, anchors, strategy), []).append(max(error, _LEAST))
        slowest = max(slowest, before - run.left()) if math.isfinite(before) else 0.0
    run.progress(0.9, "times")
    rows = list(_rows(errors))
    times = _times(run, kernel(r, *family[0]))
    facts = {"block share": sum(size**2 for size in sizes) / len(sizes) / POINTS**2, "seeds": len(sizes)}
    tables = {"strategies": _strategies_table(rows), "times": _times_table(times), "errors": _errors_table(rows)}
    drawn = [one.name for one in family if (one.along, one.bandwidth) == ("radius", bandwidths[-1])]
    return Evidence(tables, tuple(_plot(rows, name) for name in drawn), facts, notes)


def _errors(run: Run, K: Tensor, size: int, seed: int) -> Iterator[tuple[int, str, float]]:
    """Of one kernel's singular block, by number of anchors and strategy."""
    spectrum = torch.linalg.eigh(K)
    S = root(*spectrum)
    C = S @ S
    block = torch.linalg.svdvals(C[:size, :size])
    for anchors in CURVE:
        for strategy in STRATEGIES if anchors == MOST or run.mode == "full" else ("golden", "islands"):
            draw = run.generator(strategy, anchors, seed)
            yield anchors, strategy, block_error(_multiplied(_anchored(strategy, anchors), S, draw), C, size)
        if anchors < size:
            through = inside(C, size, anchors, run.generator(_INSIDE, anchors, seed))
            yield anchors, _INSIDE, block_error(through, C, size)
        best = best_of_rank(spectrum.eigenvalues, spectrum.eigenvectors, anchors)
        yield anchors, _BEST, block_error(best, C, size)
        yield anchors, _BEST_BLOCK, float(torch.linalg.vector_norm(block[anchors:]) / torch.linalg.vector_norm(block))


@cache
def _anchored(strategy: str, columns: int) -> Anchored:
    """The one with that many anchor columns: those that cost more than golden ones, by the number of their rows."""
    golden = Anchored.of(columns, *_SHAPE)
    blank = Pair(*(torch.zeros(POINTS, POINTS, dtype=torch.float64) for _ in range(2)))
    rows = _anchor_rows(golden, blank)
    low, high = golden.ratio, 1.0
    found = Anchored(low, strategy)
    while _anchor_rows(found, blank) != rows:
        middle = (low + high) / 2
        found = Anchored(middle, strategy)
        low, high = (middle, high) if _anchor_rows(found, blank) < rows else (low, middle)
    return found


def _anchor_rows(estimator: Anchored, pair: Pair) -> int:
    factors = estimator.multiply(pair).factors
    assert factors is not None
    assert factors.index is not None
    return len(factors.index)


def _rows(errors: dict[tuple[str, int, str], list[float]]) -> Iterator[Row]:
    """Geometric means over seeds: errors of one strategy lie orders of magnitude apart."""
    for (name, anchors, strategy), values in errors.items():
        logs = interval([math.log(error) for error in values])
        ends = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
        share = _share(strategy, anchors) if strategy in STRATEGIES else None
        yield {"kernel": name, "anchors": anchors, "lines": anchors / POINTS, "strategy": strategy,
               "role": _ROLES[strategy], "share": share, "error": math.exp(logs.mean),
               **dict(zip(("low", "high"), ends, strict=True)), "seeds": len(values)}  # fmt: skip


def _share(strategy: str, anchors: int) -> float:
    return flops(_anchored(strategy, anchors).work(*_SHAPE)) / (2.0 * POINTS**3)


def _times(run: Run, K: Tensor) -> list[Row]:
    S = root(*torch.linalg.eigh(K))
    rows: list[Row] = []
    for strategy, anchors in itertools.product(("golden", "islands"), sorted(CURVE)[1:]):
        made = partial(_multiplied, _anchored(strategy, anchors), S)
        timing = paired(made, lambda: S @ S, repeats=run.pick(quick=9, full=41), warmup=2)
        rows.append({"strategy": strategy, "anchors": anchors, "share": _share(strategy, anchors),
                     "time": timing.ratio, "time_low": timing.low, "time_high": timing.high})  # fmt: skip
    return rows


def _multiplied(estimator: Anchored, S: Tensor, draw: torch.Generator | None = None) -> Tensor:
    return estimator.multiply(Pair(S, S), generator=draw).tensor(S.dtype)


def _strategies_table(rows: list[Row]) -> Table:
    """The source's table, a row for each kernel."""
    names = (*STRATEGY_ERRORS, "golden", _BEST)
    found = [
        {"kernel": name}
        | {row["strategy"]: row["error"] for row in rows if (row["kernel"], row["anchors"]) == (name, MOST)}
        for name in dict.fromkeys(row["kernel"] for row in rows)
    ]
    source = {"kernel": "the source", "golden": None, _BEST: None, **STRATEGY_ERRORS}
    columns = [Column("kernel", "kernel"), *(Column(name, name, ".3g%") for name in names)]
    caption = f"Error of the singular block by anchor strategy at {MOST} anchors, geometric mean over seeds."
    return Table(caption, [*found, source], columns)


def _times_table(rows: list[Row]) -> Table:
    columns = [
        Column("strategy", "anchors by"), Column("anchors", "anchors"), Column("share", "multiply–adds", ".2g%"),
        Column("time", "time", ".2g%", "time_low", "time_high"),
    ]  # fmt: skip
    caption = f"Cost beside the plain product of {POINTS} × {POINTS} float64 matrices, in the same run."
    return Table(caption, rows, columns)


def _errors_table(rows: list[Row]) -> Table:
    columns = [
        Column("kernel", "kernel"), Column("anchors", "anchors"), Column("lines", "of all points", ".1%"),
        Column("strategy", "by"), Column("role", ""), Column("share", "multiply–adds", ".2g%"),
        Column("error", "error of the block", ".3g%", "low", "high"), Column("seeds", "seeds"),
    ]  # fmt: skip
    caption = f"Relative error of the singular block: geometric mean and 95% interval over seeds; {_LEAST:g} for less."
    return Table(caption, rows, columns)


def _plot(rows: list[Row], name: str) -> Plot:
    def series(strategy: str) -> Series:
        part = [row for row in rows if row["kernel"] == name and row["strategy"] == strategy]
        return Series(
            strategy, [row["lines"] for row in part], [row["error"] for row in part],
            [row["low"] for row in part], [row["high"] for row in part],
            role="measured" if strategy in STRATEGIES else "theory" if strategy == _BEST else "baseline",
        )  # fmt: skip

    curve = Series("the source", [count / POINTS for count in CURVE], list(CURVE.values()), role="claimed")
    x, y = Axis("share of the points", log=True, spec=".2g%"), Axis("error of the block", log=True, spec="g%")
    caption = f"Kernel: {name}. Random lines inside the block need to know where it is; best rank needs the product."
    return Plot("The block's error by anchors", x, y, [*map(series, ("exterior", "ring", "random", "golden", "islands",
                _INSIDE, _BEST)), curve], caption)  # fmt: skip
