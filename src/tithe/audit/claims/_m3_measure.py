"""The measurement of M3: the same splits and first factors for every way to make the products, cost beside RMSE."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from tithe import data
from tithe.audit.claim import Run
from tithe.audit.claims._m3_als import (
    Prepared,
    Rated,
    Solver,
    conjugate,
    corrected,
    exact,
    fit,
    partial,
    predict,
    prepare,
)
from tithe.audit.claims.m3_recommender import CLAIMED
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Role, Row, Series, Table
from tithe.audit.statistics import interval

__all__ = ["measure"]

# Chosen on a tenth of the training part of one split, by exact products: the least RMSE there.
_FACTORS, _PENALTY, _SWEEPS = 32, 0.14, 10
_TEST = 0.2  # share of the ratings
_STEPS = {0.5: 6, 0.3: 3, 0.2: 1}  # of conjugate gradients, as many as the ratio pays for
_FEWER = {0.5: 22, 0.3: 17, 0.2: 13}  # factors
_RESERVE = 0.5  # seconds, for one more fit


@dataclass(frozen=True, slots=True)
class _Method:
    """A way to fit, at most as dear as its ratio."""

    name: str
    role: str
    solver: Callable[[float, torch.Generator], Solver]  # of the share left for the fit, and of random choices
    ratio: float = 1.0
    factors: int = _FACTORS
    turn: int = 0  # in quick mode: 0 for every split, 1 for the first alone and after those, 2 for none


@dataclass(frozen=True, slots=True)
class _Split:
    """One split of the ratings, prepared once for all methods."""

    seed: int
    prepared: Prepared
    ratings: int
    test: Rated


@dataclass(slots=True)
class _Scores:
    """What was found, split by split."""

    rmse: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    spent: float = 0.0


def measure(run: Run) -> Evidence:
    """As many splits as the mode asks for, fewer where the budget ends before."""
    rated, sizes = _load(run)
    sweeps = run.pick(quick=6, full=_SWEEPS)
    wanted = run.seeds(run.pick(quick=3, full=10))
    scores = {method.name: _Scores() for method in _methods()}
    notes = [
        "Products of a user's or a film's few ratings take microseconds, so tithe.matmul would take the plain ones; "
        "here their slices are chosen as by its estimators, many rows at once.",
        "The dense product of the prediction is exact and counted; the fit gets what it leaves of each ratio.",
    ]
    if run.mode == "quick":
        notes.append("Quick mode leaves a few methods out and takes others over one split, as the table shows.")
    splits = [_split(rated, sizes, seed) for seed in wanted]
    plan = [(method, split) for split in splits for method in _methods() if run.mode == "full" or method.turn == 0]
    if run.mode == "quick":
        plan += [(method, splits[0]) for method in _methods() if method.turn == 1]
    for index, (method, split) in enumerate(plan):
        if run.left() < _RESERVE and index >= len(plan) // len(splits):
            notes.append(f"For want of time {len(plan) - index} of {len(plan)} fits were left out.")
            break
        run.progress(index / len(plan), method.name)
        _score(run, method, scores[method.name], split, sweeps)
    rows = _rows(scores)
    return Evidence({"methods": _table(rows, sweeps)}, (_plot(rows),), {"sweeps": sweeps}, notes)


def _load(run: Run) -> tuple[Rated, tuple[int, int]]:
    loaded = data.load("movielens-100k")
    user, item, rating = (
        torch.from_numpy(column).to(run.device) for column in (loaded.user, loaded.item, loaded.rating)
    )
    return Rated(user, item, rating.float()), (int(user.max()) + 1, int(item.max()) + 1)


def _split(rated: Rated, sizes: tuple[int, int], seed: int) -> _Split:
    count = len(rated.rating)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(rated.rating.device)
    test, train = (
        Rated(*(column[part] for column in rated)) for part in torch.tensor_split(order, [int(_TEST * count)])
    )
    return _Split(seed, prepare(train, sizes), len(train.rating), test)


def _methods() -> Iterator[_Method]:
    yield _Method("exact", "exact", lambda share, _: exact(_PENALTY))
    for ratio in CLAIMED:
        at, steps, fewer, last = f"at {ratio:g}", _STEPS[ratio], _FEWER[ratio], ratio == min(CLAIMED)
        turn = 2 if ratio == max(CLAIMED) else 0
        yield _Method(f"conjugate gradients, {steps} a row", "structured", _conjugate(steps), ratio, turn=turn)
        yield _Method(f"truncated {at}", "product", lambda share, _: partial(_PENALTY, share), ratio)
        turn = 1 if last else 2
        yield _Method(f"sampled {at}", "product", lambda share, g: partial(_PENALTY, share, g), ratio, turn=turn)
        yield _Method(f"corrected {at}", "corrected", lambda share, g: corrected(_PENALTY, share, g), ratio, turn=turn)
        yield _Method(f"{fewer} factors", "baseline", lambda share, _: exact(_PENALTY), ratio, fewer, turn=1)


def _conjugate(steps: int) -> Callable[[float, torch.Generator], Solver]:
    return lambda share, _: conjugate(_PENALTY, steps)


def _score(run: Run, method: _Method, scores: _Scores, split: _Split, sweeps: int) -> None:
    whole, dense = _plain_work(split.ratings, split.prepared.sizes, sweeps)
    share = (method.ratio * (whole + dense) - dense) / whole
    solver = method.solver(share, run.generator(method.name, split.seed))
    start = time.perf_counter()
    model = fit(split.prepared, method.factors, sweeps, solver, run.generator("factors", split.seed))
    error = float((predict(model, split.test) - split.test.rating).square().mean().sqrt())
    scores.seconds.append(time.perf_counter() - start)
    scores.rmse.append(error)
    scores.spent = (model.spent + dense * method.factors / _FACTORS) / (whole + dense)


def _plain_work(ratings: int, sizes: tuple[int, int], sweeps: int) -> tuple[float, float]:
    """Multiply–adds of exact normal equations, and of the dense product of the prediction."""
    return 2.0 * sweeps * ratings * (_FACTORS**2 + _FACTORS), float(sizes[0] * sizes[1] * _FACTORS)


def _rows(scores: dict[str, _Scores]) -> list[Row]:
    plain = scores["exact"]
    rows: list[Row] = []
    for method in _methods():
        found = scores[method.name]
        if not found.rmse:
            continue
        worse = interval([a / b - 1 for a, b in zip(found.rmse, plain.rmse, strict=False)])
        times = interval([a / b for a, b in zip(found.seconds, plain.seconds, strict=False)])
        rows.append({
            "method": method.name, "role": method.role, "share": found.spent, "rmse": sum(found.rmse) / len(found.rmse),
            "worse": worse.mean, "low": worse.low, "high": worse.high, "time": times.mean, "time_low": times.low,
            "time_high": times.high, "splits": len(found.rmse),
        })  # fmt: skip
    return rows


def _table(rows: list[Row], sweeps: int) -> Table:
    columns = [
        Column("method", "products by"), Column("role", ""), Column("share", "multiply–adds", ".1%"),
        Column("time", "time", ".0%", "time_low", "time_high"), Column("rmse", "RMSE", ".4f"),
        Column("worse", "worse by", ".3%", "low", "high"), Column("splits", "splits"),
    ]  # fmt: skip
    caption = (
        f"MovieLens 100K, {_FACTORS} factors, {sweeps} sweeps, a fifth of the ratings held out: RMSE there and the "
        "cost of all products, beside exact ones; mean and 95% interval over splits."
    )
    return Table(caption, rows, columns)


def _plot(rows: list[Row]) -> Plot:
    def series(name: str, head: str, role: Role = "measured") -> Series:
        part = sorted((row for row in rows if row["role"] == head), key=lambda row: float(row["share"]))
        worse = [max(row["worse"], 1e-5) for row in part]
        return Series(name, [row["share"] for row in part], worse, role=role)

    drawn = [
        series("approximate products", "product"),
        series("with an exact residual", "corrected"),
        series("never formed", "structured"),
        series("fewer factors", "baseline", "baseline"),
        Series("the source", list(CLAIMED), list(CLAIMED.values()), role="claimed"),
    ]
    x, y = Axis("share of the multiply–adds", spec=".0%"), Axis("RMSE worse by", log=True, spec="g%")
    caption = "Mean over splits; 0.001% stands for that or less. Crosses are the source's figures."
    return Plot("What the saved products cost in RMSE", x, y, drawn, caption)
