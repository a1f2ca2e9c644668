"""Tables, one JSON file and the curve of accuracy against bytes, out of the files of the cells."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.hashtron.cells import RESULTS, cells, current, path_of
from benchmarks.hashtron.measure import Cell, described
from benchmarks.hashtron.rivals import RIVALS, Rival
from benchmarks.hashtron.tasks import TASKS, Task
from tithe import machine
from tithe.files import write_atomically

_KIB = 1024


def read_all(tasks: list[str], rivals: list[str], *, quick: bool) -> dict[str, dict[str, Cell]]:
    """The cells by task and rival, whatever they were measured with; no task without any."""
    out: dict[str, dict[str, Cell]] = {}
    for task, rival in cells(tasks, rivals):
        path = path_of(task, rival, quick=quick)
        nothing = {"key": {}, "state": "not run", "reason": "", "choices": [], "tests": []}
        out.setdefault(task.name, {})[rival.name] = json.loads(path.read_text()) if path.is_file() else nothing
    return {task: found for task, found in out.items() if any(cell["key"] for cell in found.values())}


def print_tables(found: dict[str, dict[str, Cell]], console: Console) -> None:
    """One table for each task, and what is missing below it."""
    for name, by_rival in found.items():
        task = TASKS[name]
        console.print(_table(task, by_rival))
        for rival, cell in by_rival.items():
            if cell["tests"] and not current(task, RIVALS[rival], cell):
                console.print(
                    f"{RIVALS[rival].title}: measured with other settings or versions than these.", style="yellow"
                )
            if cell["state"] != "finished":
                said = f"{RIVALS[rival].title}: {cell['state']}. {cell['reason']}".rstrip()
                console.print(escape(said), style="yellow")
        for rival in by_rival:
            if limit := RIVALS[rival].limit(task):
                console.print(f"{RIVALS[rival].title}: {limit}.", style="dim")
        console.print()


def _table(task: Task, by_rival: dict[str, Cell]) -> Table:
    measure = "R²" if task.quantity else "accuracy"
    tests = [test for cell in by_rival.values() for test in cell["tests"]]
    prior = statistics.mean(test["prior"] for test in tests) if tests else float("nan")
    rows = max((test["rows"] for test in tests), default=0)
    what = "seeds, official test part" if task.official else "runs, each with a split of its own"
    table = Table(
        "", f"test {measure}", "train", "KiB", "fit s", "predictions/s", "runs", "chosen most often",
        title=f"{task.name}: {task.contents}\n{rows:,} rows to learn from; prior {_shown(task, [prior])}; {what}",
        title_justify="left",
    )  # fmt: skip
    best = max((_mean(cell, "score") for cell in by_rival.values() if cell["tests"]), default=0.0)
    for rival, cell in by_rival.items():
        table.add_row(*_row(task, RIVALS[rival], cell, best))
    return table


def _row(task: Task, rival: Rival, cell: Cell, best: float) -> list[str]:
    tests = cell["tests"]
    if not tests:
        return [rival.title, cell["state"]]
    scores = _shown(task, [test["score"] for test in tests])
    if _mean(cell, "score") == best:
        scores = f"[bold]{scores}[/bold]"
    (settings, times), *_ = Counter(described(test["settings"]) for test in tests).most_common()
    often = f" ({times} of {len(tests)})" if times < len(tests) else ""
    return [
        rival.title, scores, _shown(task, [_mean(cell, "train")]), f"{_mean(cell, 'bytes') / _KIB:,.1f}",
        f"{_mean(cell, 'seconds'):,.1f}", f"{_mean(cell, 'speed'):,.0f}", str(len(tests)), settings + often,
    ]  # fmt: skip


def _mean(cell: Cell, figure: str) -> float:
    return statistics.mean(test[figure] for test in cell["tests"])


def _shown(task: Task, values: list[float]) -> str:
    """Mean ± standard deviation: in per cent, or as R² is."""
    form: Callable[[float], str] = "{:.3f}".format if task.quantity else "{:.2%}".format
    return form(statistics.mean(values)) + (f" ± {form(statistics.stdev(values))}" if len(values) > 1 else "")


def write_json(found: dict[str, dict[str, Cell]], *, quick: bool) -> Path:
    """All cells in one file, with the machine that merged them."""
    path = RESULTS / f"hashtron{'-quick' if quick else ''}.json"
    content: dict[str, Any] = {"machine": machine.describe(gpu=False), "tasks": found}
    return write_atomically(path, json.dumps(content, indent=1))


def draw_curves(found: dict[str, dict[str, Cell]], *, quick: bool) -> Path | None:
    """Validation scores of all candidates against their bytes; the best for fewer bytes are joined."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    drawn = [name for name, by_rival in found.items() if any(cell["choices"] for cell in by_rival.values())]
    if not drawn:
        return None
    wide = min(4, len(drawn))
    high = -(-len(drawn) // wide)
    figure, axes = plt.subplots(high, wide, figsize=(4.2 * wide, 3.6 * high), squeeze=False, layout="constrained")
    colours = {rival: f"C{number}" for number, rival in enumerate(RIVALS)}
    for axis in axes.flat[len(drawn) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, drawn, strict=False):
        for rival, cell in found[name].items():
            if points := candidate_points(cell):
                axis.scatter(*zip(*points, strict=True), s=14, color=colours[rival])
                axis.plot(*zip(*frontier(points), strict=True), color=colours[rival], label=RIVALS[rival].title)
        axis.set(xscale="log", title=name, xlabel="bytes of the model")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(LogLocator(numticks=9))
        axis.set_ylabel(f"{'R²' if TASKS[name].quantity else 'accuracy'} on validation data")
        axis.grid(alpha=0.3)
    labels = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=min(8, len(labels)), frameon=False)
    path = RESULTS / f"hashtron-bytes{'-quick' if quick else ''}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def candidate_points(cell: Cell) -> list[tuple[float, float]]:
    """Mean bytes and mean validation score of each candidate over the choices."""
    by_settings: dict[str, list[Any]] = {}
    for choice in cell["choices"]:
        by_settings.setdefault(described(choice["settings"]), []).append(choice)
    return [
        (statistics.mean(c["bytes"] for c in group), statistics.mean(c["score"] for c in group))
        for group in by_settings.values()
    ]


def frontier(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those for which no smaller or equal one is better, ascending.

    >>> frontier([(2, 0.8), (1, 0.7), (3, 0.75), (4, 0.9)])
    [(1, 0.7), (2, 0.8), (4, 0.9)]
    """
    out: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not out or point[1] > out[-1][1]:
            out.append(point)
    return out
