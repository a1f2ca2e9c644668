"""Plasticity: permuted inputs and random labels, task after task, with renewal, its rivals, and without.

``python -m benchmarks.renormalizing [--protocol permuted labels] [--seeds 20] [--tune]``. MNIST at 14×14, a perceptron
196→100→100→10. The protocols were fixed on plain training and fresh starts. Settings for permuted inputs were chosen on
seeds 0 to 2: ten tries for each rival (``--tune`` does them again), fourteen for ours, with a look at random labels.
Ours has one setting for both protocols: the defaults of ``Renormalizer``. Seeds from 40 on are reported, since a first
reading, of 30 to 35, was too short to tell; differences are paired by seed, with 95 % intervals. Finished runs are kept
in benchmarks/results/renormalizing.json; ``--fresh`` starts anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import tithe
from tithe import machine
from tithe.audit import Interval, interval
from tithe.files import write_atomically
from tithe.parallel import threads
from tithe.tether.renormalizer import Renormalizer

RESULTS = Path(__file__).parent / "results" / "renormalizing.json"
TUNING_SEEDS, FIRST_SEED = range(3), 40
TASKS, TUNING_TASKS, LAST = 16, 10, 5


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
# What is tried for the rivals; "fresh" begins anew with each task, which none of the others is told of.
TRIES: dict[str, list[dict[str, Any]]] = {
    "shrink-and-perturb": [
        {"every": every, "shrink": shrink, "perturb": perturb}
        for every, shrink, perturb in (
            (125, 0.95, 0.02), (125, 0.9, 0.05), (25, 0.985, 0.02), (25, 0.99, 0.01), (25, 0.99, 0.02),
            (25, 0.99, 0.03), (25, 0.995, 0.01), (5, 0.998, 0.002), (5, 0.998, 0.005), (5, 0.9995, 0.002),
        )
    ],
    "dormant": [
        {"every": every, "threshold": threshold}
        for every, threshold in (
            (125, 0.025), (125, 0.05), (125, 0.1), (125, 0.25), (25, 0.01), (25, 0.025), (25, 0.05), (25, 0.1),
            (500, 0.025), (500, 0.1),
        )
    ],
}  # fmt: skip
ARMS = ("plain", "shrink-and-perturb", "dormant", "renormalise", "fresh")
CHOSEN: dict[str, dict[str, dict[str, Any]]] = {
    "permuted": {"shrink-and-perturb": TRIES["shrink-and-perturb"][3], "dormant": TRIES["dormant"][0]},
    "labels": {"shrink-and-perturb": TRIES["shrink-and-perturb"][8], "dormant": TRIES["dormant"][2]},
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
    data = tithe.data.load("mnist")
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


def run(protocol: str, arm: str, seed: int, settings: dict[str, Any], count: int = TASKS) -> list[float]:
    """Accuracy at the end of each task."""
    plan, settings = PROTOCOLS[protocol], dict(settings)
    found, model = [], None
    for index, (xs, ys, test_x, test_y) in enumerate(tasks(protocol, seed, count)):
        if model is None or arm == "fresh":
            model = network(1000 * index + seed)
            kind: Any = torch.optim.Adam if plan.adam else partial(torch.optim.SGD, momentum=0.9)
            optimizer = kind(model.parameters(), plan.rate, fused=True)
            renormalizer = None
            if arm in ("renormalise", "shrink-and-perturb", "dormant"):
                draw = torch.Generator().manual_seed(seed)
                renormalizer = Renormalizer(model, optimizer, policy=arm, generator=draw, **settings)
        for x, y in zip(xs, ys, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if renormalizer is not None:
                renormalizer.step()
        with torch.inference_mode():
            model.eval()
            found.append(float((model(test_x).argmax(1) == test_y).float().mean()))
            model.train()
    return found


def score(accuracies: list[float]) -> float:
    """The mean of the last five tasks, in percent."""
    return 100 * sum(accuracies[-LAST:]) / LAST


class Store:
    """Finished runs in a file."""

    def __init__(self, fresh: bool) -> None:
        self.rows: dict[str, Any] = {}
        if fresh:
            RESULTS.unlink(missing_ok=True)
        if RESULTS.exists():
            self.rows = json.loads(RESULTS.read_text())["runs"]

    def run(self, protocol: str, arm: str, seed: int, settings: dict[str, Any], count: int = TASKS) -> float:
        """The score of a run, which is done if it was not."""
        plan = PROTOCOLS[protocol]
        how = f"{'adam' if plan.adam else 'momentum'} {plan.rate:g} {plan.steps}x{plan.batch}"
        key = f"{count} {protocol} {how}, {arm}, {json.dumps(settings)}, seed {seed}"
        if key not in self.rows:
            start = time.perf_counter()
            with threads(1):
                accuracies = run(protocol, arm, seed, settings, count)
            if not RESULTS.exists():
                write_atomically(RESULTS, json.dumps({"runs": {}}))
            self.rows[key] = {"accuracies": accuracies, "seconds": time.perf_counter() - start}
            # Another process may have written meanwhile, for the other protocol.
            kept = json.loads(RESULTS.read_text())["runs"] | self.rows
            write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "runs": kept}, indent=1))
            print(f"{key}: {score(accuracies):.2f} %, {self.rows[key]['seconds']:.0f} s", file=sys.stderr, flush=True)
        return score(self.rows[key]["accuracies"])


def tune(store: Store, protocol: str, arm: str) -> dict[str, Any]:
    """Of all tries on the first seed the better two go on to the other tuning seeds; the best mean of these."""
    first, *others = TUNING_SEEDS
    best = sorted(TRIES[arm], key=lambda tried: -store.run(protocol, arm, first, tried, TUNING_TASKS))[:2]
    return max(best, key=lambda tried: sum(store.run(protocol, arm, seed, tried, TUNING_TASKS) for seed in others))


def compare(
    store: Store, protocol: str, seeds: int, arms: Sequence[str] = ARMS, retune: bool = False
) -> dict[str, list[float]]:
    """Scores by arm, one for each seed."""
    found = {}
    for arm in arms:
        settings = dict(CHOSEN[protocol].get(arm, {}))
        if retune and arm in TRIES:
            settings = tune(store, protocol, arm)
            print(f"{protocol}, {arm}: {settings}", file=sys.stderr, flush=True)
        found[arm] = [store.run(protocol, arm, seed, settings) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
    return found


def difference(scores: dict[str, list[float]], arm: str, baseline: str) -> Interval:
    """Of two arms, paired by seed, in points."""
    return interval([a - b for a, b in zip(scores[arm], scores[baseline], strict=True)])


def best_rival(scores: dict[str, list[float]]) -> str:
    """The better of shrink-and-perturb and dormant resets."""
    return max(("shrink-and-perturb", "dormant"), key=lambda arm: sum(scores[arm]))


def show(scores: dict[str, list[float]], protocol: str) -> None:
    """Print one protocol's table."""
    rival = best_rival(scores)
    caption = "mean accuracy of the last five of 16 tasks; intervals of 95 %, paired by seed"
    table = Table("policy", "accuracy", "less plain", f"less {rival}", title=protocol, caption=caption)
    for arm, values in scores.items():
        cells = [in_words(difference(scores, arm, other)) if arm != other else "" for other in ("plain", rival)]
        table.add_row(arm, f"{sum(values) / len(values):.2f} %", *cells)
    Console(width=120).print(table)


def in_words(found: Interval) -> str:
    """A difference and its interval."""
    ends = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.mean:+.2f}{ends}"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tune", action="store_true", help="choose the rivals' settings again")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    arguments = parser.parse_args()
    store = Store(arguments.fresh)
    for protocol in arguments.protocol:
        show(compare(store, protocol, arguments.seeds, retune=arguments.tune), protocol)
    return 0


if __name__ == "__main__":
    sys.exit(main())
