"""What watching a training costs: ``python -m benchmarks.monitor [--device cuda]``.

A small CNN on MNIST, batch 64, all layers watched, events written to a ledger: loops of 50 steps with a monitor of
stride 50 against the same without, and with one of stride 1, whose share of a step over 50 is the surer figure.
Writes benchmarks/results/monitor.json; fails if the overhead is above 3 %. About a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tithe import machine
from tithe.data import load
from tithe.files import write_atomically
from tithe.ledger import Ledger
from tithe.meter import paired
from tithe.resolvent.monitor import Monitor

RESULTS = Path(__file__).parent / "results" / "monitor.json"
STRIDE, BATCH, MOST = 50, 64, 0.03


def training(x: Tensor, y: Tensor, ledger: Ledger, stride: int | None) -> Callable[[int], None]:
    """So many steps of a CNN of its own, watched at a stride, or not."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10),
    ).to(x.device)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if stride:
        Monitor(model, ledger, run=f"stride {stride}", stride=stride).attach(optimizer)
    generator = torch.Generator().manual_seed(0)

    def steps(count: int) -> None:
        for _ in range(count):
            rows = torch.randint(len(x), (BATCH,), generator=generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

    return steps


def overheads(device: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Loops with a monitor of either stride against the same without; ``overhead`` has mean and ends at stride 50."""
    found, rows = load("mnist"), {}
    x = torch.from_numpy(found.train_x[:10_000] / 255).float()[:, None].to(device)
    y = torch.from_numpy(found.train_y[:10_000]).long().to(device)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "runs.db") as ledger:
        plain = training(x, y, ledger, None)
        for stride, steps in ((STRIDE, STRIDE), (1, 5)):
            watched = training(x, y, ledger, stride)
            timed = paired(lambda w=watched, n=steps: w(n), lambda n=steps: plain(n), repeats, device=device)
            share = stride / STRIDE
            overhead = [(value - 1) * share for value in (timed.ratio, timed.low, timed.high)]
            rows[f"stride {stride}"] = {**timed.to_dict(), "overhead": overhead}
    return rows


def main() -> int:
    """Measure, print, write; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=21)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = overheads(arguments.device, arguments.repeats)
    table = Table("", "time / plain", "overhead at stride 50", title="Monitor of a small CNN")
    for name, row in rows.items():
        table.add_row(name, f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                      "{:.2%} [{:.2%}, {:.2%}]".format(*row["overhead"]))  # fmt: skip
    Console().print(table)
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "rows": rows}, indent=1))
    return int(rows["stride 1"]["overhead"][2] > MOST)


if __name__ == "__main__":
    sys.exit(main())
