"""Certified products against what one would otherwise write: ``python -m benchmarks.product [--device cuda]``.

A grid of sizes, inputs and tolerances. Each row is one interleaved comparison with ``A @ B``, certificate included, and
one with each of the quickest other methods that keep the tolerance, certificate included. Writes
benchmarks/results/product.json; fails if a certified product is above its tolerance.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import tithe
from tithe import machine
from tithe.files import write_atomically
from tithe.meter import paired

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "product"))
from families import FAMILIES, kernel, noisy_rank

RESULTS = Path(__file__).parent / "results" / "product.json"
INPUTS = {name: FAMILIES[name] for name in ("uniform", "normal", "relu", "huge column", "low rank", "shifted")} | {
    "rank 40 + 0.1 %": lambda n, g: noisy_rank(40, n, 1e-3, g),
    "kernel": lambda n, g: kernel(n, 0.1, g),
}
RIVALS = (
    "mean_field", "int8", "int7", "centred(int8)", "centred(sign)", "truncated(0.02)", "truncated(0.2)",
    "centred(truncated(0.15))", "centred(truncated(0.4))", "anchored(0.03)", "anchored(0.08)", "anchored(0.16)",
    "low_rank(0.1, 0)", "low_rank(0.2, 0)",
)  # fmt: skip
CLOSEST = 2  # rivals that are measured beside the planner's choice
LEAST = 5e-3  # s of the plain product, for a cell to count
TOLERANCES = (1e-3, 4.3e-3, 1e-2, 5e-2)


def measure(family: str, n: int, tol: float, device: str, repeats: int) -> dict[str, Any]:
    """One cell: the method chosen, its error and bound, and its time over the plain product's and the quickest's."""
    A, B = (X.to(device) for X in INPUTS[family](n, torch.Generator().manual_seed(1)))
    C, receipt = tithe.matmul(A, B, tol=tol)
    truth = A.double() @ B.double()
    error = float((C - truth).norm() / truth.norm())
    auto = functools.partial(tithe.matmul, A, B, tol=tol)
    found = paired(auto, lambda: A @ B, repeats, device=device)
    plain = _seconds(lambda: A @ B)
    regrets = {"exact": found.ratio}
    for name in _quickest(A, B, tol, plain):
        regrets[name] = paired(auto, functools.partial(auto, method=name), repeats, device=device).ratio
    quickest = max(regrets, key=regrets.__getitem__)
    assert receipt.bound is not None
    return {
        "input": family, "n": n, "tol": tol, "method": receipt.method, "error": error, "upper": receipt.bound.upper,
        "ratio": found.ratio, "low": found.low, "high": found.high, "load": found.load, "plain": plain,
        "quickest": quickest, "regret": regrets[quickest],
    }  # fmt: skip


def _quickest(A: Tensor, B: Tensor, tol: float, plain: float) -> list[str]:
    """The few quickest rivals that keep ``tol`` and are quicker than the plain product."""
    seconds = {}
    for name in RIVALS:
        if tithe.matmul(A, B, tol=tol, method=name)[1].method != "exact":
            seconds[name] = _seconds(functools.partial(tithe.matmul, A, B, tol=tol, method=name))
    return sorted((name for name in seconds if seconds[name] < plain), key=seconds.__getitem__)[:CLOSEST]


def _seconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


def summary(rows: list[dict[str, Any]]) -> str:
    """What the bar of the planner asks of the cells that take long enough."""
    cells = [row for row in rows if row["plain"] >= LEAST]
    won = sum(row["quickest"] != "exact" or row["method"] != "exact" for row in cells)
    near, worst = sum(row["regret"] <= 1.25 for row in cells), max((row["regret"] for row in cells), default=0.0)
    above = sum(row["error"] > row["tol"] for row in rows)
    return (
        f"{len(cells)} cells with a plain product of {LEAST * 1e3:g} ms or more, {won} won by another; {near} within "
        f"1.25 of the quickest method, the worst {worst:.2f}; {above} above tol"
    )


def main() -> int:
    """Run the grid, print it, write it; 1 if a tolerance was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--sizes", type=int, nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = arguments.sizes or ((512, 1024, 2048) if arguments.device == "cpu" else (2048, 4096, 8192))
    cells = [(family, n, tol) for n in sizes for family in INPUTS for tol in TOLERANCES]
    rows = [measure(*cell, arguments.device, arguments.repeats) for cell in track(cells, "products")]
    table = Table(
        "input", "n", "tol", "method", "error", "bound", "time / plain", "time / quickest", title="Certified products"
    )
    for row in rows:
        time = f"{row['ratio']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
        table.add_row(row["input"], str(row["n"]), f"{row['tol']:.2%}", row["method"], f"{row['error']:.2%}",
                      f"{row['upper']:.2%}", time, f"{row['regret']:.2f} {row['quickest']}")  # fmt: skip
    Console().print(table)
    Console().print(summary(rows))
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "rows": rows}, indent=1))
    return int(any(row["error"] > row["tol"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
