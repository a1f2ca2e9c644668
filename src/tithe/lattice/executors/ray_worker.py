"""What runs on the nodes of a Ray cluster: workers that make calls, and watchers that tell which call that is."""

from __future__ import annotations

import mmap
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray

from tithe.lattice.executors.executor import Result, Running, run_calls
from tithe.lattice.executors.parcels import pack_results, portable, unpack
from tithe.lattice.executors.shelf import Folder
from tithe.lattice.executors.worker import RUNNING
from tithe.lattice.libraries import limit_libraries, limit_variables
from tithe.lattice.usage import Usage, own_usage

__all__ = ["Birth", "Watcher", "Work", "Worker", "forget", "noted"]

Work = tuple[tuple[Any, ...], bytes, list[np.ndarray[Any, Any]]]  # usage, and packed results


class Birth(NamedTuple):
    """What a worker tells when it begins: its node, the file of its notes, wall minus monotonic clock, its usage."""

    node: str
    notes: str
    clock: float
    usage: Usage


class Worker:
    """Makes calls, one after the other; an actor.

    What it is at, it notes in a file in memory: its node can read that while it is busy, and when it is dead.
    """

    def begin(self) -> Birth:
        """Get ready; call it once."""
        limit_variables(1)
        limit_libraries(1)
        self._folder = Folder()
        path = self._folder.path / "running"
        path.write_bytes(RUNNING.pack(0, -1, 0.0))
        with path.open("r+b") as file:
            self._running = mmap.mmap(file.fileno(), RUNNING.size)
        node = ray.get_runtime_context().get_node_id()
        return Birth(node, str(path), time.time() - time.monotonic(), own_usage())

    def work(self, chunk: int, data: bytes, *arrays: np.ndarray[Any, Any]) -> Work | BaseException:
        """Make the calls of a chunk.

        Args:
            chunk: its number.
            data: its calls, of ``pack``.
            arrays: of ``pack``, which lie in the node's object store, where they cannot be written to.

        Returns:
            What it has used so far and the results, of ``pack_results``; or why the calls could not be read.
        """
        RUNNING.pack_into(self._running, 0, chunk, -1, 0.0)
        try:
            calls = unpack(data, lambda number, writable: arrays[number].copy() if writable else arrays[number])
        except BaseException as error:
            return portable(error)
        done: list[Result] = []

        def note(call: int, now: float) -> None:
            RUNNING.pack_into(self._running, 0, chunk, call, now)

        run_calls(calls, lambda first, results, finished: done.extend(results), note)
        packed, large = pack_results(done, script=False)
        return tuple(own_usage()), packed, [np.ascontiguousarray(array) for array in large]


class Watcher:
    """Reads what the workers of its node have noted, for a scheduler on another node; an actor."""

    def look(self, notes: list[str]) -> list[Running | None]:
        """What is noted in files, with the seconds since instead of the time: clocks of nodes differ."""
        found = [noted(path) for path in notes]
        now = time.monotonic()
        return [running and running._replace(since=now - running.since) for running in found]

    def forget(self, notes: list[str]) -> None:
        """Remove what dead workers have left."""
        for path in notes:
            forget(path)


def noted(notes: str) -> Running | None:
    """What a worker of this node has noted last; its call is −1 while it reads a chunk; ``None`` if that is lost."""
    try:
        return Running(*RUNNING.unpack(Path(notes).read_bytes()))
    except OSError:
        return None


def forget(notes: str) -> None:
    """Remove what a dead worker of this node has left."""
    shutil.rmtree(Path(notes).parent, ignore_errors=True)
