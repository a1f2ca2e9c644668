"""What a run leaves in the sum cache: a record of each neuron that was trained."""

from __future__ import annotations

import math

import numpy as np

from tithe.hashtron.backward.histories import History, Neuron
from tithe.hashtron.backward.records import Record
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.hashtron.pipeline.step import Step

__all__ = ["Recorder", "as_record", "known_histories", "next_run"]


_TOGETHER = 32  # records


class Recorder:
    """Adds the records of one run to a cache; those that an interrupted run left there are not added again.

    Args:
        cache: to add to; ``None`` for nowhere.
        run: number of the run.
        data: fingerprint of the data set.

    Records wait until there are 32, or for ``flush``.
    """

    def __init__(self, cache: SumCache | None, run: int, data: int) -> None:
        self._cache, self._run, self._data = cache, run, data
        self._waiting: list[Record] = []
        self._there = 0 if cache is None else int((cache.records()["run"] == run).sum())

    def __call__(self, step: Step, time: float) -> None:
        """Add a step, if a neuron was trained in it. Raises as ``SumCache.extend`` does. Amortised O(1)."""
        if self._cache is None or step.kind != "trained":
            return
        if self._there:
            self._there -= 1
            return
        self._waiting.append(as_record(step, self._run, time, self._data))
        if len(self._waiting) >= _TOGETHER:
            self._add()

    def flush(self) -> None:
        """Add what waits, and have the cache write it. Raises as ``SumCache.sync`` does. O(it)."""
        if self._cache is not None:
            self._add()
            self._cache.sync()

    def _add(self) -> None:
        if self._cache is not None and self._waiting:
            self._cache.extend(self._waiting)
            self._waiting = []


def as_record(step: Step, run: int, time: float, data: int = 0) -> Record:
    """A step as a record of the sum cache. O(1).

    >>> step = Step(0, 0, 1, 0, "trained", "final", 1, True, 100, 100, 20, 4, 100)
    >>> as_record(step, 1, 0.0).votes
    20
    """
    return Record(
        step.layer, step.position, run, time, votes=step.total, outputs=step.outputs, samples=step.samples,
        pivotal=step.pivotal, premodulo=step.premodulo, seconds=step.seconds, train=step.train,
        eval=math.nan if step.eval is None else step.eval, prior=step.prior, data=data, final=step.final,
    )  # fmt: skip


def next_run(cache: SumCache | None) -> int:
    """The number of a run that comes after all in a cache, from 1. O(n).

    >>> next_run(None)
    1
    """
    return 1 if cache is None or not len(cache) else int(cache.records()["run"].max()) + 1


def known_histories(cache: SumCache | None, data: int, keep: int) -> dict[Neuron, History]:
    """What a cache knows of neurons from earlier runs on the same data, stale records left out. O(n).

    Args:
        cache: to read; ``None`` knows nothing.
        data: fingerprint of the data set.
        keep: how many of the newest tallies of a neuron are wanted.
    """
    if cache is None:
        return {}
    found: dict[Neuron, History] = {}
    rows = cache.records()
    rows = rows[(rows["data"] == np.uint64(data)) & ~rows["stale"]]
    order = np.lexsort((rows["position"], rows["layer"]))  # stable: the earliest of a neuron comes first
    rows = rows[order]
    edges = np.flatnonzero(np.diff(rows["layer"].astype(np.int64)) | np.diff(rows["position"].astype(np.int64))) + 1
    for group in np.split(rows, edges):
        if len(group):
            found[int(group["layer"][0]), int(group["position"][0])] = History.of(group[-keep:])
    return found
