"""Bars of backward training: the sum cache, the order of a run, what it costs over forward, and the gap."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from benchmarks import sum_cache
from benchmarks.bars.bar import Reading, bar
from tithe.audit.sum_scans import compare, draw, filled, scans

_NEURONS, _REPEATS = 455, 21


@bar("sum-cache")
def sums() -> Iterator[Reading]:
    """A million records: memory, and both queries against full scans by pandas."""
    rows = draw(sum_cache.MILLION, _NEURONS)
    cache = filled(rows)
    size = cache.nbytes / len(rows)
    yield Reading(f"memory of {len(rows):,} records", f"{size:.1f} MB", f"≤ {sum_cache.MOST_BYTES} MB",
                  size <= sum_cache.MOST_BYTES)  # fmt: skip
    scan = scans(rows)
    found, same = compare(cache, rows, scan, _REPEATS)
    for what, timed in found.items():
        holds = timed.ratio <= sum_cache.MOST_SHARE and same
        figure = f"{timed.ratio:.1e} [{timed.low:.1e}, {timed.high:.1e}] of {1e3 * timed.scan_seconds:.2g} ms"
        judged = holds if holds or importlib.util.find_spec("pandas") else None
        yield Reading(f"{what} over a full scan by {scan.name}", figure, f"≤ {sum_cache.MOST_SHARE:g}", judged)
