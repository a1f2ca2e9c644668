"""Measure bars and print them: ``python -m benchmarks.bars [NAME...]``; also writes benchmarks/results/bars.json."""

from __future__ import annotations

import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bars import (  # noqa: F401  (each registers its bars)
    backward,
    conversion,
    events,
    hashtrons,
    languages,
    lattice,
    package,
    pipeline,
    plans,
    products,
    renormalizing,
    resolvents,
    source_figures,
    sparse_inference,
    tethers,
)
from benchmarks.bars.bar import BARS
from tithe import machine
from tithe.files import write_atomically

RESULTS = Path(__file__).parents[1] / "results" / "bars.json"


def main(names: list[str]) -> int:
    """Measure the bars named, or all of them; 1 if one does not hold."""
    if unknown := set(names) - set(BARS):
        print(f"no bar is called {', '.join(sorted(unknown))}; there are {', '.join(BARS)}", file=sys.stderr)
        return 2
    console = Console()
    where, day = machine.describe(), datetime.datetime.now(datetime.UTC).date().isoformat()
    console.print(f"{where['processor']}, {where['cores']} cores, {where['int8_units'] or 'no'} int8 units, {day}")
    rows = []
    for name in names or list(BARS):
        for reading in BARS[name].measure():
            rows.append(asdict(reading) | {"name": name, "command": BARS[name].command})
            verdict = {True: "holds", False: "MISSED", None: "does not apply here"}[reading.holds]
            console.print(f"{name}: {reading.what}: {reading.figure} (target {reading.target}): {verdict}")
            write_atomically(RESULTS, json.dumps({"machine": where, "date": day, "bars": rows}, indent=1))
    table = Table("command", "what", "figure", "target", "", title=f"Bars on {where['processor']}, {day}")
    for row in rows:
        mark = {True: "[green]holds", False: "[red]missed", None: "[dim]n/a here"}[row["holds"]]
        table.add_row(row["command"], row["what"], row["figure"], row["target"], mark)
    console.print(table)
    return 1 if any(row["holds"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
