"""The measurement of M2: errors by input, method and size; sampling against its closed form; certified products."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tithe.audit.claim import Run
from tithe.audit.claims._m2_tables import (
    FIXED,
    INPUTS,
    MIXED,
    SAMPLED,
    against_share,
    against_size,
    certified_table,
    errors_table,
    sampling_table,
    sizes_table,
)
from tithe.audit.claims.m2_random_products import BEST_RANK, CLAIMED
from tithe.audit.evidence import Evidence, Row
from tithe.audit.statistics import interval, power_law
from tithe.meter import paired
from tithe.product import matmul
from tithe.product.estimators import flops, from_name
from tithe.product.pair import Pair
from tithe.receipt import Receipt

__all__ = ["measure"]

_CHEAP = ("mean_field", "truncated(0.2)", MIXED, SAMPLED)
_LARGE, _BLOCK = 8192, (256, 1024)
_DEAR = ("sampled(0.3)", "sampled(0.5)", "centred(truncated(0.3))", "centred(truncated(0.5))")


def measure(run: Run) -> Evidence:
    """Errors first, then the certified products, as far as the budget goes."""
    sizes = run.pick(quick=(64, 128, 256, 512, 1024, 2048, 8192), full=(64, 128, 256, 512, 1024, 2048, 4096, 8192))
    errors: list[Row] = []
    for index, n in enumerate(sizes):
        run.progress(0.6 * index / len(sizes), f"errors at n = {n:,}")
        for name in INPUTS:
            errors.extend(_errors(run, name, n))
    certified, notes = _certified(run)
    if run.mode == "quick":
        notes.append(
            f"At n = {_LARGE:,} a block of {_BLOCK[0]:,} × {_BLOCK[1]:,} entries stands for the product in quick mode; "
            "only methods that treat all rows and columns alike are measured there."
        )
    mean_part = [
        (row["n"], row["error"]) for row in errors if row["method"] == "mean_field" and row["input"] == INPUTS[0]
    ]
    apart = max(abs(error * 3 * math.sqrt(n) - 1) for n, error in mean_part)
    fit = power_law(*zip(*mean_part, strict=True))
    source = power_law(*zip(*((n, e) for n, e in CLAIMED.items() if n <= 1024), strict=True))
    return Evidence(
        tables={
            "sizes": sizes_table(errors),
            "drineas": sampling_table(errors),
            "certified": certified_table(certified),
            "errors": errors_table(errors),
        },
        plots=(against_size(errors), against_share(errors)),
        facts={
            "mean part apart": apart,
            "mean part exponent": fit.exponent,
            "source exponent": source.exponent,
            "n at 0.43%": (0.0043 / fit.factor) ** (1 / fit.exponent),
            "n at 1%": (0.01 / fit.factor) ** (1 / fit.exponent),
        },
        notes=notes,
    )


def operands(run: Run, name: str, n: int, seed: int, block: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Two square float32 matrices of one of the inputs; for a block of the product, its rows and columns alone."""
    generator = run.generator("operands", name, n, seed)
    draw = torch.rand if name == INPUTS[0] else torch.randn
    rows, columns = block or (n, n)
    left, right = (draw(*shape, generator=generator, device=run.device) for shape in ((rows, n), (n, columns)))
    return left, right


def _errors(run: Run, name: str, n: int) -> Iterator[Row]:
    repeats = run.pick(quick=5 if n <= 512 else 3 if n <= 1024 else 2, full=5 if n <= 2048 else 3)
    block = run.mode == "quick" and n == _LARGE
    found: dict[str, list[tuple[float, float | None]]] = {}
    for seed in run.seeds(repeats):
        A, B = operands(run, name, n, seed, _BLOCK if block else None)
        exact = A.double() @ B.double()
        norm = float(exact.norm())
        for method in ("mean_field", SAMPLED) if block else (*_CHEAP, *(_DEAR if n <= FIXED else ())):
            estimator = from_name(method)
            C = estimator.multiply(Pair(A, B), generator=run.generator(method, n, seed)).tensor(A.dtype)
            share = flops(estimator.work(n, n, n, A.dtype)) / (2.0 * n**3)
            found.setdefault(method, []).append((float((C - exact).norm()) / norm, share))
        if n <= run.pick(quick=1024, full=2048):
            found.setdefault(BEST_RANK, []).append((_best_rank(exact, n // 5), None))
    for method, values in found.items():
        mean, low, high = interval([error for error, _ in values])
        yield {
            "input": name, "method": method, "n": n, "share": values[0][1], "error": mean, "low": low, "high": high,
            "closed form": _closed_form(name, method, n), "seeds": len(values),
        }  # fmt: skip


def _best_rank(product: Tensor, rank: int) -> float:
    squares = torch.linalg.svdvals(product).square()
    return math.sqrt(float(squares[rank:].sum() / squares.sum()))


def _closed_form(name: str, method: str, n: int) -> float | None:
    uniform = name == INPUTS[0]
    if method == "mean_field":
        return 1 / (3 * math.sqrt(n)) if uniform else 1.0
    if method.startswith("sampled"):
        kept = float(method[8:-1])
        return math.sqrt(7 / (9 * kept * n)) if uniform else math.sqrt(1 / kept)
    return None


def _certified(run: Run) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    notes: list[str] = []
    plan = [
        (n, name, tol)
        for n in run.pick(quick=(1024, 2048), full=(1024, 2048, 4096, 8192))
        for name in INPUTS
        for tol in (0.02, 0.01, 0.001)
    ]
    slowest = 0.0
    for index, (n, name, tol) in enumerate(plan):
        if run.left() < 1.5 * slowest + 2:
            skipped = "; ".join(f"n = {n:,}, {name}, tol {tol:g}" for n, name, tol in plan[index:])
            notes.append(f"Left out for want of time: certified products at {skipped}.")
            break
        run.progress(0.6 + 0.4 * index / len(plan), f"certified at n = {n:,}, {name}, tol {tol:g}")
        before = run.left()
        rows.append(_certify_one(run, n, name, tol))
        slowest = max(slowest, before - run.left()) if math.isfinite(before) else 0.0
    return rows, notes


def _certify_one(run: Run, n: int, name: str, tol: float) -> Row:
    A, B = operands(run, name, n, run.seeds(1)[0])
    generator = run.generator("certified", n, name, tol)

    def approximate() -> tuple[Tensor, Receipt]:
        return matmul(A, B, tol=tol, generator=generator)

    C, receipt = approximate()
    exact = A.double() @ B.double()
    error = float((C - exact).norm() / exact.norm())
    timing = paired(approximate, lambda: A @ B, repeats=run.pick(quick=7, full=21), warmup=1, device=run.device)
    bound = receipt.bound
    return {
        "input": name, "n": n, "tol": tol, "method": receipt.method, "error": error,
        "upper": None if bound is None else bound.upper, "share": receipt.ratio("flops"),
        "time": timing.ratio, "time_low": timing.low, "time_high": timing.high,
        "load": None if timing.load is None else timing.load[1],
    }  # fmt: skip
