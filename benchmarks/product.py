"""Certified products against what one would otherwise write: ``python -m benchmarks.product [--device cuda]``.

A grid of sizes, inputs and tolerances. Each row is one interleaved comparison with ``A @ B``, certificate included.
Writes benchmarks/results/product.json; fails if a certified product is above its tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import tithe
from tithe import machine
from tithe.files import write_atomically
from tithe.meter import paired

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "product"))
from families import FAMILIES

RESULTS = Path(__file__).parent / "results" / "product.json"
INPUTS = ("uniform", "normal", "relu", "huge column", "low rank")
TOLERANCES = (1e-3, 4.3e-3, 1e-2, 5e-2)


def measure(family: str, n: int, tol: float, device: str, repeats: int) -> dict[str, Any]:
    """One cell: the method chosen, its error and bound, and its time over that of the plain product."""
    A, B = (X.to(device) for X in FAMILIES[family](n, torch.Generator().manual_seed(1)))
    C, receipt = tithe.matmul(A, B, tol=tol)
    truth = A.double() @ B.double()
    error = float((C - truth).norm() / truth.norm())
    found = paired(lambda: tithe.matmul(A, B, tol=tol), lambda: A @ B, repeats, device=device)
    assert receipt.bound is not None
    return {
        "input": family, "n": n, "tol": tol, "method": receipt.method, "error": error, "upper": receipt.bound.upper,
        "ratio": found.ratio, "low": found.low, "high": found.high, "load": found.load,
    }  # fmt: skip


def main() -> int:
    """Run the grid, print it, write it; 1 if a tolerance was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = (512, 1024, 2048) if arguments.device == "cpu" else (2048, 4096, 8192)
    cells = [(family, n, tol) for n in sizes for family in INPUTS for tol in TOLERANCES]
    rows = [measure(*cell, arguments.device, arguments.repeats) for cell in track(cells, "products")]
    table = Table("input", "n", "tol", "method", "error", "bound", "time / plain", title="Certified products")
    for row in rows:
        time = f"{row['ratio']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
        table.add_row(row["input"], str(row["n"]), f"{row['tol']:.2%}", row["method"], f"{row['error']:.2%}",
                      f"{row['upper']:.2%}", time)  # fmt: skip
    Console().print(table)
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "rows": rows}, indent=1))
    return int(any(row["error"] > row["tol"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
