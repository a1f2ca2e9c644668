"""The measurement of M5: maps of 512 stars by every estimator, the horizon by what is anchored, and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tithe.audit.claim import Run
from tithe.audit.claims._m5_sky import NEIGHBOURS, blocks, horizon, kept, maps, neighbours, stars
from tithe.audit.claims.m5_stars import CERTIFIED, CLAIMED, DARK, DARK_ALONE, ISLANDS, MEANS, STARS, STARS_ALONE
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.meter import paired
from tithe.parallel import threads
from tithe.product import matmul
from tithe.product.estimators import STRATEGIES, Anchored, flops, from_name
from tithe.product.pair import Pair

__all__ = ["measure"]

_COUNT = 512
_QUICK = 5  # maps
_KNOWN, _COLUMNS = 64, 48  # anchor rows and columns at the horizon: as many rows as there are stars
_RESERVE = 1.5  # seconds for the horizon and the timing
_DRAWN = 1e-8  # errors below are drawn as that


def measure(run: Run) -> Evidence:
    """Maps first, then the horizon, then seconds."""
    with threads(1):  # matrices this small gain little from a second one, and lose much to a busy neighbour
        return _measure(run)


def _measure(run: Run) -> Evidence:
    notes = [
        "The source does not say which matrix of the stars is multiplied, so several are, each with its transpose: "
        "cosines of the angles between stars, and Gaussian kernels of those angles or of distances in space.",
        f"Constellations are intact where the {NEIGHBOURS} nearest neighbours of stars are those of the exact product.",
        "At the horizon, in float64, the brightest stars come first; dark objects lie anywhere and interact at random, "
        "or by a kernel of 60°. Among random interactions, between 0 and 1, the Sun's own is set to what makes the "
        "mean part err by about 83.6% on the stars: the other figures follow.",
    ]
    rows: list[Row] = []
    drawn = list(maps(stars(_COUNT)))[: run.pick(quick=_QUICK, full=None)]
    for index, (name, matrix) in enumerate(drawn):
        if run.left() < _RESERVE:
            notes.append(f"Left out for want of time: {', '.join(name for name, _ in drawn[index:])}.")
            break
        run.progress(0.7 * index / len(drawn), name)
        rows += _products(run, name, matrix.float().to(run.device))
    run.progress(0.7, "the horizon")
    dark = list(_horizon(run))
    run.progress(0.9, "seconds")
    times = list(_times(run, drawn[0][1].float().to(run.device)))
    tables = {"maps": _maps_table(rows), "horizon": _horizon_table(dark), "times": _times_table(times)}
    return Evidence(tables, (_plot(rows),), {}, notes)


def _estimators(ratio: float) -> Iterator[str]:
    yield from (f"anchored({ratio:g}, {strategy})" for strategy in STRATEGIES)
    yield f"low_rank({ratio:g}, 0)"
    yield from (f"{family}({ratio:g})" for family in ("fourier", "truncated", "sampled"))
    yield f"centred(truncated({ratio - 0.01:g}))"  # means cost something too


def _products(run: Run, name: str, left: Tensor) -> Iterator[Row]:
    right = left.T.contiguous()
    n, pair, exact = len(left), Pair(left, right), left.double() @ right.double()
    near, norms = neighbours(exact), (exact.norm(), exact[1:, 1:].norm())

    def row(ratio: float, role: str, C: Tensor) -> dict[str, Any]:
        wrong = C.double() - exact
        error, among = float(wrong.norm() / norms[0]), float(wrong[1:, 1:].norm() / norms[1])
        return {"map": name, "ratio": ratio, "role": role, "error": error, "among": among,
                "kept": kept(neighbours(C), near)}  # fmt: skip

    for ratio in CLAIMED:
        for method in _estimators(ratio):
            estimator = from_name(method)
            C = estimator.multiply(pair, generator=run.generator(name, method)).tensor(left.dtype)
            share = flops(estimator.work(n, n, n, left.dtype)) / (2.0 * n**3)
            yield row(ratio, "estimator", C) | {"method": estimator.name, "share": share, "upper": None}
        C, receipt = matmul(left, right, ratio=ratio, generator=run.generator(name, ratio))
        bound = receipt.bound
        upper = bound.upper if bound is not None and math.isfinite(bound.upper) else None
        yield row(ratio, CERTIFIED, C) | {"method": receipt.method, "share": receipt.ratio("flops"), "upper": upper}


def _horizon(run: Run) -> Iterator[Row]:
    """Errors of all blocks by what is known: means, or rows and columns of dark objects, of stars or of both."""
    n = STARS + DARK
    ratio = Anchored.of(_COLUMNS, n, n, n, torch.float64).ratio
    draw = torch.Generator().manual_seed(run.seed)
    for kind, left, right in horizon(stars(STARS), DARK, draw):
        A, B = left.to(run.device), right.to(run.device)
        exact = A @ B
        for label, method in (
            (MEANS, "mean_field"),
            (DARK_ALONE, f"anchored({ratio:g}, exterior)"),
            (STARS_ALONE, f"anchored({ratio:g}, exterior)"),
            ("golden", f"anchored({ratio:g})"),
            (ISLANDS, f"anchored({ratio:g}, islands)"),
        ):
            estimator = from_name(method)
            turned = label == STARS_ALONE  # the exterior is the last lines: then the stars
            pair = Pair(A.flip(0), B.flip(1)) if turned else Pair(A, B)
            C = estimator.multiply(pair, generator=run.generator(kind, label)).tensor(A.dtype)
            share = flops(estimator.work(n, n, n, A.dtype)) / (2.0 * n**3)
            yield {"dark": kind, "known": label, "method": estimator.name, "share": share,
                   **blocks(C.flip(0, 1) if turned else C, exact, STARS)}  # fmt: skip


def _times(run: Run, left: Tensor) -> Iterator[Row]:
    """Seconds beside the plain product, with and without a certificate."""
    right = left.T.contiguous()
    draw = run.generator("times")
    ways: dict[str, Callable[[], Any]] = {
        f"tithe.matmul(ratio={ratio:g})": partial(matmul, left, right, ratio=ratio, generator=draw) for ratio in CLAIMED
    }
    for ratio in CLAIMED:
        method = f"anchored({ratio:g}, random)"
        ways[method] = partial(_alone, left, right, method, draw)
    for label, way in ways.items():
        timing = paired(way, partial(torch.matmul, left, right), run.pick(quick=7, full=21), warmup=1,
                        device=run.device)  # fmt: skip
        yield {"method": label, "n": len(left), "time": timing.ratio, "time_low": timing.low, "time_high": timing.high}


def _alone(left: Tensor, right: Tensor, method: str, draw: torch.Generator) -> Tensor:
    return from_name(method).multiply(Pair(left, right), generator=draw).tensor(left.dtype)


def _maps_table(rows: list[Row]) -> Table:
    columns = [
        Column("map", "map"), Column("ratio", "ratio", ".0%"), Column("role", ""), Column("method", "by"),
        Column("share", "multiply–adds", ".2g%"), Column("error", "relative error", ".2g%"),
        Column("among", "without the Sun", ".2g%"), Column("kept", "neighbours kept", ".1%"),
        Column("upper", "bound", ".2g%"),
    ]  # fmt: skip
    caption = f"Maps of the Sun and {_COUNT - 1} stars times their transposes, float32, beside float64."
    return Table(caption, rows, columns)


def _horizon_table(rows: list[Row]) -> Table:
    columns = [
        Column("dark", "dark objects interact"), Column("known", "known"), Column("method", "by"),
        Column("share", "multiply–adds", ".2g%"), Column("dark_dark", "dark–dark", ".2g%"),
        Column("star_dark", "star–dark", ".2g%"), Column("star_star", "star–star", ".3g%"),
        Column("no_sun", "without the Sun", ".2g%"),
    ]  # fmt: skip
    caption = (
        f"The horizon: errors of the blocks of {STARS} stars and {DARK:,} dark objects, {_KNOWN} exact rows and "
        f"{_COLUMNS} exact columns taken from some of them."
    )
    return Table(caption, rows, columns)


def _times_table(rows: list[Row]) -> Table:
    columns = [
        Column("method", "by"), Column("n", "n", ","), Column("time", "time", ".2g%", "time_low", "time_high"),
    ]  # fmt: skip
    return Table("Seconds beside the plain product of the cosines, in the same run.", rows, columns)


def _plot(rows: list[Row]) -> Plot:
    series = [
        Series(name, [max(row["error"], _DRAWN) for row in part], [row["kept"] for row in part])
        for name in dict.fromkeys(row["map"] for row in rows)
        if (part := [row for row in rows if row["map"] == name])
    ]
    series.append(Series("the source", list(CLAIMED.values()), [1.0] * len(CLAIMED), role="claimed"))
    caption = (
        "All methods at both ratios: an error tells little about constellations. Crosses are the source's figures."
    )
    x = Axis("relative error", log=True, spec="g%")
    return Plot("Constellations against error", x, Axis("neighbours kept", spec=".0%"), series, caption)
