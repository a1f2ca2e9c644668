"""The files of the cells: each holds what was found for one task and rival, so that processes can share the work."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.hashtron.measure import Cell, key, measure, runs
from benchmarks.hashtron.rivals import RIVALS, Rival
from benchmarks.hashtron.tasks import TASKS, Task
from tithe import machine
from tithe.errors import DataUnavailableError
from tithe.files import write_atomically

RESULTS = Path(__file__).parents[1] / "results"


def path_of(task: Task, rival: Rival, *, quick: bool) -> Path:
    """Where a cell lies; quick ones lie apart."""
    return RESULTS / f"hashtron{'-quick' if quick else ''}" / f"{task.name}--{rival.name}.json"


def read_cell(task: Task, rival: Rival, *, quick: bool) -> Cell:
    """What the file holds, if it was made with the same settings and versions; else an empty cell.

    Where the rival is not installed, what was found elsewhere is kept.
    """
    path = path_of(task, rival, quick=quick)
    if path.is_file() and current(task, rival, kept := json.loads(path.read_text())):
        return kept
    now = {} if rival.missing() else key(task, rival, quick=quick)
    return {"key": now, "state": "new", "reason": "", "choices": [], "tests": []}


def current(task: Task, rival: Rival, cell: Cell) -> bool:
    """Whether a cell was measured with the settings and versions of now, as far as these can be told."""
    if rival.missing():
        return True
    now = json.loads(json.dumps(key(task, rival, quick=cell["key"].get("quick", False))))
    return bool(now == cell["key"])


def finished(cell: Cell, wanted: int) -> bool:
    """Whether it has all runs that are wanted."""
    return len(cell["tests"]) >= wanted


def cells(tasks: list[str], rivals: list[str]) -> list[tuple[Task, Rival]]:
    """All pairs that there are: not every rival predicts quantities."""
    pairs = [(TASKS[task], RIVALS[rival]) for task in tasks for rival in rivals]
    return [(task, rival) for task, rival in pairs if rival.quantities or not task.quantity]


def run_cell(
    task: Task, rival: Rival, *, seeds: int | None, quick: bool, threads: int, tell: Callable[[str, int], None]
) -> Cell:
    """Measure what a cell lacks and keep it in its file, also where it cannot be measured or fails."""
    cell, path = read_cell(task, rival, quick=quick), path_of(task, rival, quick=quick)

    def save(cell: Cell) -> None:
        write_atomically(path, json.dumps(cell, indent=1))

    wanted = runs(task, rival, seeds=seeds, quick=quick)
    if finished(cell, wanted):
        return cell
    cell |= {"state": "unfinished", "reason": "", "machine": {} if quick else machine.describe(gpu=False)}
    try:
        if reason := rival.missing():
            raise DataUnavailableError(reason)
        measure(cell, task, rival, wanted=wanted, quick=quick, threads=threads, save=save, tell=tell)
        cell["state"] = "finished"
    except DataUnavailableError as error:
        cell |= {"state": "not available", "reason": str(error)}
    except Exception as error:  # one cell that fails is reported and stops no other
        cell |= {"state": "failed", "reason": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    save(cell)
    return cell
