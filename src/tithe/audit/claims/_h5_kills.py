"""A training that is killed with -9 and begun again until it ends: ``python -m tithe.audit.claims._h5_kills``.

It runs in a process of its own, which loads everything once and then trains in copies of itself, so that a kill costs
no start. Needs ``os.fork``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tithe.audit.hashtron_pipelines import LAST
from tithe.audit.hashtron_tasks import BALANCED, TOPOLOGY, split
from tithe.hashtron import Network
from tithe.hashtron.pipeline.pipeline import Pipeline, Run
from tithe.hashtron.pipeline.step import Step

__all__ = ["crashes", "in_a_process"]

_SWEEPS = 3


def in_a_process(task: str, kills: int, seed: int) -> dict[str, int]:
    """What :func:`crashes` finds, from a process with one thread. Raises ``CalledProcessError`` where that fails."""
    command = [sys.executable, "-m", "tithe.audit.claims._h5_kills", task, str(kills), str(seed)]
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    found: dict[str, int] = json.loads(subprocess.check_output(command, text=True, env={**os.environ, **threads}))
    return found


def crashes(task: str, kills: int, seed: int) -> dict[str, int]:
    """Kill trainings at random moments, and begin them again until they end, until there were so many kills.

    Returns:
        How many ``kills`` there were, of how many ``trainings``; ``again``, how often a neuron was trained again that
        was told of; and how many trainings ended ``equal`` to one that nobody killed.
    """
    wanted = _train(task, None).network.neurons
    start = time.perf_counter()
    _train(task, None)
    rng, longest = random.Random(seed), (time.perf_counter() - start)
    found = {"kills": 0, "trainings": 0, "again": 0, "equal": 0}
    while found["kills"] < kills:
        with tempfile.TemporaryDirectory() as name:
            folder, told = Path(name), -1
            while True:
                wait = rng.uniform(0, longest) if found["kills"] < kills else None
                numbers, dead = _in_a_copy(task, folder, wait)
                found["again"] += bool(numbers) and numbers[0] <= told
                told = max([told, *numbers])
                found["kills"] += dead
                if not dead:
                    break
            found["equal"] += _train(task, folder).network.neurons == wanted
            found["trainings"] += 1
    return found


def _in_a_copy(task: str, folder: Path, wait: float | None) -> tuple[list[int], bool]:
    """Go on with a training, for so long; the numbers of the neurons it told of, and whether it was killed."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        _train(task, folder, lambda step: os.write(there, f"{step.number}\n".encode()))
        os._exit(0)
    os.close(there)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(here) as pipe:
        numbers = [int(line) for line in pipe.read().split()]
    _, status = os.waitpid(child, 0)
    return numbers, os.WIFSIGNALED(status)


def _train(task: str, folder: Path | None, progress: Callable[[Step], Any] | None = None) -> Run:
    first = Network.random(TOPOLOGY, np.random.default_rng(0))
    pipeline = Pipeline(final=LAST, balanced=BALANCED, sweeps=_SWEEPS)
    return pipeline.fit(first, *split(task, 0).known, seed=0, folder=folder, progress=progress)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(crashes(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
