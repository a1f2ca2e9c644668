"""Sparse inference against the plain model and int8: ``python -m benchmarks.sparse_inference [--threads 1]``.

A multilayer perceptron 784→2048→2048→10 on MNIST. Prints time and accuracy by what is kept, for one to eight images at
once, and test accuracy at equal shares for each choice of importance. Writes benchmarks/results/sparse_inference.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tithe
from tithe import machine
from tithe.files import write_atomically
from tithe.meter import Comparison, paired
from tithe.parallel import threads
from tithe.resolvent.sparse import pruned, sparsify
from tithe.resolvent.sparse.importance import column_weights, scores, threshold

RESULTS = Path(__file__).parent / "results" / "sparse_inference.json"
_CALIBRATION, _IMAGES = 2048, 32
IMPORTANCES: tuple[tuple[str, ...], ...] = (
    ("magnitude",), ("magnitude", "norm"), ("magnitude", "norm", "coherence"), ("magnitude", "coherence"),
    ("norm",), ("coherence",), ("random",),
)  # fmt: skip


class Task(NamedTuple):
    """Images as rows of float32 between 0 and 1, and labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def task(name: str = "mnist") -> Task:
    """A set of images by name."""
    data = tithe.data.load(name)
    images = (torch.from_numpy(x).flatten(1).float() / 255 for x in (data.train_x, data.test_x))
    labels = (torch.from_numpy(y) for y in (data.train_y, data.test_y))
    (train_x, test_x), (train_y, test_y) = images, labels
    return Task(train_x, train_y, test_x, test_y)


def train(data: Task, widths: tuple[int, ...] = (784, 2048, 2048, 10), epochs: int = 2, seed: int = 0) -> nn.Sequential:
    """A perceptron with ReLU after some epochs of Adam under a one-cycle schedule, in evaluation mode."""
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linear = [nn.Linear(a, b) for a, b in pairwise(widths)]
    model = nn.Sequential(*[part for layer in linear for part in (layer, nn.ReLU())][:-1])
    batches = len(data.train_x) // 128
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        for part in torch.randperm(len(data.train_x), generator=draw)[: 128 * batches].view(-1, 128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(data.train_x[part]), data.train_y[part]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, data: Task) -> float:
    """Share of the test images that are told right."""
    return float((model(data.test_x).argmax(1) == data.test_y).float().mean())


def compare(model: nn.Module, other: nn.Module, data: Task, rows: int, pairs: int = 21) -> Comparison:
    """The time of ``model`` over that of ``other``, whole forward passes of different images in turn."""
    parts = data.test_x[:_IMAGES].split(rows)

    @torch.inference_mode()
    def run(which: nn.Module) -> None:
        for part in parts:
            which(part)

    return paired(lambda: run(model), lambda: run(other), pairs)


def quantised(model: nn.Module) -> nn.Module:
    """The same model through torch's dynamic int8 quantisation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantise: Any = torch.ao.quantization.quantize_dynamic
        return quantise(model, {nn.Linear}, dtype=torch.qint8)


@torch.no_grad()
def by_importance(model: nn.Sequential, data: Task, keep: float, by: tuple[str, ...]) -> float:
    """Test accuracy with a share of the inputs of all layers but the first, chosen on training images."""
    draw = torch.Generator().manual_seed(0)
    shown, x = data.train_x[:_CALIBRATION], data.test_x
    for index, layer in enumerate(model):
        if isinstance(layer, nn.Linear) and index:
            weights = column_weights(layer.weight, by)

            def important(x: Tensor, weights: Tensor = weights) -> Tensor:
                return torch.rand(x.shape, generator=draw) if "random" in by else scores(x, weights, by)

            least = threshold(important(shown).flatten().sort().values, keep)
            shown, x = (t.masked_fill(important(t) < least, 0) for t in (shown, x))
        shown, x = layer(shown), layer(x)
    return float((x.argmax(1) == data.test_y).float().mean())


def timings(model: nn.Sequential, data: Task) -> list[dict[str, Any]]:
    """Test accuracy, and time over that of the plain model for one to eight images, of each way to be faster."""
    ways: dict[str, Callable[[], nn.Module]] = {"int8": lambda: quantised(model)}
    for keep in (1.0, 0.3, 0.2, 0.1, 0.05):
        ways[f"keep={keep}"] = lambda keep=keep: _sparse(model, data, keep)
    found = [{"way": "plain", "accuracy": accuracy(model, data), "ratios": {}}]
    for name, make in ways.items():
        other = make()
        with pruned(other):
            right = accuracy(other, data)
        ratios = {rows: compare(other, model, data, rows) for rows in (1, 2, 4, 8)}
        shown = {rows: (c.ratio, c.low, c.high) for rows, c in ratios.items()}
        found.append({"way": name, "accuracy": right, "ratios": shown, "seconds": ratios[1].seconds})
    return found


def _sparse(model: nn.Module, data: Task, keep: float) -> nn.Module:
    other = copy.deepcopy(model)
    print(f"\nkeep={keep}", sparsify(other, data.train_x[:_CALIBRATION], keep=keep), sep="\n")
    return other


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--widths", type=int, nargs="+", default=[2048, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data, console = task(arguments.data), Console()
    model = train(data, (784, *arguments.widths, 10), seed=arguments.seed)
    table = Table("importance", *(shares := ("0.3", "0.2", "0.1", "0.05")), title="Test accuracy at equal shares kept")
    choices = {" × ".join(by): [by_importance(model, data, float(k), by) for k in shares] for by in IMPORTANCES}
    for name, values in choices.items():
        table.add_row(name, *(f"{value:.2%}" for value in values))
    with threads(arguments.threads):
        rows = timings(model, data)
    times = Table("way", "accuracy", *(f"{n} at once" for n in (1, 2, 4, 8)), title="Time over the plain model's")
    for row in rows:
        cells = [f"{r:.2f} [{low:.2f}, {high:.2f}]" for r, low, high in row["ratios"].values()]
        times.add_row(row["way"], f"{row['accuracy']:.2%}", *cells)
    console.print(table, times)
    result = {"machine": machine.describe(), "arguments": vars(arguments), "importances": choices, "times": rows}
    write_atomically(RESULTS, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
