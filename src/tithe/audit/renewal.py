"""Task after task, with and without renewal: what races, for the audit and for benchmarks/renormalizing.py.

MNIST at 14×14, a perceptron 196→100→100→10. Both protocols lose plasticity in plain training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tithe.data import load
from tithe.tether.renormalizer import Renormalizer

__all__ = [
    "CHOSEN",
    "FIRST_SEED",
    "NAMES",
    "PROTOCOLS",
    "TASKS",
    "Images",
    "Protocol",
    "Watch",
    "images",
    "network",
    "run",
    "tasks",
]

TASKS = 16
FIRST_SEED = 100  # of the audit: apart from those that settings were chosen on, and from the benchmark's
NAMES = {"labels": "random labels", "permuted": "permuted inputs"}  # for tables
Watch = Callable[[int, int, nn.Module, Tensor, Tensor], None]


class Protocol(NamedTuple):
    """One way to lose plasticity. That of permuted inputs was taken after another one, in which some arms had been
    seen on one seed to jump about at the ends of tasks; plain and fresh training alone spoke for it.
    """

    adam: bool  # else descent with momentum 0.9
    rate: float
    steps: int
    batch: int
    standardised: bool  # else pixels are in [0, 1]


# So many steps that no task ends within fifty after a renewal that comes every 125 or 500.
PROTOCOLS = {"permuted": Protocol(True, 0.01, 1062, 64, False), "labels": Protocol(True, 0.001, 740, 16, True)}
SAMPLES = 800  # with random labels
# The rivals' settings, as benchmarks/renormalizing.py chose them on seeds of its own; ours are the defaults.
CHOSEN: dict[str, dict[str, dict[str, Any]]] = {
    "permuted": {
        "shrink-and-perturb": {"every": 25, "shrink": 0.99, "perturb": 0.01},
        "dormant": {"every": 125, "threshold": 0.025},
    },
    "labels": {
        "shrink-and-perturb": {"every": 5, "shrink": 0.998, "perturb": 0.005},
        "dormant": {"every": 125, "threshold": 0.1},
    },
}


class Images(NamedTuple):
    """Images of 14×14 as rows, and labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@cache
def images(standardised: bool) -> Images:
    """MNIST, 2×2 pixels pooled; in [0, 1], or with mean 0 and standard deviation 1."""
    data = load("mnist")
    train, test = (
        functional.avg_pool2d(torch.from_numpy(x).float()[:, None] / 255, 2).flatten(1)
        for x in (data.train_x, data.test_x)
    )
    mean, std = (float(train.mean()), float(train.std())) if standardised else (0.0, 1.0)
    labels = (torch.from_numpy(y).long() for y in (data.train_y, data.test_y))
    return Images((train - mean) / std, next(labels), (test - mean) / std, next(labels))


def network(seed: int) -> nn.Sequential:
    """The perceptron at its initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(196, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))


def tasks(protocol: str, seed: int, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Batches (steps, batch, 196) and their labels, images to be tested on and theirs; one of each for a task."""
    plan = PROTOCOLS[protocol]
    steps, batch = plan.steps, plan.batch
    data, draw = images(plan.standardised), torch.Generator().manual_seed(seed)
    for _ in range(count):
        if protocol == "permuted":
            order = torch.randperm(196, generator=draw)
            part = torch.randint(len(data.train_x), (steps, batch), generator=draw)
            yield (
                data.train_x[part.flatten()][:, order].view(steps, batch, -1),
                data.train_y[part],
                data.test_x[:, order],
                data.test_y,
            )
        else:
            x = data.train_x[torch.randperm(len(data.train_x), generator=draw)[:SAMPLES]]
            y = torch.randint(10, (SAMPLES,), generator=draw)
            epochs = -(-steps * batch // SAMPLES)
            part = torch.cat([torch.randperm(SAMPLES, generator=draw) for _ in range(epochs)])
            part = part[: steps * batch].view(steps, batch)
            yield x[part], y[part], x, y


def run(
    protocol: str, arm: str, seed: int, settings: dict[str, Any], count: int = TASKS, watch: Watch | None = None
) -> list[float]:
    """Accuracy at the end of each task.

    Args:
        protocol: one of ``PROTOCOLS``.
        arm: ``"plain"``, ``"fresh"`` (begins anew with each task, which none of the others is told of), or a policy
            of ``Renormalizer``.
        seed: of weights, tasks and renewals.
        settings: of the ``Renormalizer``.
        count: of tasks.
        watch: called with the task, the steps done in it, the model, the images to be tested on and their labels,
            at the start of each task and after each step; must draw nothing from torch's own generator.

    Returns:
        ``count`` accuracies, from 0 to 1. O(count · steps).
    """
    plan, settings = PROTOCOLS[protocol], dict(settings)
    found: list[float] = []
    model: nn.Module | None = None
    for index, (xs, ys, test_x, test_y) in enumerate(tasks(protocol, seed, count)):
        if model is None or arm == "fresh":
            model = network(1000 * index + seed)
            kind: Any = torch.optim.Adam if plan.adam else partial(torch.optim.SGD, momentum=0.9)
            optimizer = kind(model.parameters(), plan.rate, fused=True)
            renormalizer = None
            if arm in ("renormalise", "shrink-and-perturb", "dormant"):
                draw = torch.Generator().manual_seed(seed)
                renormalizer = Renormalizer(model, optimizer, policy=arm, generator=draw, **settings)
        if watch is not None:
            watch(index, 0, model, test_x, test_y)
        for done, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            torch.autograd.backward(loss)
            optimizer.step()
            if renormalizer is not None:
                renormalizer.step(loss)
            if watch is not None:
                watch(index, done, model, test_x, test_y)
        with torch.inference_mode():
            model.eval()
            found.append(float((model(test_x).argmax(1) == test_y).float().mean()))
            model.train()
    return found
