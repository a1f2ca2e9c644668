"""Golden layouts against random masks, pruning and 2:4: ``python -m benchmarks.golden_layout``.

An MLP 784 → 256 → 128 → 10 on 10,000 images of MNIST, five epochs of Adam, tested on the 10,000 test images; its two
hidden layers keep 20 % of their weights (2:4 keeps 50 %). Golden and random masks are fixed and trained from scratch,
with the same images, order and initial values in each seed; the others are cut from the trained dense model, once, and
trained one more epoch. Then bytes against CSR as torch stores it, and times against a dense product.
Writes benchmarks/results/golden_layout.json; fails if a bar is missed. About three minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from torch import Tensor, nn

from tithe import machine
from tithe.data import load
from tithe.files import write_atomically
from tithe.meter import paired
from tithe.resolvent.golden_layout import GoldenLinear, csr_bytes

RESULTS = Path(__file__).parent / "results" / "golden_layout.json"
DENSITY, WIDTHS, IMAGES, BATCH, EPOCHS, RATE = 0.2, (784, 256, 128, 10), 10_000, 64, 5, 1e-3
MOST_MEMORY, LEAST_POINTS = 0.6, -0.3  # the bars
Layers = list[nn.Module]


class Masked(nn.Module):
    """A Linear with a fixed mask."""

    def __init__(self, weight: Tensor, mask: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.detach() * mask), nn.Parameter(bias.detach().clone())
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """As of a Linear."""
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


def golden_layers(generator: torch.Generator) -> Layers:
    """Two golden hidden layers."""
    return [GoldenLinear(n, m, DENSITY, generator=generator) for n, m in itertools.pairwise(WIDTHS[:3])]


def random_layers(generator: torch.Generator) -> Layers:
    """The same values in columns drawn at random, as many in each row."""
    found: Layers = []
    draws = torch.Generator().manual_seed(generator.initial_seed() + 1_000_000)
    for layer in golden_layers(generator):
        assert isinstance(layer, GoldenLinear) and layer.bias is not None
        columns = torch.rand(layer.out_features, layer.in_features, generator=draws).argsort(1)[:, : layer.k]
        weight = torch.zeros(layer.out_features, layer.in_features).scatter(1, columns, layer.values.detach())
        found.append(Masked(weight, torch.zeros_like(weight).scatter(1, columns, 1.0), layer.bias))
    return found


def dense_layers(generator: torch.Generator) -> Layers:
    """Two whole ones: density 1."""
    golden = [GoldenLinear(n, m, 1.0, generator=generator) for n, m in itertools.pairwise(WIDTHS[:3])]
    return [Masked(g.to_dense(), torch.ones(g.out_features, g.in_features), g.bias) for g in golden]


def by_magnitude(weight: Tensor) -> Tensor:
    """The mask of the largest weights of a layer."""
    return (weight.abs() >= weight.abs().flatten().kthvalue(round((1 - DENSITY) * weight.numel())).values).float()


def two_of_four(weight: Tensor) -> Tensor:
    """The mask of the larger two of each four in a row."""
    groups = weight.abs().reshape(len(weight), -1, 4)
    return torch.zeros_like(groups).scatter(2, groups.topk(2, 2).indices, 1.0).reshape(weight.shape)


def cut(model: nn.Sequential, how: Callable[[Tensor], Tensor] | None) -> nn.Sequential:
    """A trained dense model under masks, or on golden layouts of the most energetic starts."""
    layers: Layers = []
    for layer in model[::2][:2]:
        weight, bias = layer.weight.detach(), layer.bias.detach()
        if how is None:
            layers.append(GoldenLinear.from_dense(weight, DENSITY, bias, starts="energy"))
        else:
            layers.append(Masked(weight, how(weight), bias))
    last = nn.Linear(WIDTHS[2], WIDTHS[3])
    last.load_state_dict(model[4].state_dict())
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), last)


def built(layers: Callable[[torch.Generator], Layers], seed: int) -> nn.Sequential:
    """A model whose initial values depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    first, second = layers(generator)
    last = nn.Linear(WIDTHS[2], WIDTHS[3])
    for parameter in last.parameters():
        nn.init.uniform_(parameter, -(WIDTHS[2] ** -0.5), WIDTHS[2] ** -0.5, torch.Generator().manual_seed(seed))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, seed: int) -> None:
    """Adam on batches in an order that the seed draws."""
    optimizer, generator = torch.optim.Adam(model.parameters(), RATE), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()


