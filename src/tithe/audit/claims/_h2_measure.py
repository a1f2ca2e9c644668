"""The measurement of H2: a million records, a real history, a writer that is killed, and files that are damaged."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tithe.audit.claim import Run
from tithe.audit.claims.h2_sum_cache import DAMAGED, KILLED, TORN
from tithe.audit.evidence import Column, Evidence, Row, Table
from tithe.audit.hashtron_tasks import BALANCED, TOPOLOGY, present, split
from tithe.audit.sum_scans import compare, draw, filled, scans
from tithe.errors import CorruptFileError
from tithe.hashtron import Network
from tithe.hashtron.backward.records import ROW, Rows
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.hashtron.pipeline.pipeline import Pipeline

__all__ = ["history", "measure", "survived"]

_RECORDS, _NEURONS = 1_000_000, 455
_BATCH = 8
# Appends records over and over, a snapshot now and then, and tells how many are safe.
_WRITER = """
import sys, numpy
from tithe.hashtron.backward.records import ROW
from tithe.hashtron.backward.sum_cache import SumCache
rows = numpy.fromfile(sys.argv[1], ROW)
with SumCache(sys.argv[2], batch=8) as cache:
    while True:
        for start in range(0, len(rows), 8):
            cache.extend(rows[start:start + 8])
            cache.sync()
            print(len(cache), flush=True)
        cache.snapshot()
"""


def measure(run: Run) -> Evidence:
    """What a million records cost, then what becomes of the records of real runs."""
    run.progress(0.0, "a million records")
    rows = draw(_RECORDS, _NEURONS, run.seeds(1)[0])
    cache = filled(rows)
    scan = scans(rows)
    queries, same = compare(cache, rows, scan, run.pick(quick=7, full=21))
    costs: list[Row] = [
        {"query": what, "scan": scan.name, **timed._asdict(), "same": same} for what, timed in queries.items()
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run.progress(0.4, "records of real runs")
        task = present()[0]
        records, facts = history(folder / "history", task, run.seeds(3))
        survival = [
            _killed(run, folder, records, run.pick(quick=3, full=25)),
            *(survived(folder / kind, records, kind, run.pick(quick=40, full=400), run.seeds(1)[0])
              for kind in (TORN, DAMAGED)),
        ]  # fmt: skip
    tables = {
        "costs": Table(f"Queries of {_RECORDS:,} records of {_NEURONS} neurons", costs, (
            Column("query", "query"), Column("scan", "full scan by"), Column("seconds", "seconds", ".2g"),
            Column("scan_seconds", "of the scan, s", ".2g"), Column("ratio", "ratio", ".1e", "low", "high"),
            Column("same", "same answers"))),
        "survival": Table(f"{len(records)} records of real runs, {_BATCH} a batch", survival, (
            Column("what", "what was done"), Column("tries", "times"), Column("right", "as promised"),
            Column("lost", "records lost at most"))),
    }  # fmt: skip
    facts |= {"task": task, "bytes": cache.nbytes / len(rows), "records": len(rows)}
    return Evidence(tables, facts=facts)


def history(folder: Path, task: str, seeds: tuple[int, ...]) -> tuple[Rows, dict[str, Any]]:
    """The records of real runs, and what a cache that was closed and opened says of them, checked by hand."""
    x, y = split(task, seeds[0]).known
    with SumCache(folder) as cache:
        for seed in seeds:
            Pipeline(final="majority", balanced=BALANCED).fit(
                Network.random(TOPOLOGY, np.random.default_rng(seeds[0])), x, y, seed=seed, cache=cache
            )
        before = cache.records()
    with SumCache(folder) as cache:
        records = cache.records()
        averages, trends = [], 0
        neurons = {(int(row["layer"]), int(row["position"])) for row in records}
        for layer, position in neurons:
            sums = records["votes"][(records["layer"] == layer) & (records["position"] == position)][::-1][:3]
            by_hand = sum(w * int(s) for w, s in zip((3, 2, 1), sums, strict=False)) / sum((3, 2, 1)[: len(sums)])
            found = cache.average_sum(layer, position)
            averages.append(found is not None and math.isclose(found, by_hand, abs_tol=1e-9))
            trends += not math.isnan(cache.trend(layer, position).slope)
        golden = len(cache.gold_zone())
        marked = cache.mark_stale(data=int(records["data"][0]) ^ 1)
        doubtful = len(cache.gold_zone()) == 0 and cache.average_sum(*min(neurons)) is None
    with SumCache(folder) as cache:
        kept = bool(cache.records()["stale"].all())
    return before, {
        "reopened": before.tobytes() == records.tobytes(), "neurons": len(neurons), "averages": sum(averages),
        "trends": trends, "gold": golden, "stale": marked == len(records) and doubtful and kept,
    }  # fmt: skip


def _killed(run: Run, folder: Path, records: Rows, tries: int) -> Row:
    """Kill a writer at a random moment; what it said was safe must be there, and nothing but what it wrote."""
    random, right, lost = np.random.default_rng(run.seeds(1)), 0, 0
    source = folder / "records"
    records.tofile(source)
    for number in range(tries):
        run.progress(0.5 + 0.3 * number / tries, f"kill -9, {number + 1} of {tries}")
        target = folder / f"killed-{number}"
        command = [sys.executable, "-c", _WRITER, str(source), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(int(random.integers(1, 60))):
                told = writer.stdout.readline()
            time.sleep(float(random.uniform(0, 0.01)))
            writer.kill()
            safe = int((writer.stdout.read().split() or [told])[-1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a torn end is what there should be
            with SumCache(target) as cache:
                found = cache.records()
        whole = np.tile(records, len(found) // len(records) + 1)[: len(found)]
        right += safe <= len(found) <= safe + _BATCH and found.tobytes() == whole.tobytes()
        lost = max(lost, safe - len(found))
    return {"what": KILLED, "tries": tries, "right": right, "lost": max(0, lost)}


def survived(folder: Path, records: Rows, kind: str, tries: int, seed: int) -> Row:
    """Damage a file of a whole cache: what is read must be what was written, up to some batch, or be refused.

    A torn journal may lose what was torn; other damage must also be told of.
    """
    random, right, lost = np.random.default_rng([seed, len(kind)]), 0, 0
    whole = folder / "whole"
    with SumCache(whole, batch=_BATCH) as cache:
        for start in range(0, len(records), _BATCH):
            if start in (_BATCH * 4, _BATCH * 8):
                cache.snapshot()
            cache.extend(records[start : start + _BATCH])
    names = sorted(path.name for path in whole.iterdir() if path.suffix == ".sums")
    for number in range(tries):
        copy = folder / str(number)
        shutil.copytree(whole, copy)
        path = copy / (max(n for n in names if "journal" in n) if kind == TORN else names[number % len(names)])
        content = bytearray(path.read_bytes())
        place = int(random.integers(len(content)))
        if kind == TORN:
            content = content[:place]
        else:
            content[place] ^= int(random.integers(1, 256))
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                with SumCache(copy) as cache:
                    found, told = cache.records(), cache.recovered
        except CorruptFileError:
            found, told = np.empty(0, ROW), "refused"
        same = len(found) <= len(records) and found.tobytes() == records[: len(found)].tobytes()
        right += same and bool(told or len(found) == len(records) or kind == TORN)
        lost = max(lost, len(records) - len(found))
        shutil.rmtree(copy)
    return {"what": kind, "tries": tries, "right": right, "lost": lost}
