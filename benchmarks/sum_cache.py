"""What the sum cache costs: ``python -m benchmarks.sum_cache [--records 1000000] [--neurons 455]``.

Latest sums and the gold zone, from the cache against a full scan of the same records by pandas; memory and bytes in
files a record; the time that appending, a snapshot and opening take. The bars are for a million records and pandas.
Where that is not installed NumPy scans, which is quicker: a bar that is met then is met. Writes
benchmarks/results/sum_cache.json; fails if a bar is missed. About a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tithe import machine
from tithe.audit.sum_scans import compare, draw, filled, scans
from tithe.files import write_atomically
from tithe.hashtron.backward.records import Rows, as_records
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.meter.memory import PeakMemory

RESULTS = Path(__file__).parent / "results" / "sum_cache.json"
MOST_SHARE, MOST_BYTES, MILLION = 1e-3, 100, 1_000_000  # the bars: of a full scan; of memory a record; at how many


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
    scan = scans(rows)
    queries, same = compare(filled(rows), rows, scan, arguments.repeats)
    assert same, "cache and scan must agree"
    table = Table("what", "figure", "bar", "met")
    met: dict[str, bool | None] = {}
    for what, timed in queries.items():
        holds = timed.ratio <= MOST_SHARE
        met[what] = holds if arguments.records >= MILLION and (holds or scan.name == "pandas") else None
        figure = f"{timed.ratio:.2e} ({timed.low:.2e} to {timed.high:.2e}) of {timed.scan_seconds:.2e} s"
        table.add_row(f"{what} / full scan by {scan.name}", figure, f"≤ {MOST_SHARE:g}", _WORDS[met[what]])
    met["memory"] = cost["bytes"] <= MOST_BYTES
    table.add_row("memory a record", f"{cost['bytes']:.1f} bytes", f"≤ {MOST_BYTES} bytes", _WORDS[met["memory"]])
    for what, unit in (("peak", "bytes a record"), ("file", "bytes a record"), ("append", "s a record"),
                       ("sync", "s a record"), ("snapshot", "s"), ("open", "s")):  # fmt: skip
        if what in cost:
            table.add_row(what, f"{cost[what]:.3g} {unit}", "", "")
    Console().print(table)
    answer = {
        "machine": machine.describe(),
        **vars(arguments),
        "scan": scan.name,
        "queries": {what: timed._asdict() for what, timed in queries.items()},
        "costs": cost,
        "met": met,
    }
    write_atomically(RESULTS, json.dumps(answer, indent=1))
    return 1 if False in met.values() else 0


if __name__ == "__main__":
    sys.exit(main())
