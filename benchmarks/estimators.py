"""What every estimator makes of a fifth of the multiply–adds: ``python -m benchmarks.estimators``.

True relative errors at n = 1024, the certificate left out, on operands of different structure, and the one that
``tithe.matmul(A, B, ratio=0.2)`` takes. Writes benchmarks/results/estimators.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tithe
from tithe import machine
from tithe.files import write_atomically
from tithe.product.estimators import from_name
from tithe.product.pair import Pair

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "product"))
from families import FAMILIES, kernel, noisy_rank

RESULTS = Path(__file__).parent / "results" / "estimators.json"
N, RATIO = 1024, 0.2
NAMES = (
    "mean_field", "truncated", "centred", "sampled", "sketched", "trajectory", "centred(trajectory(0.2))", "fourier",
    "low_rank(0.2, 0)", "low_rank", "anchored", "anchored(0.2, islands)", "interpolated", "interpolated(0.2, right)",
)  # fmt: skip


def _signals(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sums of a few slow waves along the contraction axis, of every phase."""
    t, weights = torch.linspace(0, 6.3, n), torch.randn(2, n, 6, generator=g)
    waves = torch.stack([f(j * t) for j in (1, 2, 3) for f in (torch.sin, torch.cos)])
    left, right = weights @ waves + 0.01 * torch.randn(2, n, n, generator=g)
    return left, right.T


INPUTS: dict[str, Callable[[int, torch.Generator], tuple[Tensor, Tensor]]] = {
    "uniform": FAMILIES["uniform"],
    "normal": FAMILIES["normal"],
    "huge column": FAMILIES["huge column"],
    "rank 40 + 0.1 %": lambda n, g: noisy_rank(40, n, 1e-3, g),
    "kernel, bandwidth 0.1": lambda n, g: kernel(n, 0.1, g),
    "slow signals": _signals,
}


def main() -> int:
    """Measure, print and write all errors."""
    table = Table("estimator", *INPUTS, title=f"Relative error at {RATIO:.0%} of the multiply–adds, n = {N}")
    found: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    chosen = {}
    for what, make in INPUTS.items():
        pair = Pair(*make(N, torch.Generator().manual_seed(1)))
        truth = pair.A.double() @ pair.B.double()
        for name in NAMES:
            product = from_name(name, ratio=RATIO).multiply(pair, generator=torch.Generator().manual_seed(0))
            found[name][what] = float((product.tensor(torch.float32) - truth).norm() / truth.norm())
        C, receipt = tithe.matmul(pair.A, pair.B, ratio=RATIO, generator=torch.Generator().manual_seed(0))
        chosen[what] = receipt.method, float((C - truth).norm() / truth.norm())
    for name, errors in found.items():
        table.add_row(name, *(f"{error:.3%}" for error in errors.values()))
    table.add_row("ratio=0.2 takes", *(f"{name}\n{error:.3%}" for name, error in chosen.values()))
    Console(width=150).print(table)
    rows = {"errors": found, "chosen": chosen}
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "n": N, **rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
