"""Members of a population that have few images each: what races, for the audit and for benchmarks/populations.py.

Images of 14×14 pixels, 200 for each member, a small MLP, batches of 32.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tithe.data import load
from tithe.tether import MergePolicy, Population, average
from tithe.tether.members import tensors_of
from tithe.tether.merging import merge

__all__ = ["MEMBERS", "SETTINGS", "Setting", "Task", "arms", "images", "regrouping", "score", "shards", "trained"]

MEMBERS, SAMPLES, STEPS, BATCH = 4, 200, 400, 32
HELD_OUT = 5_000
PAPA_EVERY, PAPA_SHARE = 10, 0.05


@dataclass(frozen=True)
class Setting:
    """How all arms train.

    Attributes:
        name: for tables.
        hidden: widths of the hidden layers.
        optimizer: of parameters and a rate.
        rates: from which each arm takes its own.
    """

    name: str
    hidden: tuple[int, ...]
    optimizer: Callable[[Any, float], torch.optim.Optimizer]
    rates: tuple[float, ...]


SETTINGS = {
    "sgd": Setting(
        "196 → 128 → 64 → 10, SGD with momentum", (128, 64),
        lambda parameters, rate: torch.optim.SGD(parameters, lr=rate, momentum=0.9), (0.01, 0.03, 0.1),
    ),
    "adam": Setting(
        "196 → 256 → 10, Adam", (256,), lambda parameters, rate: torch.optim.Adam(parameters, lr=rate),
        (0.001, 0.003, 0.01),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What one member learns: its samples, and what it is asked afterwards."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def images(name: str, part: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and those that are asked, (n, 196), either held-out training images or the test set."""
    data = load(name)
    small = [
        torch.as_tensor(x.reshape(len(x), 14, 2, 14, 2).mean((2, 4)) / 255).float().flatten(1)
        for x in (data.train_x, data.test_x)
    ]
    y, test_y = (torch.as_tensor(y).long() for y in (data.train_y, data.test_y))
    train = small[0][HELD_OUT:], y[HELD_OUT:]
    return (*train, small[1], test_y) if part == "test" else (*train, small[0][:HELD_OUT], y[:HELD_OUT])


def shards(data: tuple[Tensor, ...], kind: list[int], seed: int) -> list[Task]:
    """One task for each member: ``kind`` tells under which permutation of labels; 0 is none."""
    x, y, test_x, test_y = data
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(x), generator=generator)[: SAMPLES * len(kind)].reshape(len(kind), SAMPLES)
    labels = [torch.arange(10), *(torch.randperm(10, generator=generator) for _ in range(max(kind)))]
    return [Task(x[r], labels[k][y[r]], test_x, labels[k][test_y]) for r, k in zip(rows, kind, strict=True)]


