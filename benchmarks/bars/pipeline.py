"""Bars of the backward pipeline that are no claims: what kills leave of a training, and how much of it is tested."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bars.bar import Reading, bar
from benchmarks.pipeline_crashes import crash

_ROOT = Path(__file__).parents[2]
_KILLS = 60


@bar("pipeline-crashes")
def crashes() -> Iterator[Reading]:
    """Trainings that are killed at random moments and started again until they end."""
    found = crash(_KILLS, seed=0, longest=2.0)
    figure = (
        f"{found.lost} finished neurons lost, {found.corrupt} states corrupt, {found.differing} of {found.runs} "
        "trainings ended otherwise"
    )
    holds = found.kills >= 50 and found.runs > 0 and not (found.lost or found.corrupt or found.differing)
    yield Reading(f"{found.kills} kills", figure, "0, 0, 0 of any", holds)


@bar("hashtron-coverage")
def coverage() -> Iterator[Reading]:
    """Lines of ``tithe.hashtron`` that its fast tests and doctests run; compiled loops count as not run."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COVERAGE_FILE": str(Path(folder) / "coverage")}
        tool = [sys.executable, "-m", "coverage"]
        tests = ["-m", "pytest", "-q", "tests/hashtron", "src/tithe/hashtron"]
        subprocess.run([*tool, "run", "--source=tithe.hashtron", *tests], cwd=_ROOT, env=environment, check=True)
        total = subprocess.check_output([*tool, "report", "--format=total"], cwd=_ROOT, env=environment, text=True)
    yield Reading("lines of tithe.hashtron", f"{int(total)} %", "≥ 90 %", int(total) >= 90)
