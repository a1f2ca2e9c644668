"""The measurement of L4: three kinds of work, run in many ways by turns, and what each ingredient adds."""

from __future__ import annotations

import math
import os
import statistics
from typing import Any

from tithe.audit import lattice_arms as arms
from tithe.audit.claim import Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.lattice_arms import Spent, race, saved
from tithe.audit.lattice_work import INDEPENDENT, SHARED, TRAINING, WORK, images
from tithe.lattice.usage import cores, own_usage

__all__ = ["INGREDIENTS", "measure"]

# What each ingredient is, and the way of running it is added to.
INGREDIENTS = (
    ("no more threads than cores", arms.FIFO, arms.THREADS),
    ("one wait for all results", arms.WAITED, arms.FIFO),
    ("handing out chunks", arms.CHUNKED, arms.FIFO),
    ("order alone, by coherence", arms.ORDERED, arms.FIFO),
    ("the same data back to back, in chunks, by hand", arms.BY_HAND, arms.CHUNKED),
    ("the same data back to back, in Lattice", arms.IDENTITY, arms.PLAIN),
    ("handing out chunks, in Lattice", arms.IDENTITY, arms.ONE_BY_ONE),
    ("coherence", arms.COHERENCE, arms.IDENTITY),
    ("coherence that costs nothing", arms.KNOWN, arms.IDENTITY),
)
_QUICK = {
    SHARED: (arms.THREADS, arms.FIFO, arms.WAITED, arms.CHUNKED, arms.ORDERED, arms.BY_HAND, arms.PLAIN, arms.IDENTITY,
             arms.COHERENCE),
    TRAINING: (arms.FIFO, arms.WAITED, arms.COHERENCE),
    INDEPENDENT: (arms.FIFO, arms.WAITED, arms.COHERENCE),
}  # fmt: skip
_PARTS = {SHARED: (0.0, 0.6), TRAINING: (0.6, 0.8), INDEPENDENT: (0.8, 1.0)}


def measure(run: Run) -> Evidence:
    """Every way of running on every kind of work, by turns."""
    run.need(own_usage().voluntary is not None, "a system that counts the context switches of a process")
    workers, load = min(cores(), 8), _load()
    rows: list[Row] = []
    parts: list[Row] = []
    against: list[Row] = []
    given = run.left()
    for work, (start, end) in _PARTS.items():
        names = run.pick(quick=_QUICK[work], full=tuple(arms.ARMS))

        def tell(done: float, work: str = work, start: float = start, end: float = end) -> None:
            run.progress(start + done * (end - start), f"{work}: {done:.0%}")

        def left(end: float = end) -> float:
            return math.inf if math.isinf(given) else run.left() - (1 - end) * given

        made, repeats = WORK[work](), run.pick(quick=7, full=31)
        readings = race(made, names, repeats, workers, seed=run.seed, tell=tell, left=left)
        rows.extend(_row(work, name, readings, len(made.tasks)) for name in names)
        against.extend(
            {"work": work, "against": name} | _savings(readings[arms.COHERENCE], readings[name])
            for name in (arms.FIFO, arms.WAITED)
        )
        if work == SHARED:
            parts = [_part(*part, readings) for part in INGREDIENTS if {*part[1:]} <= readings.keys()]
    notes = [
        "Savings are means over paired runs, of ratios on a logarithmic scale. Workers are started beforehand, "
        "numerical libraries have one thread in each, and the orders of the arms that sort cost nothing.",
    ]
    if against[0]["cache_misses_saved"] is None:
        notes.append(
            "The kernel of this machine does not let a process count cache misses. All arms make the same calls, so "
            "that CPU time shows what misses cost."
        )
    facts = {"workers": workers, "load before": load, "load after": _load(), "images": images()[0]}
    if load is not None:
        notes.append(f"The load average was {load:.1f} before and {facts['load after']:.1f} after.")
    tables = {
        "against": _against_table(against), "ingredients": _ingredients_table(parts),
        "arms": _arms_table(rows, workers),
    }  # fmt: skip
    return Evidence(tables, [_plot(rows)], facts, notes)


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _row(work: str, name: str, readings: dict[str, list[Spent]], tasks: int) -> Row:
    row: dict[str, Any] = {"work": work, "arm": name, "tasks": tasks, "repeats": len(readings[name])}
    for unit in arms.UNITS:
        values = [value for spent in readings[name] if (value := getattr(spent, unit)) is not None]
        row[unit] = statistics.median(values) / tasks if values else None
    row["scoring"] = statistics.median(spent.scoring / spent.cpu_seconds for spent in readings[name])
    return row | _savings(readings[name], readings[arms.FIFO])


def _part(ingredient: str, name: str, against: str, readings: dict[str, list[Spent]]) -> Row:
    row = {"ingredient": ingredient, "arm": name, "against": against}
    return row | _savings(readings[name], readings[against])


def _savings(ours: list[Spent], theirs: list[Spent]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for unit in arms.UNITS:
        found = saved(ours, theirs, unit) or (None, None, None)
        row[f"{unit}_saved"], row[f"{unit}_saved_low"], row[f"{unit}_saved_high"] = found
    return row


def _saving_columns() -> list[Column]:
    labels = dict(zip(arms.UNITS, ("switches", "cache misses", "CPU time", "time"), strict=True))
    return [
        Column(f"{unit}_saved", f"{labels[unit]} saved", "+.0%", low=f"{unit}_saved_low", high=f"{unit}_saved_high")
        for unit in arms.UNITS
    ]


def _against_table(rows: list[Row]) -> Table:
    columns = Column("work", "work"), Column("against", "against"), *_saving_columns()
    return Table(f"What {arms.COHERENCE} saves", rows, columns)


def _arms_table(rows: list[Row], workers: int) -> Table:
    columns = (
        Column("work", "work"), Column("arm", "run by"), Column("repeats", "runs"),
        Column("switches", "switches a task", ".2f"), Column("cache_misses", "cache misses a task", ".0f"),
        Column("cpu_seconds", "CPU seconds a task", ".3g"), Column("scoring", "of it scoring", ".1%"),
        *_saving_columns(),
    )  # fmt: skip
    return Table(f"{workers} workers, arms by turns; savings against {arms.FIFO}", rows, columns)


def _ingredients_table(parts: list[Row]) -> Table:
    columns = (
        Column("ingredient", "ingredient"), Column("arm", "with it"), Column("against", "without it"),
        *_saving_columns(),
    )  # fmt: skip
    return Table(f"What each ingredient saves on {SHARED}", parts, columns)


def _plot(rows: list[Row]) -> Plot:
    series = [
        Series(row["arm"], [row["switches"]], [1e6 * row["cpu_seconds"]],
               role="measured" if row["arm"].startswith("Lattice") else "baseline")
        for row in rows if row["work"] == SHARED
    ]  # fmt: skip
    return Plot(f"Ways to run {SHARED}", Axis("context switches a task", log=True), Axis("CPU time a task, µs"), series)