def network(seed: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """An MLP whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [m for a, b in itertools.pairwise((196, *hidden)) for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(hidden[-1], 10))


def trained(
    tasks: list[Task], seed: int, setting: Setting, rate: float, *, fixed: list[list[int]] | None = None,
    steps: int | None = None, each: Callable[[int, Population], None] | None = None,
    change: Callable[[int, list[Task]], None] | None = None,
) -> Population:  # fmt: skip
    """A population after so many steps; by the default policy, or in fixed groups."""
    start, tasks = network(seed, setting.hidden), list(tasks)
    population = Population(
        [copy.deepcopy(start) for _ in tasks], nn.functional.cross_entropy,
        lambda parameters: setting.optimizer(parameters, rate), MergePolicy(), fixed=fixed,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed + 1)
    for step in range(steps or STEPS):
        if change is not None:
            change(step, tasks)
        rows = [torch.randint(len(task.x), (BATCH,), generator=generator) for task in tasks]
        population.step([(task.x[r], task.y[r]) for task, r in zip(tasks, rows, strict=True)])
        if each is not None:
            each(step, population)
    return population


@torch.no_grad()
def score(outputs: Callable[[int, Tensor], Tensor], tasks: list[Task]) -> float:
    """Mean accuracy over the members' own questions, in points."""
    right = [(outputs(i, t.test_x).argmax(1) == t.test_y).double().mean() for i, t in enumerate(tasks)]
    return 100 * float(torch.stack(right).mean())


def own(population: Population) -> Callable[[int, Tensor], Tensor]:
    """Each member answers for itself."""
    return lambda i, x: population.models[i](x)


def papa(step: int, population: Population) -> None:
    """Push all members a little towards their mean (Jolicoeur-Martineau et al. 2023)."""
    if (step + 1) % PAPA_EVERY == 0:
        states = [tensors_of(model) for model in population.models]
        mean = average(states)
        with torch.no_grad():
            for state in states:
                for name, tensor in state.items():
                    tensor.lerp_(mean[name], PAPA_SHARE)


def arms(
    tasks: list[Task], groups: list[list[int]], seed: int, setting: Setting, rate: float
) -> Iterator[tuple[str, Callable[[], float]]]:
    """What races, by name: each gives the mean accuracy of the members."""
    alone, every = [[i] for i in range(len(tasks))], [list(range(len(tasks)))]

    def pooled(times: int) -> float:
        parts = [_together([tasks[i] for i in group]) for group in groups]
        if len(parts) == 1:
            parts = parts * 2  # a population has two members; both are the same here
        steps, kept = STEPS * times, {i: k for k, g in enumerate(groups) for i in g}
        found = trained(parts, seed, setting, rate, fixed=[[k] for k in range(len(parts))], steps=steps)
        return score(lambda i, x: found.models[kept[i]](x), tasks)

    def together(how: str) -> float:
        found = trained(tasks, seed, setting, rate, fixed=alone)
        group_of = {i: g for g in groups for i in g}
        if how == "soup":
            for group in groups:
                merge([tensors_of(found.models[i]) for i in group])
            return score(own(found), tasks)
        return score(lambda i, x: torch.stack([found.models[j](x) for j in group_of[i]]).mean(0), tasks)

    yield "independent", lambda: score(own(trained(tasks, seed, setting, rate, fixed=alone)), tasks)
    yield "population", lambda: score(own(trained(tasks, seed, setting, rate)), tasks)
    yield "known groups", lambda: score(own(trained(tasks, seed, setting, rate, fixed=groups)), tasks)
    yield "always merge", lambda: score(own(trained(tasks, seed, setting, rate, fixed=every)), tasks)
    yield "PAPA, all", lambda: score(own(trained(tasks, seed, setting, rate, fixed=alone, each=papa)), tasks)
    yield "soup of known groups", lambda: together("soup")
    yield "ensemble of known groups", lambda: together("ensemble")
    yield "pooled, known groups", lambda: pooled(1)
    yield f"pooled, known groups, {MEMBERS}× steps", lambda: pooled(MEMBERS)


def _together(tasks: list[Task]) -> Task:
    """One task with the samples of all."""
    x, y = (torch.cat([getattr(task, name) for task in tasks]) for name in ("x", "y"))
    return Task(x, y, tasks[0].test_x, tasks[0].test_y)


def regrouping(name: str, seed: int, setting: Setting, rate: float) -> dict[str, Any]:
    """Eight members in three groups that nobody tells; one changes its task half way."""
    kind, steps = [0, 1, 2, 0, 1, 2, 0, 1], 2 * STEPS
    tasks = shards(images(name, "test"), kind, seed)
    changed, at = tasks[1], steps // 2 + 7  # in the middle of an interval
    groups: list[tuple[int, list[list[int]]]] = []

    def change(step: int, now: list[Task]) -> None:
        if step == at:
            now[0] = Task(now[0].x, _relabelled(tasks[0], changed), changed.test_x, changed.test_y)

    def watch(step: int, population: Population) -> None:
        if not groups or groups[-1][1] != population.groups:
            groups.append((step + 1, copy.deepcopy(population.groups)))

    trained(tasks, seed, setting, rate, steps=steps, change=change, each=watch)
    first, last = [[0, 3, 6], [1, 4, 7], [2, 5]], [[0, 1, 4, 7], [2, 5], [3, 6]]
    found = [s for s, g in groups if g == first and s <= at]
    again = [s for s, g in groups if g == last and s > at]
    settled = bool(again) and groups[-1][1] == last
    every = MergePolicy().interval
    return {
        "seed": seed, "found": found[0] if found else None,
        "intervals": -(-(again[0] - at) // every) if settled else None, "groups": groups,
    }  # fmt: skip


def _relabelled(task: Task, other: Task) -> Tensor:
    """The labels of one task as another one gives them: read off their questions, which are the same images."""
    names = torch.zeros(10, dtype=torch.int64)
    names[task.test_y] = other.test_y
    return names[task.y]
