"""A sum cache beside full scans of the same records: by pandas where it is installed, else by NumPy."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.backward.margin import in_gold_zone
from tithe.hashtron.backward.records import ROW, Rows
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.meter import paired

__all__ = ["Query", "Scans", "compare", "draw", "filled", "numpy_scans", "pandas_scans", "scans"]

LAYERS, PART, SAMPLES = 5, 4096, 60_000
_LOOKUPS = 1000  # in one timing, as one alone is too short for the clock


class Scans(NamedTuple):
    """Both queries as full scans, and who makes them."""

    name: str
    latest: Callable[[int, int], int]
    gold: Callable[[], NDArray[np.int64]]


class Query(NamedTuple):
    """What a query costs, of a full scan: the ratio of the times and its interval, and both times in seconds."""

    ratio: float
    low: float
    high: float
    seconds: float
    scan_seconds: float


def draw(count: int, neurons: int, seed: int = 0) -> Rows:
    """Records of so many neurons in five layers, trained again and again in random order. O(count).

    >>> len(draw(10, 3))
    10
    """
    random = np.random.default_rng(seed)
    which = random.integers(neurons, size=count)
    rows = np.zeros(count, ROW)
    rows["layer"], rows["position"], rows["run"] = which % LAYERS, which // LAYERS, np.arange(count) // neurons
    rows["samples"], rows["pivotal"] = SAMPLES, random.integers(100, 3000, count)
    rows["votes"] = rows["pivotal"] * random.uniform(-1, 1, count)
    rows["time"], rows["premodulo"] = np.arange(count), random.integers(1, 1 << 20, count)
    for name in ("train", "eval", "prior"):
        rows[name] = random.random(count)
    return rows


def filled(rows: Rows, path: Path | None = None) -> SumCache:
    """A cache of these records, added some at a time. O(n log n)."""
    cache = SumCache(path, batch=PART)
    for start in range(0, len(rows), PART):
        cache.extend(rows[start : start + PART])
    return cache


def scans(rows: Rows) -> Scans:
    """By pandas where it is installed, else by NumPy."""
    return pandas_scans(rows) if importlib.util.find_spec("pandas") else numpy_scans(rows)


def pandas_scans(rows: Rows) -> Scans:
    """Latest sum and gold zone as a user of pandas would ask for them."""
    pandas: Any = importlib.import_module("pandas")  # which has no types of its own
    frame = pandas.DataFrame({name: rows[name] for name in ROW.names or ()})

    def latest(layer: int, position: int) -> int:
        return int(frame.loc[(frame.layer == layer) & (frame.position == position), "votes"].iloc[-1])

    def gold() -> NDArray[np.int64]:
        last = frame.drop_duplicates(["layer", "position"], keep="last")
        votes = last.pivotal.where(~last.final, last.samples)
        size = last.votes.abs()
        found = last[(size > votes**0.5) & (size < 0.8 * votes) & ~last.stale]
        neurons: NDArray[np.int64] = found[["layer", "position"]].sort_values(["layer", "position"]).to_numpy(np.int64)
        return neurons

    return Scans("pandas", latest, gold)


def numpy_scans(rows: Rows) -> Scans:
    """The same over arrays of the narrow types that the cache has itself."""
    columns = {name: rows[name].copy() for name in ROW.names or ()}

    def latest(layer: int, position: int) -> int:
        here = (columns["layer"] == layer) & (columns["position"] == position)
        return int(columns["votes"][np.flatnonzero(here)[-1]])

    def gold() -> NDArray[np.int64]:
        keys = columns["layer"].astype(np.int64) << 32 | columns["position"]
        unique, first = np.unique(keys[::-1], return_index=True)
        last = len(keys) - 1 - first
        votes = np.where(columns["final"][last], columns["samples"][last], columns["pivotal"][last])
        found = unique[in_gold_zone(columns["votes"][last], votes) & ~columns["stale"][last]]
        return np.stack([found >> 32, found & 0xFFFFFFFF], 1)

    return Scans("NumPy", latest, gold)


def compare(cache: SumCache, rows: Rows, scan: Scans, repeats: int) -> tuple[dict[str, Query], bool]:
    """What both queries cost by turns with the scans, and whether their answers are the same.

    >>> rows = draw(1000, 20)
    >>> costs, same = compare(filled(rows), rows, numpy_scans(rows), repeats=6)
    >>> sorted(costs), same
    (['gold zone', 'latest sum'], True)
    """
    random = np.random.default_rng(1)
    asked = [(int(row["layer"]), int(row["position"])) for row in random.choice(rows, _LOOKUPS)]
    same = all(cache.latest_sum(*neuron) == scan.latest(*neuron) for neuron in asked[:20])
    same = same and np.array_equal(cache.gold_zone(), scan.gold())

    def lookups() -> None:
        for layer, position in asked:
            cache.latest_sum(layer, position)

    def zones() -> None:
        for _ in range(_LOOKUPS):
            cache.gold_zone()

    found = {}
    for what, ours, theirs in (
        ("latest sum", lookups, lambda: scan.latest(*asked[0])),
        ("gold zone", zones, scan.gold),
    ):
        timed = paired(ours, theirs, repeats)
        ratio, low, high, seconds = (x / _LOOKUPS for x in (timed.ratio, timed.low, timed.high, timed.seconds[0]))
        found[what] = Query(ratio, low, high, seconds, timed.seconds[1])
    return found, same
