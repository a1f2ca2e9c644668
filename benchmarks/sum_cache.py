"""What the sum cache costs: ``python -m benchmarks.sum_cache [--records 1000000] [--neurons 455]``.

Latest sums and the gold zone, from the cache against a full scan of the same records by pandas; memory and bytes in
files a record; the time that appending, a snapshot and opening take. The bars are for a million records and pandas.
Where that is not installed NumPy scans, which is quicker: a bar that is met then is met. Writes
benchmarks/results/sum_cache.json; fails if a bar is missed. About a minute on one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tithe import machine
from tithe.files import write_atomically
from tithe.hashtron.backward.margin import in_gold_zone
from tithe.hashtron.backward.records import ROW, Rows, as_records
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.meter import paired
from tithe.meter.memory import PeakMemory

RESULTS = Path(__file__).parent / "results" / "sum_cache.json"
MOST_SHARE, MOST_BYTES, MILLION = 1e-3, 100, 1_000_000  # the bars: of a full scan; of memory a record; at how many
LAYERS, PART, SAMPLES = 5, 4096, 60_000
_LOOKUPS = 1000  # in one timing, as one alone is too short for the clock


def draw(count: int, neurons: int, seed: int = 0) -> Rows:
    """Records of so many neurons in five layers, trained again and again in random order."""
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
    """A cache of these records, added some at a time."""
    cache = SumCache(path, batch=PART)
    for start in range(0, len(rows), PART):
        cache.extend(rows[start : start + PART])
    return cache


Scans = tuple[str, Callable[[int, int], int], Callable[[], NDArray[np.int64]]]


def pandas_scans(rows: Rows) -> Scans:
    """Latest sum and gold zone as a user of pandas would ask for them."""
    import pandas

    frame = pandas.DataFrame({name: rows[name] for name in ROW.names or ()})

    def latest(layer: int, position: int) -> int:
        return int(frame.loc[(frame.layer == layer) & (frame.position == position), "votes"].iloc[-1])

    def gold() -> NDArray[np.int64]:
        last = frame.drop_duplicates(["layer", "position"], keep="last")
        votes = last.pivotal.where(~last.final, last.samples)
        size = last.votes.abs()
        found = last[(size > votes**0.5) & (size < 0.8 * votes) & ~last.stale]
        return found[["layer", "position"]].sort_values(["layer", "position"]).to_numpy(np.int64)

    return "pandas", latest, gold


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

    return "NumPy", latest, gold


def compare(cache: SumCache, rows: Rows, repeats: int, scans: Scans) -> dict[str, Any]:
    """Times of both queries over those of the scans, and whether the answers are the same."""
    name, scan_latest, scan_gold = scans
    random = np.random.default_rng(1)
    asked = [(int(row["layer"]), int(row["position"])) for row in random.choice(rows, _LOOKUPS)]
    assert all(cache.latest_sum(*neuron) == scan_latest(*neuron) for neuron in asked[:20])
    assert np.array_equal(cache.gold_zone(), scan_gold())

    def lookups() -> None:
        for layer, position in asked:
            cache.latest_sum(layer, position)

    def zones() -> None:
        for _ in range(_LOOKUPS):
            cache.gold_zone()

    found: dict[str, Any] = {}
    for what, ours, theirs in (
        ("latest sum", lookups, lambda: scan_latest(*asked[0])),
        ("gold zone", zones, scan_gold),
    ):
        timed = paired(ours, theirs, repeats)
        found[what] = {
            "scan": name, "seconds": timed.seconds[0] / _LOOKUPS, "scan_seconds": timed.seconds[1],
            **{end: getattr(timed, end) / _LOOKUPS for end in ("ratio", "low", "high")},
        }  # fmt: skip
    return found


def costs(rows: Rows) -> dict[str, float]:
    """Bytes a record, and times of writing and reading."""
    memory = PeakMemory("cpu")
    memory.start()
    cache = filled(rows)
    peak = memory.stop()
    found: dict[str, float] = {"bytes": cache.nbytes / len(rows)}
    grown = next(iter(peak.values()), None)
    if grown is not None:
        found["peak"] = grown / len(rows)
    some = as_records(rows[:1000])
    found["append"] = _timed(lambda: [cache.append(record) for record in some]) / len(some)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sums"
        with filled(rows, path) as kept:
            found["sync"] = _timed(lambda: [(kept.append(record), kept.sync()) for record in some[:100]]) / 100
            found["snapshot"] = _timed(kept.snapshot)
        found["file"] = (path / "snapshot-00000001.sums").stat().st_size / len(rows)
        found["open"] = _timed(lambda: SumCache(path).close())
    return found


_WORDS = {True: "yes", False: "no", None: "not judged"}


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> int:
    """Measure, print, write; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=MILLION)
    parser.add_argument("--neurons", type=int, default=455)
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    rows = draw(arguments.records, arguments.neurons)
    cost = costs(rows)
    scans = pandas_scans(rows) if importlib.util.find_spec("pandas") else numpy_scans(rows)
    queries = compare(filled(rows), rows, arguments.repeats, scans)
    table = Table("what", "figure", "bar", "met")
    met: dict[str, bool | None] = {}
    for what, timed in queries.items():
        holds = timed["ratio"] <= MOST_SHARE
        met[what] = holds if arguments.records >= MILLION and (holds or timed["scan"] == "pandas") else None
        figure = f"{timed['ratio']:.2e} ({timed['low']:.2e} to {timed['high']:.2e}) of {timed['scan_seconds']:.2e} s"
        table.add_row(f"{what} / full scan by {timed['scan']}", figure, f"≤ {MOST_SHARE:g}", _WORDS[met[what]])
    met["memory"] = cost["bytes"] <= MOST_BYTES
    table.add_row("memory a record", f"{cost['bytes']:.1f} bytes", f"≤ {MOST_BYTES} bytes", _WORDS[met["memory"]])
    for what, unit in (("peak", "bytes a record"), ("file", "bytes a record"), ("append", "s a record"),
                       ("sync", "s a record"), ("snapshot", "s"), ("open", "s")):  # fmt: skip
        if what in cost:
            table.add_row(what, f"{cost[what]:.3g} {unit}", "", "")
    Console().print(table)
    answer = {"machine": machine.describe(), **vars(arguments), "queries": queries, "costs": cost, "met": met}
    write_atomically(RESULTS, json.dumps(answer, indent=1))
    return 1 if False in met.values() else 0


if __name__ == "__main__":
    sys.exit(main())
