"""What the cache's advice is worth: ``python -m benchmarks.capacity_advice [--seeds 10] [--sweeps 3]``.

*Capacity*: runs in which every training got a capacity of a random octave, then ``recommended_capacity`` of their
records; new runs with that capacity against a random octave, the capacity law and no cap, by test accuracy, paired by
seed. *Phases*: a predictor of ``pipeline.phases`` that has seen the runs of some seeds, asked about runs of others; and
one that has seen all tasks but one, asked about that one. Tasks are those of the audit's claims; what is learned from
the records is learned without test samples. Writes benchmarks/results/capacity_advice.json. Some
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tithe import machine
from tithe.audit.hashtron_tasks import BALANCED, TASKS, majority_network, split
from tithe.files import write_atomically
from tithe.hashtron import Pipeline, SumCache
from tithe.hashtron.backward.histories import History, Neuron
from tithe.hashtron.backward.recommendation import Recommendation, recommended_capacity
from tithe.hashtron.backward.records import Rows
from tithe.hashtron.pipeline.phases import Evaluation, evaluated
from tithe.meter.intervals import Interval, interval

RESULTS = Path(__file__).parent / "results" / "capacity_advice.json"
OCTAVES = 9  # capacities from 1 to 2^9
PAST = 4  # runs of which there are records
ARMS = ("recommended", "random octave", "law", "none")
_POLICIES: tuple[Any, ...] = ("law", {"name": "constant", "premodulo": 256}, "none")


@dataclass(frozen=True)
class RandomOctaves:
    """A policy that gives each training a capacity from a random octave, for records to learn from."""

    seed: int
    reads: int = 1 << 16

    def premodulo(self, neuron: Neuron, histories: Mapping[Neuron, History]) -> int:
        """From 1 to 4^9, another one at each training of a neuron."""
        random = np.random.default_rng([self.seed, *neuron, len(histories[neuron].sums)])
        return math.ceil(4 ** (OCTAVES * random.random()))


def past(task: str, sweeps: int) -> Rows:
    """Records of runs with random octaves, measured on a part of what is known."""
    cache = SumCache()
    for seed in range(PAST):
        known, later = split(task, seed).fold(seed)
        pipeline = Pipeline(final="majority", sweeps=sweeps, policy=RandomOctaves(seed), balanced=BALANCED)
        pipeline.fit(majority_network(seed), *known, seed=seed, held_out=later, cache=cache)
    return cache.records()


def accuracies(task: str, seed: int, sweeps: int, advice: Recommendation) -> dict[str, float]:
    """Test accuracy of a new run with each way to choose a capacity."""
    octave = np.random.default_rng([seed, 7]).integers(OCTAVES)
    policies: dict[str, Any] = {
        "recommended": {"name": "constant", "premodulo": max(1, round(advice.capacity**2))},
        "random octave": {"name": "constant", "premodulo": math.ceil(4 ** (octave + 0.5))},
        "law": "law",
        "none": "none",
    }
    samples, found = split(task, seed), {}
    for arm in ARMS:
        pipeline = Pipeline(final="majority", sweeps=sweeps, policy=policies[arm], balanced=BALANCED)
        network = pipeline.fit(majority_network(seed), *samples.known, seed=seed).network
        x, y = samples.test
        found[arm] = float((network.predict(x) == y).mean())
    return found


def capacities(seeds: int, sweeps: int) -> Iterator[dict[str, Any]]:
    """For each task the advice, and the accuracies of new runs."""
    for task in TASKS:
        advice = recommended_capacity(past(task, sweeps))
        if advice is not None:
            runs = [accuracies(task, seed, sweeps, advice) for seed in range(PAST, PAST + seeds)]
            yield {"task": task, "advice": asdict(advice), "runs": runs}


def measured(seeds: range, sweeps: int) -> dict[str, Rows]:
    """Records of a run for each task and seed, with three policies in turn."""
    found = {}
    for task in TASKS:
        cache = SumCache()
        for seed in seeds:
            known, later = split(task, seed).fold(seed % 4)
            policy = _POLICIES[seed % len(_POLICIES)]
            pipeline = Pipeline(final="majority", sweeps=sweeps, policy=policy, balanced=BALANCED)
            pipeline.fit(majority_network(seed), *known, seed=seed, held_out=later, cache=cache)
        found[task] = cache.records()
    return found


def joined(parts: Mapping[str, Rows], without: str = "") -> Rows:
    """Records of all tasks but one, under run numbers that differ."""
    found = []
    for number, (task, rows) in enumerate(parts.items()):
        if task != without:
            rows = rows.copy()
            rows["run"] += 10_000 * number
            found.append(rows)
    return np.concatenate(found)


def phases(seeds: int, sweeps: int) -> dict[str, Evaluation]:
    """How right predictions were, for other seeds and for other tasks."""
    earlier, later = measured(range(2 * PAST), sweeps), measured(range(2 * PAST, 2 * PAST + seeds), sweeps)
    found = {"other seeds": evaluated(joined(earlier), joined(later))}
    for task in TASKS:
        found[f"without {task}"] = evaluated(joined(earlier, without=task), later[task])
    return found


def _shown(points: Interval) -> str:
    return f"{100 * points.mean:+.1f} [{100 * (points.low or 0):+.1f}, {100 * (points.high or 0):+.1f}]"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sweeps", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # of networks whose hidden neurons cannot learn
    table = Table("task", "recommended", *ARMS, *(f"against {arm}, points" for arm in ARMS[1:]))
    rows = []
    for row in capacities(arguments.seeds, arguments.sweeps):
        rows.append(row)
        means = [f"{np.mean([run[arm] for run in row['runs']]):.3f}" for arm in ARMS]
        gains = [interval([run["recommended"] - run[arm] for run in row["runs"]]) for arm in ARMS[1:]]
        table.add_row(row["task"], f"{row['advice']['capacity']:.1f}", *means, *map(_shown, gains))
    by_task = [
        interval([float(np.mean([run["recommended"] - run[arm] for run in row["runs"]])) for row in rows])
        for arm in ARMS[1:]
    ]
    table.add_row("mean of tasks", "", *[""] * len(ARMS), *map(_shown, by_task))
    Console(width=200).print(table)
    answers = phases(arguments.seeds, arguments.sweeps)
    table = Table(
        "will held-out accuracy rise?", "predictor", "yes", "no", "as before", "not as before", "gain, points", "runs"
    )
    for name, found in answers.items():
        shares = [f"{share:.3f}" for share in (found.predicted, *found.trivial.values())]
        table.add_row(name, *shares, _shown(found.gain), str(found.runs))
    Console(width=200).print(table)
    answer = {
        "machine": machine.describe(), **vars(arguments), "capacity": rows,
        "against": dict(zip(ARMS[1:], by_task, strict=True)),
        "phases": {name: asdict(found) for name, found in answers.items()},
    }  # fmt: skip
    write_atomically(RESULTS, json.dumps(answer, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
