"""Products of Gaussian kernels from anchors: ``python -m benchmarks.anchors``.

Kernels of evenly spaced points on a line, and of the Sun and the brightest stars in space, with bandwidths of a
hundredth, a tenth and all of the range, times Gaussian matrices, n = 2048. For every strategy and ratio the true
error, and the smallest ratio that keeps it within 0.01 %. Writes benchmarks/results/anchors.json and docs/anchors.svg.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tithe import data, machine
from tithe.files import write_atomically
from tithe.product import Anchored
from tithe.product.estimators import STRATEGIES, flops
from tithe.product.pair import Pair
from tithe.product.probing import checking_work

RESULTS = Path(__file__).parent / "results" / "anchors.json"
PICTURE = Path(__file__).parents[1] / "docs" / "anchors.svg"
BANDWIDTHS = (0.01, 0.1, 1.0)
N = 2048
MOST = 1e-4
RATIOS = (
    0.01,
    0.015,
    0.02,
    0.025,
    0.03,
    0.035,
    0.04,
    0.045,
    0.05,
    0.06,
    0.08,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.35,
    0.4,
    0.5,
)


def points(where: str) -> Tensor:
    """Float64 (N, 1) evenly spaced on a line, or (N, 3) parsecs: the Sun and the brightest stars."""
    if where == "line":
        return torch.linspace(0, 1, N, dtype=torch.float64)[:, None]
    stars = data.load("stars")
    ra, dec = np.radians(stars.ra[:N]), np.radians(stars.dec[:N])
    directions = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)
    return torch.from_numpy(directions * stars.distance[:N, None])


@functools.cache
def operands(where: str, bandwidth: float) -> tuple[Pair, Tensor]:
    """The kernel, its subnormal entries zero, and a Gaussian matrix, float32; and their product in float64."""
    P = points(where)
    distances = torch.cdist(P, P)
    K = torch.exp(-((distances / (bandwidth * distances.max())) ** 2) / 2).float()
    normal = torch.finfo(torch.float32).tiny <= K
    pair = Pair(K * normal, torch.randn(N, N, generator=torch.Generator().manual_seed(1)))
    return pair, pair.A.double() @ pair.B.double()


def error(where: str, bandwidth: float, strategy: str, ratio: float) -> float:
    """True relative error of one anchored product."""
    pair, truth = operands(where, bandwidth)
    product = Anchored(ratio, strategy).multiply(pair, generator=torch.Generator().manual_seed(0))
    return float((product.tensor(torch.float32) - truth).norm() / truth.norm())


def smallest(where: str, bandwidth: float) -> tuple[float, str, float]:
    """The smallest of ``RATIOS`` with an error within 0.01 %, the strategy, and that error; 1 and exact at worst."""
    for ratio in RATIOS:
        for strategy in ("golden", "islands"):
            if (found := error(where, bandwidth, strategy, ratio)) <= MOST:
                return ratio, strategy, found
    return 1.0, "exact", 0.0


def certified(ratio: float, strategy: str) -> float:
    """Share of the multiply–adds with a certificate of 16 probes."""
    work = flops(Anchored(ratio, strategy).work(N, N, N, torch.float32)) + flops(checking_work(N, N, N, 16, dense=True))
    return work / (2.0 * N**3)


def main() -> int:
    """Measure all, print and write it, draw it; 1 if a kernel has no ratio."""
    rows: list[dict[str, Any]] = [
        {"points": where, "bandwidth": bandwidth, "strategy": strategy, "ratio": ratio,
         "error": error(where, bandwidth, strategy, ratio)}
        for where in ("line", "stars") for bandwidth in BANDWIDTHS for strategy in STRATEGIES for ratio in RATIOS
    ]  # fmt: skip
    table = Table("points", "bandwidth", *STRATEGIES, title=f"Smallest ratio with an error within {MOST:.2%}, n = {N}")
    worst = 0.0
    for where in ("line", "stars"):
        for bandwidth in BANDWIDTHS:
            least = [
                min((row["ratio"] for row in rows if row["error"] <= MOST and (row["points"], row["bandwidth"],
                     row["strategy"]) == (where, bandwidth, strategy)), default=1.0)
                for strategy in STRATEGIES
            ]  # fmt: skip
            worst = max(worst, min(least))
            table.add_row(where, f"{bandwidth:g}", *(f"{ratio:.1%}" if ratio < 1 else "none" for ratio in least))
    Console().print(table)
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "n": N, "rows": rows}, indent=1))
    _draw(rows)
    return int(worst == 1.0)


def _draw(rows: list[dict[str, Any]]) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "anchors", "svg.fonttype": "none"})
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    for line, where in zip(axes, ("line", "stars"), strict=True):
        for ax, bandwidth in zip(line, BANDWIDTHS, strict=True):
            for strategy in STRATEGIES:
                chosen = [
                    (row["ratio"], row["error"]) for row in rows
                    if (row["points"], row["bandwidth"], row["strategy"]) == (where, bandwidth, strategy)
                ]  # fmt: skip
                ax.loglog(*zip(*chosen, strict=True), label=strategy)
            ax.minorticks_off()
            ax.axhline(MOST, color="grey", linewidth=0.8, linestyle="--")
            ax.set_title(f"{where}, bandwidth {bandwidth:g} of the range", fontsize=10)
            ax.set_ylim(1e-7, 3)
    for ax in axes[-1]:
        ax.set_xlabel("ratio of the multiply–adds")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
