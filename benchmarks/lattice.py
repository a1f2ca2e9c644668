"""Lattice against pools of the same size: ``python -m benchmarks.lattice [--only shared ...] [--quick]``.

shared       960 statistics of 0.1 to 0.9 ms on 40 shared blocks of images, in all ways of tithe.audit.lattice_arms
independent  tasks of 5 ms and more that share nothing, against ``concurrent.futures``
empty        tasks that do nothing, against ThreadPoolExecutor, ProcessPoolExecutor.map and plain Ray tasks
endurance    200,000 tasks in processes, some of which fail, and 20 killed workers
fairness     how long a task of coherence 0.1 waits in a steady stream of coherent ones

All arms of a comparison run by turns in one process. Writes benchmarks/results/lattice.json, section by section;
``--quick`` is a smoke test and writes lattice-quick.json.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.lattice_endurance import endure
from tithe import machine
from tithe.audit import lattice_arms as arms
from tithe.audit import lattice_work as work
from tithe.audit.lattice_order import waits
from tithe.files import write_atomically
from tithe.lattice import Lattice, Task
from tithe.lattice.libraries import limit_libraries
from tithe.lattice.usage import cores
from tithe.meter import paired

RESULTS = Path(__file__).parent / "results"
THREADS, PROCESSES, RAY = "threads", "processes", "Ray"
CHUNKS = (1, 16, 64)
OURS = (arms.IDENTITY, arms.COHERENCE)
Found = dict[str, Any]
Call = Callable[[], object]


def nothing(number: int) -> int:
    """An empty task."""
    return number


def shared(quick: bool = False, names: tuple[str, ...] = tuple(arms.ARMS)) -> Found:
    """Short tasks on shared data: what each way spends a task, and what both of ours save against others."""
    made, workers = work.shared(rounds=1 if quick else 4), cores()
    with _bar("shared") as tell:
        readings = arms.race(made, names, 3 if quick else 15, workers, tell=tell)
    spent = {name: {unit: _median(readings[name], unit, len(made.tasks)) for unit in arms.UNITS} for name in names}
    savings = {
        ours: {
            other: {unit: arms.saved(readings[ours], readings[other], unit) for unit in arms.UNITS}
            for other in names if other != ours
        }
        for ours in OURS if ours in names
    }  # fmt: skip
    return {"tasks": len(made.tasks), "workers": workers, "images": work.images()[0], "spent": spent, "saved": savings}


def independent(quick: bool = False) -> Found:
    """Long tasks that share nothing, in pairs with a pool that fetches its results one by one."""
    made, workers = work.independent(12 if quick else 48), cores()
    with ExitStack() as stack:
        stack.callback(limit_libraries(1))
        ours, theirs = (stack.enter_context(arms.ARMS[name](made, workers)) for name in (arms.IDENTITY, arms.FIFO))
        found = paired(ours, theirs, 15 if quick else 31, names=("Lattice", "concurrent.futures"))
    task = statistics.median(found.seconds) * workers / len(made.tasks)
    return found.to_dict() | {"workers": workers, "tasks": len(made.tasks), "seconds_a_task": task}


def empty(quick: bool = False) -> Found:
    """Tasks that do nothing: our time over that of a pool which makes the same calls."""
    found = {}
    for name, ours, theirs in _empty_pairs(500 if quick else 2000):
        assert ours() == theirs()
        found[name] = paired(ours, theirs, 7 if quick else 15, names=("Lattice", name)).to_dict()
        print(f"empty tasks, {name}: {found[name]['ratio']:.2f}", file=sys.stderr)
    return found


def endurance(quick: bool = False) -> Found:
    """Tasks that fail and kill, and what became of each."""
    with _bar("endurance") as tell:
        return endure(5_000 if quick else 200_000, 20, cores(), tell=tell)


def fairness(quick: bool = False) -> list[Found]:
    """The longest waits in a stream, with few and with many tasks ready, doing nothing and doing something."""
    rows = []
    for queue in (256, 4096):
        for name, fn in (("nothing", nothing), ("0.1 ms", _tenth_of_a_millisecond)):
            total = 12_000 if quick or fn is not nothing else 100_000
            for workers in sorted({1, cores()}):
                found = waits(workers, total, queue, fn)
                rows.append({"queue": queue, "task": name, "workers": workers, "tasks": total} | found._asdict())
    return rows


SECTIONS: dict[str, Callable[..., Any]] = {
    "shared": shared, "independent": independent, "empty": empty, "endurance": endurance, "fairness": fairness,
}  # fmt: skip


def _median(readings: list[arms.Spent], unit: str, tasks: int) -> float | None:
    values = [value for spent in readings if (value := getattr(spent, unit)) is not None]
    return statistics.median(values) / tasks if values else None


def _tenth_of_a_millisecond(number: int) -> int:
    return sum(range(5_000))


def _empty_pairs(count: int) -> Iterator[tuple[str, Call, Call]]:
    """Names, and two ways of making as many empty calls, on workers that have been started."""
    workers = cores()
    with Lattice(workers) as lattice, ThreadPoolExecutor(workers) as pool:
        yield THREADS, partial(_epoch, lattice, count), partial(_submitted, pool, count)
        yield f"{THREADS}, map", partial(_mapped, lattice, count), partial(_pool_mapped, pool, count, 1)
    for chunk in CHUNKS:
        with Lattice(workers, "processes", chunk=chunk) as lattice, ProcessPoolExecutor(workers) as pool:
            theirs = partial(_pool_mapped, pool, count, chunk)
            yield f"{PROCESSES}, chunks of {chunk}", partial(_epoch, lattice, count), theirs
            yield f"{PROCESSES}, chunks of {chunk}, map", partial(_mapped, lattice, count, chunk), theirs
    if importlib.util.find_spec("ray") is None:
        return
    import ray

    ray.init("local", num_cpus=2 * workers, include_dashboard=False, logging_level="ERROR")  # half of it for Lattice
    try:
        plain = partial(_ray_mapped, ray, ray.remote(nothing), count)
        for name, chunk in ((f"{RAY}, one call at a time", 1), (RAY, None)):
            with Lattice(workers, "ray", chunk=chunk) as lattice:
                yield name, partial(_epoch, lattice, count), plain
    finally:
        ray.shutdown()


def _epoch(lattice: Lattice, count: int) -> list[Any]:
    return lattice.run_epoch([Task(nothing, number) for number in range(count)]).results


def _mapped(lattice: Lattice, count: int, chunk: int | None = None) -> list[Any]:
    return list(lattice.map(nothing, range(count), chunk=chunk))


def _submitted(pool: Executor, count: int) -> list[Any]:
    return [future.result() for future in [pool.submit(nothing, number) for number in range(count)]]


def _pool_mapped(pool: Executor, count: int, chunk: int) -> list[Any]:
    return list(pool.map(nothing, range(count), chunksize=chunk))


def _ray_mapped(ray: Any, remote: Any, count: int) -> list[Any]:
    return list(ray.get([remote.remote(number) for number in range(count)]))


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    """A function to be told the share done."""
    with Progress(console=Console(stderr=True)) as progress:
        step = progress.add_task(what, total=1.0)
        yield lambda done: progress.update(step, completed=done)


def show(section: str, found: Any) -> None:
    """Print a section."""
    console = Console(width=140)
    if section == "shared":
        for table in _shared_tables(found):
            console.print(table)
    elif section == "fairness":
        table = Table(*found[0], title="The longest waits of incoherent tasks, in tasks that begin meanwhile")
        for row in found:
            table.add_row(*map(str, row.values()))
        console.print(table)
    elif section == "endurance":
        table = Table("what", "how much", title="Tasks that fail, and workers that are killed")
        for name, value in found.items():
            table.add_row(name.replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else str(value))
        console.print(table)
    else:
        for name, row in {section: found}.items() if section == "independent" else found.items():
            console.print(f"{name}: {row['ratio']:.3f} of the time [{row['low']:.3f}, {row['high']:.3f}]")


def _shared_tables(found: Found) -> Iterator[Table]:
    title = f"{found['tasks']} tasks on shared blocks, {found['workers']} workers"
    table = Table("run by", *(f"{unit} a task" for unit in arms.UNITS), title=title)
    for name, row in found["spent"].items():
        table.add_row(name, *("" if value is None else f"{value:.3g}" for value in row.values()))
    yield table
    for ours, savings in found["saved"].items():
        table = Table("against", *(f"{unit} saved" for unit in arms.UNITS), title=ours)
        for name, row in savings.items():
            table.add_row(name, *("" if cell is None else in_words(cell) for cell in row.values()))
        yield table


def in_words(saved: tuple[float, float | None, float | None]) -> str:
    """A saving and its interval."""
    mean, low, high = saved
    return f"{mean:+.0%}" + ("" if low is None or high is None else f" [{low:+.0%}, {high:+.0%}]")


def main() -> int:
    """Run the sections that are asked for, print each and write all that there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    path = RESULTS / ("lattice-quick.json" if arguments.quick else "lattice.json")
    kept: Found = json.loads(path.read_text())["sections"] if path.exists() else {}
    for section in arguments.only:
        load = os.getloadavg()[0]
        found = SECTIONS[section](arguments.quick)
        show(section, found)
        day = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        kept[section] = {"found": found, "load": [load, os.getloadavg()[0]], "date": day}
        write_atomically(path, json.dumps({"machine": machine.describe(), "sections": kept}, indent=1))
    return 0


if __name__ == "__main__":
    from benchmarks import lattice  # so that workers find its functions by name

    sys.exit(lattice.main())
