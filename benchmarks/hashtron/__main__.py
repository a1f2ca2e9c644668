"""The hashtron estimators against strong rivals, by accuracy, bytes and time: ``python -m benchmarks.hashtron``.

    python -m benchmarks.hashtron --quick                      a smoke test of minutes: some rows, small settings
    python -m benchmarks.hashtron --tasks digits wine --jobs 2  two cells at a time
    python -m benchmarks.hashtron --list | xargs -P 16 -L 1 python -m benchmarks.hashtron --cell
    python -m benchmarks.hashtron --merge                      tables, JSON and curve of what there is

Every pair of a task and a rival is a cell, measured in a process and kept in a file of its own under
benchmarks/results/hashtron/, which is written after each fit: an interrupted run goes on where it was. Cells with other
settings or versions are measured anew. Writes benchmarks/results/hashtron.json and hashtron-bytes.png. 1 where a cell
failed; 0 also where a rival is better, or a rival or data set is not available, which the tables then say.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.hashtron.cells import cells, finished, path_of, read_cell, run_cell
from benchmarks.hashtron.measure import fits, runs
from benchmarks.hashtron.report import draw_curves, print_tables, read_all, write_json
from benchmarks.hashtron.rivals import RIVALS
from benchmarks.hashtron.tasks import TASKS

_WIDTH = 170  # of the tables where the output is no terminal


def main() -> int:
    """Run what is asked for; 1 if a cell failed."""
    options = _options()
    if options.cell:
        return _one(options)
    pairs = cells(options.tasks, options.rivals)
    if options.list:
        print("\n".join(f"{task.name} {rival.name}" for task, rival in pairs))
        return 0
    if options.fresh:
        for task, rival in pairs:
            path_of(task, rival, quick=options.quick).unlink(missing_ok=True)
    crashed = [] if options.merge else _run_all(options)
    found = read_all(options.tasks, options.rivals, quick=options.quick)
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    print_tables(found, console)
    write_json(read_all(list(TASKS), list(RIVALS), quick=options.quick), quick=options.quick)
    if picture := draw_curves(read_all(list(TASKS), list(RIVALS), quick=options.quick), quick=options.quick):
        console.print(f"{picture}: validation score against bytes of all candidates")
    failed = [cell for by_rival in found.values() for cell in by_rival.values() if cell["state"] == "failed"]
    for name in crashed:
        console.print(f"{name}: its process ended without a result", style="red")
    return int(bool(failed or crashed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=", ".join(TASKS))
    parser.add_argument(
        "--rivals", nargs="+", choices=RIVALS, default=list(RIVALS), metavar="RIVAL", help=", ".join(RIVALS)
    )
    parser.add_argument("--seeds", type=int, help="runs at most; default 10, 5, 3 or 1, by task and rival")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few rows, small settings; files of its own")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each in a process; default 1")
    parser.add_argument("--threads", type=int, default=1, help="threads of each cell; default 1")
    parser.add_argument("--fresh", action="store_true", help="forget the cells that are asked for, and start anew")
    parser.add_argument("--merge", action="store_true", help="only report what the files of the cells hold")
    parser.add_argument("--list", action="store_true", help="only print the cells, one a line")
    parser.add_argument("--cell", nargs=2, metavar=("TASK", "RIVAL"), help="measure one cell in this process")
    options = parser.parse_args()
    if options.cell and (options.cell[0] not in TASKS or options.cell[1] not in RIVALS):
        parser.error(f"--cell is {options.cell}; use a task of {', '.join(TASKS)} and a rival of {', '.join(RIVALS)}")
    return options


def _one(options: argparse.Namespace) -> int:
    """Measure one cell here."""
    pairs = cells([options.cell[0]], [options.cell[1]])
    if not pairs:
        print(f"{options.cell[1]} predicts no quantities, so there is no such cell")
        return 0
    pair = pairs[0]
    if options.fresh:
        path_of(*pair, quick=options.quick).unlink(missing_ok=True)
    name = " ".join(options.cell)
    with _progress() as bar:
        wanted = runs(*pair, seeds=options.seeds, quick=options.quick)
        step = bar.add_task(name, total=fits(*pair, wanted))
        cell = run_cell(
            *pair, seeds=options.seeds, quick=options.quick, threads=options.threads,
            tell=lambda doing, done: bar.update(step, description=f"{name}: {doing}", completed=done),
        )  # fmt: skip
    print(f"{name}: {cell['state']}{'. ' + cell['reason'] if cell['reason'] else ''}")
    return int(cell["state"] == "failed")


def _run_all(options: argparse.Namespace) -> list[str]:
    """Measure all cells that are not finished, each in a process; the names of those that crashed."""
    waiting = []
    for task, rival in cells(options.tasks, options.rivals):
        wanted = runs(task, rival, seeds=options.seeds, quick=options.quick)
        if not finished(read_cell(task, rival, quick=options.quick), wanted):
            waiting.append((task.name, rival.name))
    more = ["--threads", str(options.threads), *(["--quick"] if options.quick else [])]
    more += ["--seeds", str(options.seeds)] if options.seeds else []

    def run(pair: tuple[str, str]) -> str | None:
        command = [sys.executable, "-m", "benchmarks.hashtron", "--cell", *pair, *more]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        return None if done.returncode in (0, 1) else f"{' '.join(pair)} (exit {done.returncode}) {done.stderr[-500:]}"

    with _progress() as bar, ThreadPoolExecutor(max(1, options.jobs)) as pool:
        step = bar.add_task("cells", total=len(waiting))
        crashed = []
        for future in as_completed([pool.submit(run, pair) for pair in waiting]):
            if name := future.result():
                crashed.append(name)
            bar.advance(step)
        return crashed


def _progress() -> Progress:
    """A bar on the standard error."""
    words, times = TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(SpinnerColumn(), words, BarColumn(), MofNCompleteColumn(), times, console=Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
