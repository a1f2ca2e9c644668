"""Certified products against what one would otherwise write: ``python -m benchmarks.product [--device cuda]``.

A grid of shapes, inputs and tolerances. Each row is one interleaved comparison with ``A @ B``, and one with each of the
quickest other methods that keep the tolerance, certificates included. On one thread of a CPU the latter counts the time
that the thread was at work: other processes take none of it. Writes benchmarks/results/product.json; fails if a
certified product is above its tolerance. A run that was cut off goes on where it ended.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from tithe.meter import Comparison, paired

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "product"))
from families import FAMILIES, kernel, noisy_rank

RESULTS = Path(__file__).parent / "results" / "product.json"
INPUTS = {name: FAMILIES[name] for name in ("uniform", "normal", "relu", "huge column", "low rank", "shifted")} | {
    "rank 40 + 0.1 %": lambda n, g: noisy_rank(40, n, 1e-3, g),
    "kernel": lambda n, g: kernel(n, 0.1, g),
}
RIVALS = (
    "mean_field", "int8", "int7", "int6", "centred(int8)", "centred(int6)", "centred(sign)", "truncated(0.02)",
    "truncated(0.2)", "centred(truncated(0.15))", "centred(truncated(0.4))", "anchored(0.03)", "anchored(0.08)",
    "anchored(0.16)", "interpolated(0.03)", "interpolated(0.06)", "interpolated(0.12)", "low_rank(0.1, 0)",
    "low_rank(0.2, 0)",
)  # fmt: skip
SHAPES = {
    "cpu": ((1024, 1024, 1024), (512, 4096, 512), (2048, 2048, 2048)),
    "cuda": ((2048, 2048, 2048), (4096, 4096, 4096), (8192, 8192, 8192)),
}
CLOSEST = 2  # rivals that are measured beside the planner's choice
LEAST = 5e-3  # s of the plain product, for a cell to count
TOLERANCES = (1e-3, 4.3e-3, 1e-2, 5e-2)


@dataclass(frozen=True)
class Summary:
    """What the bar of the planner asks of the cells that take long enough, and of all of them that ``tol`` is kept."""

    cells: int
    won: int  # by another method than the plain product
    near: int  # within 1.25 of the quickest method
    worst: float
    above: int  # products above their tolerance

    def __str__(self) -> str:
        return (
            f"{self.cells} cells with a plain product of {LEAST * 1e3:g} ms or more, {self.won} won by another; "
            f"{self.near} within 1.25 of the quickest method, the worst {self.worst:.2f}; {self.above} above tol"
        )


def summary(rows: list[dict[str, Any]]) -> Summary:
    """Of the rows that ``measure`` has made."""
    cells = [row for row in rows if row["plain"] >= LEAST]
    return Summary(
        len(cells),
        sum(row["quickest"] != "exact" or row["method"] != "exact" for row in cells),
        sum(row["regret"] <= 1.25 for row in cells),
        max((row["regret"] for row in cells), default=0.0),
        sum(row["error"] > row["tol"] for row in rows),
    )


def grid(shapes: Sequence[tuple[int, int, int]], device: str, repeats: int) -> Iterator[dict[str, Any]]:
    """Every cell of these shapes, one after the other; those that the same sources have measured here are kept."""
    key, rows = _key(device, repeats), list[dict[str, Any]]()
    kept = _kept(key)
    for shape in shapes:
        for family in INPUTS:
            cells = [(family, *shape, tol) for tol in TOLERANCES]
            if not kept.keys() >= set(cells):
                A, B = operands(family, shape, device)
                truth, rivals = A.double() @ B.double(), _rivals(A, B, device)
            for cell in cells:
                new = {"input": family, "shape": shape, "tol": cell[-1]}
                rows.append(kept.get(cell) or new | measure(A, B, truth, rivals, cell[-1], device, repeats))
                write_atomically(RESULTS, json.dumps({"key": key, "rows": rows}, indent=1))
                yield rows[-1]


def _key(device: str, repeats: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    for path in sorted(Path(tithe.__file__).parent.glob("product/**/*.py")):
        digest.update(path.read_bytes())
    return {"machine": machine.describe(gpu=device == "cuda"), "repeats": repeats, "sources": digest.hexdigest()}


def _kept(key: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    stored = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    rows = stored["rows"] if stored.get("key") == key else []
    return {(row["input"], *row["shape"], row["tol"]): row for row in rows}


def operands(family: str, shape: tuple[int, int, int], device: str) -> tuple[Tensor, Tensor]:
    """The first rows and columns of two square operands; the contraction axis has to be the longest."""
    m, k, n = shape
    A, B = INPUTS[family](k, torch.Generator().manual_seed(1))
    return A[:m].contiguous().to(device), B[:, :n].contiguous().to(device)


def _rivals(A: Tensor, B: Tensor, device: str) -> list[tuple[float, str, float]]:
    """Seconds, name and estimated error of each rival, the quickest first."""
    found = []
    for name in RIVALS:
        bound = tithe.matmul(A, B, method=name)[1].bound
        assert bound is not None
        found.append((_seconds(lambda name=name: tithe.matmul(A, B, method=name), device), name, bound.estimate))
    return sorted(found)


def measure(
    A: Tensor,
    B: Tensor,
    truth: Tensor,
    rivals: list[tuple[float, str, float]],
    tol: float,
    device: str,
    repeats: int,
) -> dict[str, Any]:
    """One cell: the method chosen, its error and bound, and its time over the plain product's and the quickest's."""
    C, receipt = tithe.matmul(A, B, tol=tol)
    error = float((C - truth).norm() / truth.norm())
    auto = functools.partial(tithe.matmul, A, B, tol=tol)
    found = paired(auto, lambda: A @ B, repeats, device=device)
    plain = _seconds(lambda: A @ B, device)
    regrets = {"exact": _ratio(found)}
    for name in itertools.islice(_keeping(A, B, tol, [r for r in rivals if r[0] < plain]), CLOSEST):
        regrets[name] = _ratio(paired(auto, functools.partial(auto, method=name), repeats, device=device))
    quickest = max(regrets, key=regrets.__getitem__)
    assert receipt.bound is not None
    return {
        "method": receipt.method, "error": error, "upper": receipt.bound.upper, "ratio": found.ratio,
        "low": found.low, "high": found.high, "load": found.load, "plain": plain, "quickest": quickest,
        "regret": regrets[quickest],
    }  # fmt: skip


def _ratio(found: Comparison) -> float:
    if found.device == "cpu" and torch.get_num_threads() == 1 and found.cpu_ratio is not None:
        return found.cpu_ratio
    return found.ratio


def _keeping(A: Tensor, B: Tensor, tol: float, rivals: list[tuple[float, str, float]]) -> Iterator[str]:
    """Those rivals whose certificate keeps ``tol``."""
    for _, name, error in rivals:
        if error <= tol and tithe.matmul(A, B, tol=tol, method=name)[1].method != "exact":
            yield name


def _seconds(run: Callable[[], object], device: str) -> float:
    clock = time.thread_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    taken = []
    for _ in range(2):
        start = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(clock() - start)
    return min(taken)


def main() -> int:
    """Run the grid, print it, write it; 1 if a tolerance was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--sizes", type=int, nargs="*", help="of square products, in place of the shapes of the bar")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shapes = [(n, n, n) for n in arguments.sizes or ()] or SHAPES[arguments.device]
    count = len(shapes) * len(INPUTS) * len(TOLERANCES)
    rows = list(track(grid(shapes, arguments.device, arguments.repeats), "products", total=count))
    table = Table(
        "input", "shape", "tol", "method", "error", "bound", "time / plain", "time / quickest",
        title="Certified products",
    )  # fmt: skip
    for row in rows:
        time = f"{row['ratio']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
        shape = "×".join(map(str, row["shape"]))
        table.add_row(row["input"], shape, f"{row['tol']:.2%}", row["method"], f"{row['error']:.2%}",
                      f"{row['upper']:.2%}", time, f"{row['regret']:.2f} {row['quickest']}")  # fmt: skip
    Console().print(table)
    Console().print(str(summary(rows)))
    return int(any(row["error"] > row["tol"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
