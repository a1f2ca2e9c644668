"""What watching a training costs: ``python -m benchmarks.monitor [--device cuda]``.

A small CNN on images of 28×28 pixels, batch 64; on a GPU a ResNet-18 on images of 32×32, batch 128 (``--network`` has
the other one), all layers watched, events written to a ledger: loops of 50 steps with a monitor of stride 50 against
the same without, and with one of stride 1, whose share of a step over 50 is the surer figure.
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
from torch import nn

from benchmarks.gradient_filter import resnet18
from tithe import machine
from tithe.files import write_atomically
from tithe.ledger import Ledger
from tithe.meter import paired
from tithe.resolvent.monitor import Monitor

RESULTS = Path(__file__).parent / "results" / "monitor.json"
STRIDE, MOST = 50, 0.03
NETWORKS = {"cpu": "cnn", "cuda": "resnet18"}  # by device
IMAGES = {"cnn": ((1, 28, 28), 64), "resnet18": ((3, 32, 32), 128)}  # shape and batch


def network(name: str) -> nn.Sequential:
    """The network that is watched, from one seed."""
    if name == "resnet18":
        return resnet18("3×3")
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def training(name: str, device: str, ledger: Ledger, stride: int | None) -> Callable[[int], None]:
    """So many steps of a network of its own, watched at a stride, or not."""
    model = network(name).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if stride:
        Monitor(model, ledger, run=f"stride {stride}", stride=stride).attach(optimizer)
    shape, batch = IMAGES[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *shape, generator=generator).to(device)
    y = torch.randint(10, (batch,), generator=generator).to(device)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    return steps


def overheads(name: str, device: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Loops with a monitor of either stride against the same without; ``overhead`` has mean and ends at stride 50."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "runs.db") as ledger:
        plain = training(name, device, ledger, None)
        for stride, steps in ((STRIDE, STRIDE), (1, 5)):
            watched = training(name, device, ledger, stride)
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
    parser.add_argument("--network", choices=IMAGES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = arguments.network or NETWORKS[torch.device(arguments.device).type]
    rows = overheads(name, arguments.device, arguments.repeats)
    table = Table("", "time / plain", "overhead at stride 50", title=f"Monitor of a {name}")
    for stride, row in rows.items():
        table.add_row(stride, f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                      "{:.2%} [{:.2%}, {:.2%}]".format(*row["overhead"]))  # fmt: skip
    Console().print(table)
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "network": name, "rows": rows}, indent=1))
    return int(rows["stride 1"]["overhead"][2] > MOST)


if __name__ == "__main__":
    sys.exit(main())