def accuracies(seed: int, data: tuple[Tensor, ...]) -> dict[str, float]:
    """Test accuracy of all arms in points, for one seed."""
    train_x, train_y, test_x, test_y = data
    rows = torch.randperm(len(train_x), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    x, y = train_x[rows], train_y[rows]

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return 100 * float((model(test_x).argmax(1) == test_y).float().mean())

    found, models = {}, {}
    for name, layers in (("dense", dense_layers), ("golden", golden_layers), ("random", random_layers)):
        models[name] = built(layers, seed)
        train(models[name], x, y, EPOCHS, seed)
        found[name] = score(models[name])
    for name, how in (("magnitude", by_magnitude), ("2:4", two_of_four), ("golden cut", None)):
        model = cut(models["dense"], how)
        found[f"{name}, one shot"] = score(model)
        train(model, x, y, 1, seed + 1)
        found[f"{name}, +1 epoch"] = score(model)
    return found


def interval(differences: list[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval of a mean of paired differences."""
    half = stats.t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / math.sqrt(len(differences))
    return float(np.mean(differences)), float(half)


def memory_and_time(rows: int, columns: int) -> dict[str, Any]:
    """Bytes of one layer in each format, and time over that of a dense product, by batch."""
    layer = GoldenLinear(columns, rows, DENSITY, bias=False, generator=torch.Generator().manual_seed(0))
    dense, stored = layer.to_dense().detach(), {}
    for index_dtype in (torch.int32, torch.int64):
        csr = layer.to_csr(index_dtype)
        stored[index_dtype] = sum(t.nbytes for t in (csr.values(), csr.col_indices(), csr.crow_indices()))
        assert stored[index_dtype] == csr_bytes(rows, layer.k, torch.float32, index_dtype)
    csr = layer.to_csr(torch.int32)
    found: dict[str, Any] = {
        "shape": [rows, columns], "golden": layer.nbytes, "dense": dense.nbytes,
        "csr int32": stored[torch.int32], "csr int64": stored[torch.int64], "times": {},
    }  # fmt: skip
    for batch in (1, 16, 64, 256):
        x = torch.randn(batch, columns, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            golden = paired(lambda x=x: layer(x), lambda x=x: x @ dense.t(), 15)
            by_csr = paired(lambda x=x: (csr @ x.t()).t(), lambda x=x: x @ dense.t(), 15)
        for name, timed in (("golden", golden), ("csr int32", by_csr)):
            found["times"][f"{name}, batch {batch}"] = [timed.ratio, timed.low, timed.high]
    return found


def runs(seeds: int) -> list[dict[str, float]]:
    """Test accuracies of all arms in points, one of them a seed."""
    found = load("mnist")
    x, test_x = (torch.from_numpy(i.reshape(len(i), -1) / 255).float() for i in (found.train_x, found.test_x))
    mean, std = x.mean(0), x.std(0) + 0.1
    y, test_y = torch.from_numpy(found.train_y).long(), torch.from_numpy(found.test_y).long()
    data = (x - mean) / std, y, (test_x - mean) / std, test_y
    return [accuracies(seed, data) for seed in track(range(seeds), "seeds")]


def main() -> int:
    """Run all, print it, write it; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Sparse")
    found = runs(arguments.seeds)
    arms, random = {}, [run["random"] for run in found]
    table = Table("arm", "test accuracy", "minus random masks, points", title=f"MNIST, {len(found)} seeds")
    for name in found[0]:
        scores = [run[name] for run in found]
        mean_gap, half = interval([a - b for a, b in zip(scores, random, strict=True)])
        arms[name] = {"scores": scores, "difference": mean_gap, "half_width": half}
        table.add_row(name, f"{np.mean(scores):.2f} %", "" if name == "random" else f"{mean_gap:+.2f} ± {half:.2f}")
    sizes = [memory_and_time(*shape) for shape in ((256, 784), (1024, 1024), (4096, 1024))]
    bytes_table = Table("layer", "bytes", "/ CSR int32", "/ CSR int64", "/ dense", title="Memory at 20 %, float32")
    time_table = Table("layer", "format", "time / dense", title="Time, one thread")
    for size in sizes:
        layer = "x".join(map(str, size["shape"]))
        shares = [f"{size['golden'] / size[other]:.1%}" for other in ("csr int32", "csr int64", "dense")]
        bytes_table.add_row(layer, str(size["golden"]), *shares)
        for name, (ratio, low, high) in size["times"].items():
            time_table.add_row(layer, name, f"{ratio:.2f} [{low:.2f}, {high:.2f}]")
    for shown in (table, bytes_table, time_table):
        Console().print(shown)
    lower = arms["golden"]["difference"] - arms["golden"]["half_width"]
    most = max(size["golden"] / size["csr int32"] for size in sizes)
    holds = lower >= LEAST_POINTS and most <= MOST_MEMORY
    print(f"golden - random: at least {lower:+.2f} points (bar {LEAST_POINTS}); memory at most {most:.1%} of CSR "
          f"(bar {MOST_MEMORY:.0%}): {'holds' if holds else 'missed'}")  # fmt: skip
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "arms": arms, "sizes": sizes}, indent=1))
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
