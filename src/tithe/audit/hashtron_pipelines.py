"""Whole runs of pipelines on the tasks: how they end, in which order they go, and what going backward costs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from tithe.audit.evidence import Row
from tithe.audit.hashtron_tasks import BALANCED, COLUMNS, TOPOLOGY, Examples, split, topology
from tithe.audit.statistics import interval
from tithe.hashtron import Layer, Network, SumCache, Topology
from tithe.hashtron.backward.policies import Policy
from tithe.hashtron.combiners import Full, MajorityPool
from tithe.hashtron.pipeline.pipeline import Pipeline, Run
from tithe.hashtron.pipeline.step import Step
from tithe.meter import paired

__all__ = [
    "DEEP",
    "LAST",
    "Cost",
    "End",
    "Given",
    "begins_with_the_last",
    "difference",
    "end",
    "ended",
    "goes_back",
    "overhead",
]

Given = str | Mapping[str, Any] | Policy | None
Direction = Literal["backward", "forward"]
LAST: Literal["majority"] = "majority"
DEEP = Topology((
    Layer(45, combiner=Full(size=45, bits=3, maxbits=3)),
    Layer(15, combiner=MajorityPool(width=5, height=1, subwidth=3, capwidth=5)),
    Layer(1),
))  # fmt: skip


class End(NamedTuple):
    """Accuracies where a run has ended."""

    train: float
    test: float
    prior: float

    @property
    def gap(self) -> float:
        """How much better it is on what it has learned from."""
        return self.train - self.test


class Cost(NamedTuple):
    """Time of a run backward over one forward, as many trainings: ratio, interval, that of CPU times, and seconds."""

    ratio: float
    low: float
    high: float
    cpu: float
    seconds: float
    forward_seconds: float
    trained: int


def ended(
    known: Examples,
    seed: int,
    *,
    held_out: Examples | None = None,
    policy: Given = "law",
    direction: Direction = "backward",
    final: Literal["votes", "majority"] = LAST,
    sweeps: int = 1,
    topology: Topology = TOPOLOGY,
    cache: SumCache | None = None,
) -> Run:
    """One run of a pipeline, from hashtrons that are the same for the same seed. O(sweeps · neurons · N)."""
    start = Network.random(topology, np.random.default_rng(seed))
    pipeline = Pipeline(direction=direction, policy=policy, final=final, sweeps=sweeps, balanced=BALANCED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what a run warns of is in `Run.warnings`
        return pipeline.fit(start, *known, seed=seed, held_out=held_out, cache=cache)


def end(task: str, seed: int, columns: int = COLUMNS, **options: Any) -> End:
    """Where a run on a task ends, of a network of so many hashtrons; options as of :func:`ended`.

    >>> found = end("breast cancer", 0, policy={"name": "constant", "premodulo": 64})
    >>> 0.5 < found.test < found.train <= 1
    True
    """
    samples = split(task, seed, columns)
    last = ended(samples.known, seed, held_out=samples.test, topology=topology(columns), **options).steps[-1]
    assert last.eval is not None
    return End(last.train, last.eval, last.prior)


def difference(control: str, ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> Row:
    """A row of what is better, in points: ``test`` and ``gap`` with their intervals, over a ``control``.

    Args:
        control: its name.
        ours: accuracies in training and in test.
        theirs: as many of the control, pair by pair.

    Returns:
        The row, with the number of ``pairs``. O(pairs).

    >>> row = difference("none", [(0.9, 0.8), (0.9, 0.7)], [(1.0, 0.8), (1.0, 0.7)])
    >>> row["test"], round(row["gap"], 9), row["pairs"]
    (0.0, -10.0, 2)
    """
    row: dict[str, Any] = {"control": control, "pairs": len(ours)}
    tests = [100 * (a[1] - b[1]) for a, b in zip(ours, theirs, strict=True)]
    gaps = [100 * (a[0] - a[1] - b[0] + b[1]) for a, b in zip(ours, theirs, strict=True)]
    for key, values in (("test", tests), ("gap", gaps)):
        row[key], row[f"{key}_low"], row[f"{key}_high"] = interval(values)
    return row


def begins_with_the_last(steps: Sequence[Step]) -> bool:
    """Whether a run begins with a final neuron. O(1)."""
    return bool(steps) and steps[0].final


def goes_back(steps: Sequence[Step]) -> bool:
    """Whether the number of the layer never rises within a sweep, but in steps of the kind ``"forward"``. O(steps).

    >>> goes_back(ended(split("breast cancer", 0).known, 0, sweeps=2).steps)
    True
    """
    return all(
        after.layer <= before.layer or after.kind == "forward" or after.sweep > before.sweep
        for before, after in pairwise(steps)
    )


def overhead(known: Examples, repeats: int, *, policy: Given = "none", seed: int = 0) -> Cost:
    """What the law and a cache cost backward, over a run forward with another policy and no cache, by turns.

    Args:
        known: what is learned from.
        repeats: pairs of runs, at least 6.
        policy: of the runs forward: none, as the reference, or the law, so that only the way differs.
        seed: of the runs.

    Returns:
        The ratio of times for each neuron that was trained. O(repeats · neurons · N).
    """

    def backward() -> Run:
        return ended(known, seed, cache=SumCache())

    def forward() -> Run:
        return ended(known, seed, policy=policy, direction="forward")

    counts = [sum(step.kind == "trained" for step in way().steps) for way in (backward, forward)]
    timed = paired(backward, forward, repeats)
    share = counts[1] / counts[0]
    ratios = (timed.ratio, timed.low, timed.high, timed.cpu_ratio or timed.ratio)
    ratio, low, high, cpu = (each * share for each in ratios)
    return Cost(ratio, low, high, cpu, *timed.seconds, counts[0])
