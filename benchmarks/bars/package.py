"""Bars of the package as a whole: how fast it imports, and whether a newcomer's two commands work."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bars.bar import Reading, bar

_ROOT = Path(__file__).parents[2]


@bar("import")
def import_time() -> Iterator[Reading]:
    """``import tithe`` in a fresh process, without torch already loaded."""
    code = "import time; t = time.perf_counter(); import tithe; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(11)]
    median = statistics.median(seconds)
    yield Reading("import tithe", f"{median * 1e3:.1f} ms", "≤ 150 ms", median <= 0.15)


@bar("fresh-clone")
def fresh_clone() -> Iterator[Reading]:
    """``make run`` and ``make test`` in a clone of the committed tree, with an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        clone, home = Path(folder, "tithe"), Path(folder, "home")
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(clone)], check=True)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "VIRTUAL_ENV", "PYTHON"))}
        environment = keep | {"HOME": str(home)}
        if "TITHE_DATA_DIR" in keep:
            environment["TITHE_DATA_DIR"] = str(Path(keep["TITHE_DATA_DIR"]).resolve())
        for goal in ("run", "test"):
            start = time.perf_counter()
            run = subprocess.run(["make", goal], cwd=clone, env=environment, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            figure = f"exit {run.returncode} in {seconds:.0f} s"
            if run.returncode:
                print(run.stdout[-3000:], run.stderr[-3000:], sep="\n")
            yield Reading(f"make {goal}", figure, "exit 0", run.returncode == 0)
