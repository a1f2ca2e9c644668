"""Bars of the certified products: the certificate's coverage and tightness, tolerances kept, and time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from scipy import stats

import tithe
from benchmarks import anchors, product
from benchmarks.bars.bar import Reading, bar
from tithe import machine
from tithe.meter import paired
from tithe.parallel import threads
from tithe.product.certificate import norm_bounds

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "product"))
from families import ERRORS, FAMILIES, noisy_rank

_TRIALS = 1500
_PAIRS = 21


@bar("coverage")
def coverage() -> Iterator[Reading]:
    """Violations of the certificate by shape of the error and confidence, and how far above the truth it lies."""
    worst = 0.0
    for shape, make in ERRORS.items():
        g = torch.Generator().manual_seed(2026)
        E = make(96, g)
        norm, missed, ratios = float(E.norm()), [], []
        for confidence in (0.9, 0.99, 0.999):
            uppers = [norm_bounds(E @ torch.randn(96, 16, generator=g), 1 - confidence)[1] for _ in range(_TRIALS)]
            allowed = stats.binom.ppf(0.999, _TRIALS, 1 - confidence)
            missed.append((sum(upper < norm for upper in uppers), int(allowed)))
            ratios.append(statistics.median(uppers) / norm)
        worst = max(worst, *ratios)
        figure = ", ".join(str(m) for m, _ in missed) + f" of {_TRIALS}"
        target = "≤ " + ", ".join(str(a) for _, a in missed)
        yield Reading(f"violations, {shape}, at .9, .99, .999", figure, target, all(m <= a for m, a in missed))
    yield Reading("largest median bound/true, 16 probes", f"{worst:.2f}", "≤ 2.1", worst <= 2.1)


@bar("tolerance")
def tolerance() -> Iterator[Reading]:
    """No product above its tolerance, chosen by the planner or forced, over families of operands."""
    above, products, used = 0, 0, set()
    for make in FAMILIES.values():
        for seed in range(3):
            g = torch.Generator().manual_seed(seed)
            A, B = make(640, g)
            truth = A.double() @ B.double()
            plain = float((A @ B - truth).norm() / truth.norm())
            for tol in (0.3, 3e-2, 3e-3, 3e-4):
                for method in (
                    "auto",
                    "mean_field",
                    "centred(int8)",
                    "centred(sign)",
                    "truncated(0.25)",
                    "centred(truncated(0.5))",
                    "anchored(0.3)",
                    "low_rank(0.3)",
                    "fourier(0.3)",
                ):
                    C, receipt = tithe.matmul(A, B, tol=tol, method=method, generator=g)
                    error = float((C - truth).norm() / truth.norm())
                    above += error > tol + (plain if receipt.method == "exact" else 0)
                    products += 1
                    used.add(receipt.method)
    what = f"{len(FAMILIES)} families × 4 tolerances × 3 seeds, methods used: {', '.join(sorted(used))}"
    yield Reading(what, f"{above} of {products} above tol", "0", above == 0)


@bar("speed")
def speed() -> Iterator[Reading]:
    """Certificate included, as a share of the fp32 product's time, one thread."""
    vnni = bool(machine.describe()["int8_units"])
    cells = [
        ("uniform", 1024, 1e-2, 0.35, True), ("uniform", 2048, 1e-2, 0.15, True),
        ("uniform", 1024, 4.3e-3, 0.65, True), ("uniform", 2048, 4.3e-3, 0.48, True),
        ("normal", 2048, 2e-2, 0.45, True), ("normal", 2048, 1e-4, 1.10, False),
    ]  # fmt: skip
    for family, n, tol, most, needs_vnni in cells:
        A, B = FAMILIES[family](n, torch.Generator().manual_seed(1))
        with threads(1):
            _, receipt = tithe.matmul(A, B, tol=tol)
            found = paired(lambda A=A, B=B, tol=tol: tithe.matmul(A, B, tol=tol), lambda A=A, B=B: A @ B, _PAIRS)
        figure = f"{found.ratio:.1%} [{found.low:.1%}, {found.high:.1%}] by {receipt.method}"
        target = f"≤ {most:.0%}" + (" with VNNI" if needs_vnni else "")
        holds = None if needs_vnni and not vnni and found.ratio > most else found.ratio <= most
        yield Reading(f"{family}, n={n}, tol {tol:.2%}", figure, target, holds)


