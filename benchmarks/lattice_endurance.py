"""Many tasks that fail now and then, and kill their workers: what becomes of each, and how much memory it takes.

The tasks of ``benchmarks.lattice endurance``; worker processes import this module alone.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tithe.lattice import Lattice, Outcome, Task

__all__ = ["Plan", "endure", "unreliable"]

FAILURES, MISHAPS = 0.01, 0.01  # shares of tasks that always raise, and that raise at the first try
RETRIES = 1
QUEUE = 4096


class Plan:
    """What every task does, drawn beforehand: the truth that outcomes are held against.

    Args:
        total: tasks.
        kills: worker processes that are killed from inside of a task; each fifth task that kills does so always,
            and a worker dies of it twice before it is put into quarantine.
        seed: of the draw.
    """

    def __init__(self, total: int, kills: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.total, self.kills = total, kills
        self.kinds = rng.choice(["", "fails", "mishap"], total, p=[1 - FAILURES - MISHAPS, FAILURES, MISHAPS]).tolist()
        deadly, once = kills // 10, kills - 2 * (kills // 10)
        for place, number in enumerate(rng.choice(total, deadly + once, replace=False).tolist()):
            self.kinds[number] = "deadly" if place < deadly else "kills once"

    def agrees(self, outcome: Outcome) -> bool:
        """Whether a task has ended as it must.

        What a killed worker did last and did not tell is done again: a mishap may not be known of.
        """
        number = outcome.task.args[0]
        status, attempts = {
            "": ("done", {1}), "mishap": ("done", {1, 2}), "fails": ("failed", {1 + RETRIES}),
            "kills once": ("done", {2}), "deadly": ("quarantined", {2}),
        }[self.kinds[number]]  # fmt: skip
        right = outcome.value == number if outcome.ok else outcome.value is None and outcome.error is not None
        return right and outcome.status == status and outcome.attempts in attempts


def unreliable(number: int, kind: str, folder: str) -> int:
    """Return the number, or do what its kind says; a file tells the second try from the first."""
    if kind == "fails":
        raise ValueError(f"task {number} fails")
    if kind == "deadly" or (kind in ("mishap", "kills once") and _first(Path(folder, str(number)))):
        if kind == "mishap":
            raise OSError(f"task {number} had a mishap")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _first(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def endure(
    total: int, kills: int, workers: int, seed: int = 0, tell: Callable[[float], None] = lambda done: None
) -> dict[str, Any]:
    """Run the tasks of a ``Plan`` in processes, from a generator, and keep no outcome.

    Args:
        total: tasks.
        kills: of workers.
        workers: processes.
        seed: of the plan.
        tell: is given the share that is done.

    Returns:
        ``tasks``, ``outcomes``, ``once`` (tasks with exactly one outcome), ``wrong`` (tasks whose status, value or
        attempts do not agree with the plan), ``kills`` and ``lost_workers``, ``statuses``, ``seconds``, and ``memory``:
        bytes in use by this process after a tenth of the tasks and at most, apart from what is counted here.
    """
    plan, seen, statuses = Plan(total, kills, seed), bytearray(total), Counter[str]()
    wrong, early, most = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder, Lattice(workers, "processes", queue=QUEUE, backoff=0.01) as lattice:
        start = time.perf_counter()
        for done, outcome in enumerate(lattice.as_completed(_tasks(plan, folder)), 1):
            number = outcome.task.args[0]
            seen[number] += 1
            statuses[outcome.status] += 1
            wrong += not plan.agrees(outcome)
            if done % max(1, total // 200) == 0:
                tell(done / total)
                most = max(most, _resident())
                early = early if done > total / 10 else most
        seconds, lost = time.perf_counter() - start, lattice.receipt.lost_workers
    return {
        "tasks": total, "outcomes": sum(statuses.values()), "once": sum(count == 1 for count in seen), "wrong": wrong,
        "kills": kills, "lost_workers": lost, "statuses": dict(statuses), "seconds": seconds,
        "memory": {"early": early, "most": most}, "queue": QUEUE,
    }  # fmt: skip


def _tasks(plan: Plan, folder: str) -> Iterator[Task]:
    for number, kind in enumerate(plan.kinds):
        yield Task(unreliable, number, kind, folder, retries=RETRIES)


def _resident() -> int:
    """Bytes of this process that lie in memory now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
