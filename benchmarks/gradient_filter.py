"""What filtering gradients costs a training step: ``python -m benchmarks.gradient_filter [--device cuda]``.

A ResNet-18 on images of 32×32 pixels, batch 32, on a GPU 128: forward, backward and a step of the optimiser, with a
``GradientFilter`` against the same without, on CPUs with one thread; and the filter alone against a whole plain step,
which is the surer figure on a busy CPU, and on a GPU counts a wait for the device that a step does not have. The stem
is 3×3 as for images of this size, or 7×7 with pooling as for ImageNet, where the filter has as much to do and the rest
a third or less. Writes benchmarks/results/gradient_filter.json; fails if on the first the filter costs more than 5 % on
a CPU (alone), 3 % on a GPU (with the step). Three minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tithe import machine
from tithe.files import write_atomically
from tithe.meter import Comparison, paired
from tithe.resolvent import GradientFilter

RESULTS = Path(__file__).parent / "results" / "gradient_filter.json"
BATCH = {"cpu": 32, "cuda": 128}  # as ResNets are trained on such images; with 32 a fast GPU waits for its host
EDGE, CLASSES = 32, 10
STEMS = ("3×3", "7×7")
MOST = {"cpu": 0.05, "cuda": 0.03}
REPEATS = {"cpu": 21, "cuda": 201}


class Block(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.past = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.past = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        out: Tensor = (self.layers(x) + self.past(x)).relu_()
        return out


def resnet18(stem: str) -> nn.Sequential:
    """He et al. 2016, of 11.2 million weights.

    >>> sum(p.numel() for p in resnet18("3×3").parameters())
    11173962
    """
    torch.manual_seed(0)
    small = stem == "3×3"
    first: list[nn.Module] = [
        nn.Conv2d(3, 64, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False),
        nn.BatchNorm2d(64), nn.ReLU(inplace=True), *([] if small else [nn.MaxPool2d(3, 2, 1)]),
    ]  # fmt: skip
    blocks, inputs = [], 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


def training(stem: str, device: str, filtered: bool, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step of a network of its own, with or without a filter, and the filter alone."""
    model = resnet18(stem).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    gradients = GradientFilter(optimizer, power=-1)
    if not filtered:
        gradients.remove()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, EDGE, EDGE, generator=generator).to(device)
    y = torch.randint(CLASSES, (batch,), generator=generator).to(device)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step, gradients.filter


def overhead(stem: str, device: str, repeats: int, batch: int) -> tuple[Comparison, Comparison]:
    """A step with the filter, and the filter alone, against a plain step; on a CPU the caller sets the threads."""
    (filtered, alone), (plain, _) = (training(stem, device, on, batch) for on in (True, False))
    whole = paired(filtered, plain, repeats, device=device, names=("filtered step", "plain step"))
    return whole, paired(alone, plain, repeats, device=device, names=("filter", "plain step"))


def main() -> int:
    """Measure, print, write; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="default 32, on a GPU 128")
    parser.add_argument("--repeats", type=int, help="default 21, on a GPU 201")
    arguments = parser.parse_args()
    kind = torch.device(arguments.device).type
    repeats = arguments.repeats or REPEATS[kind]
    torch.set_num_threads(1)
    batch = arguments.batch or BATCH[kind]
    found = {stem: overhead(stem, arguments.device, repeats, batch) for stem in STEMS}
    table = Table(
        "stem",
        "plain step",
        "filtered / plain step",
        "filter / plain step",
        title=f"GradientFilter, ResNet-18, batch {batch}",
    )
    for stem, (whole, alone) in found.items():
        figures = (f"{timed.ratio:.4f} [{timed.low:.4f}, {timed.high:.4f}]" for timed in (whole, alone))
        table.add_row(stem, f"{1000 * alone.seconds[1]:.1f} ms", *figures)
    Console().print(table)
    rows = {stem: {timed.names[0]: timed.to_dict() for timed in pair} for stem, pair in found.items()}
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "batch": batch, "rows": rows}, indent=1))
    whole, alone = found["3×3"]
    return int((alone.ratio if kind == "cpu" else whole.ratio - 1) > MOST[kind])


if __name__ == "__main__":
    sys.exit(main())
