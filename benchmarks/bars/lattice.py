"""Bars of Lattice: shared data, long tasks, empty tasks, tasks that fail and kill, and who waits."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import lattice
from benchmarks.bars.bar import Reading, bar
from tithe.audit import lattice_arms as arms

_SAVED = 0.2
_MOST = {lattice.THREADS: 2.0, lattice.PROCESSES: 1.2, lattice.RAY: 1.2}
_GROWTH = 32 << 20  # bytes beyond what a tenth of the tasks takes


@bar("lattice-shared")
def shared() -> Iterator[Reading]:
    """Short statistics on shared blocks: switches and CPU time, of Lattice as it comes and with coherence."""
    found = lattice.shared(names=(arms.THREADS, arms.FIFO, arms.WAITED, *lattice.OURS))
    for ours, savings in found["saved"].items():
        for unit, name in (("switches", "context switches"), ("cpu_seconds", "CPU time")):
            saved = savings[arms.FIFO][unit]
            holds = saved.mean >= _SAVED and saved.low is not None and saved.low > 0
            figure = f"{lattice.in_words(saved)} (over one wait for all {lattice.in_words(savings[arms.WAITED][unit])})"
            what = f"{ours}, {name} saved over a {arms.FIFO} of {found['workers']}"
            yield Reading(what, figure, f"≥ {_SAVED:.0%}, interval above 0", holds)
        saved = savings[arms.THREADS]["switches"]
        what = f"{ours}, context switches saved over {arms.THREADS}"
        yield Reading(what, lattice.in_words(saved), "≥ 80%", saved.mean >= 0.8)


@bar("lattice-independent")
def independent() -> Iterator[Reading]:
    """Long tasks that share nothing, in pairs with concurrent.futures."""
    found = lattice.independent()
    figure = f"{found['ratio']:.3f} of the time [{found['low']:.3f}, {found['high']:.3f}], {found['repeats']} pairs"
    what = f"independent tasks of {1e3 * found['seconds_a_task']:.1f} ms over concurrent.futures"
    holds = found["high"] <= 1.03 if found["seconds_a_task"] >= 0.005 else None
    yield Reading(what, figure, "upper end ≤ 1.03", holds)


@bar("lattice-empty")
def empty() -> Iterator[Reading]:
    """Tasks that do nothing, over the pool that makes the same calls: ``map`` over ``map``, tasks over futures."""
    found = lattice.empty()
    for name, row in found.items():
        kind, as_map = name.split(",")[0], f"{name}, map"
        if kind == lattice.PROCESSES and as_map in found:
            continue  # futures of processes are no peer of chunks: it is told beside map
        figure = f"{row['ratio']:.2f}× [{row['low']:.2f}, {row['high']:.2f}]"
        if kind == lattice.PROCESSES:
            figure += f" (as tasks of an epoch {found[name.removesuffix(', map')]['ratio']:.2f}×)"
        yield Reading(f"empty tasks, {name}", figure, f"≤ {_MOST[kind]:g}×", row["ratio"] <= _MOST[kind])


@bar("lattice-endurance")
def endurance() -> Iterator[Reading]:
    """200,000 tasks in processes, some of which fail or kill their worker."""
    found = lattice.endurance()
    tasks, lost = found["tasks"], found["lost_workers"]
    holds = found["once"] == found["outcomes"] == tasks and not found["wrong"] and lost == found["kills"]
    figure = f"{found['once']:,} with one outcome, {found['wrong']} with a wrong one, {lost} workers lost"
    yield Reading(
        f"{tasks:,} tasks with failures and {found['kills']} killed workers", figure, "all one, none wrong", holds
    )
    grown = found["memory"]["most"] - found["memory"]["early"]
    figure = f"{grown / 2**20:+.1f} MiB after the first tenth, {found['memory']['most'] / 2**20:.0f} MiB at most"
    yield Reading("memory, outcomes not kept", figure, f"≤ +{_GROWTH >> 20} MiB", grown <= _GROWTH)


@bar("lattice-fairness")
def fairness() -> Iterator[Reading]:
    """A task of coherence 0.1 in a steady stream of coherent ones."""
    for row in lattice.fairness():
        what = f"tasks of {row['task']}, {row['queue']} ready, {row['workers']} workers: overtaken"
        figure = f"by {row['overtaken']:,} at most, begins after {row['waited']:,}"
        target = f"≤ {row['overtaking']:,}, after ≤ {row['queue'] + row['overtaking']:,}"
        holds = row["overtaken"] <= row["overtaking"] and row["waited"] <= row["queue"] + row["overtaking"]
        yield Reading(what, figure, target, holds)