@bar("low-rank")
def low_rank() -> Iterator[Reading]:
    """A product of rank 40 with 0.1 % of noise, by the planner, certificate included."""
    n, tol = 2048, 1e-2
    A, B = noisy_rank(40, n, 1e-3, torch.Generator().manual_seed(1))
    with threads(1):
        C, receipt = tithe.matmul(A, B, tol=tol)
        found = paired(lambda: tithe.matmul(A, B, tol=tol), lambda: A @ B, _PAIRS)
    truth = A.double() @ B.double()
    error = float((C - truth).norm() / truth.norm())
    figure = f"{found.ratio:.1%} [{found.low:.1%}, {found.high:.1%}] by {receipt.method}, error {error:.2%}"
    holds = found.ratio <= 0.2 and error <= tol
    yield Reading(f"rank 40 and 0.1 % noise, n={n}, tol {tol:.0%}", figure, "≤ 20 % of fp32", holds)


@bar("grid")
def grid() -> Iterator[Reading]:
    """The planner's choice against the quickest of nineteen named methods that keep the tolerance, one thread."""
    with threads(1):
        found = product.summary(list(product.grid(product.SHAPES["cpu"], "cpu", repeats=7)))
    near = found.near / max(found.cells, 1)
    cells = f"{found.cells}, {found.won} won by a shortcut"
    enough = found.cells >= 60 and 3 * found.won >= found.cells
    yield Reading("cells whose plain product takes 5 ms or more", cells, "≥ 60, a third won", enough)
    yield Reading("within 1.25 of the quickest method", f"{found.near}, {near:.1%}", "≥ 95 %", near >= 0.95)
    yield Reading("the farthest from the quickest method", f"{found.worst:.2f}", "≤ 1.5", found.worst <= 1.5)
    yield Reading("products above tol", f"{found.above}", "0", found.above == 0)


@bar("kernels")
def kernels() -> Iterator[Reading]:
    """The smallest ratio with which anchors keep the error of Gaussian kernels within 0.01 %."""
    for where in ("line", "stars"):
        for bandwidth in anchors.BANDWIDTHS:
            ratio, strategy, error = anchors.smallest(where, bandwidth)
            most = 0.05 if bandwidth >= 0.1 else anchors.RATIOS[-1]  # of narrow kernels any ratio is as good
            whole = f", {anchors.certified(ratio, strategy):.1%} with a certificate" if ratio < 1 else ""
            figure = f"{ratio:.1%} ({strategy}), error {error:.4%}{whole}"
            target = f"≤ {most:.0%}, error ≤ {anchors.MOST:.2%}"
            what = f"{where}, bandwidth {bandwidth:g} of the range, n={anchors.N}"
            yield Reading(what, figure, target, ratio <= most and error <= anchors.MOST)


@bar("overhead")
def overhead() -> Iterator[Reading]:
    """What ``tithe.matmul`` adds to products that take less than a millisecond."""
    worst = 0.0
    for n in (8, 64, 128, 256, 320):
        A, B = FAMILIES["uniform"](n, torch.Generator().manual_seed(1))
        with threads(1):
            worst = max(worst, _added(lambda A=A, B=B: tithe.matmul(A, B, tol=0.01), lambda A=A, B=B: A @ B))
    yield Reading("n = 8…320, one thread, the largest", f"{worst * 1e6:.1f} µs", "≤ 30 µs", worst <= 30e-6)


_METHODS = ("mean_field", "centred(int8)", "centred(sign)", "truncated(0.25)", "centred(truncated(0.5))")


def _added(ours: Callable[[], object], plain: Callable[[], object], repeats: int = 3000) -> float:
    """Median over interleaved pairs of the seconds that one call takes longer than the other."""
    differences = []
    for _ in range(repeats):
        start = time.perf_counter()
        ours()
        between = time.perf_counter()
        plain()
        differences.append(between - start - (time.perf_counter() - between))
    return statistics.median(differences)
