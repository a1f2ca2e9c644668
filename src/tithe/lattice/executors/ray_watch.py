"""What workers on another node are at: their notes lie there, and an actor reads them."""

from __future__ import annotations

import time
from concurrent.futures import Future

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tithe.lattice.executors.executor import Running
from tithe.lattice.executors.ray_worker import Watcher

__all__ = ["Watch"]

_FRESH = 0.2  # seconds for which an answer counts
_PATIENCE = 1.0  # seconds to wait for one


class Watch:
    """Asks a node of the cluster.

    Args:
        node: its id in Ray.

    Attributes:
        lost: whether the node has not answered when it was waited for.
    """

    def __init__(self, node: str) -> None:
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        kind = ray.remote(num_cpus=0, max_restarts=-1)(Watcher)
        self._actor = kind.options(scheduling_strategy=strategy).remote()
        self._notes: list[str] = []
        self._asked: Future[list[Running | None]] | None = None
        self._told: dict[str, Running | None] = {}
        self._when = 0.0  # of the last answer
        self.lost = False

    def add(self, notes: str) -> None:
        """Look at the notes of a worker."""
        self._notes.append(notes)

    def running(self, notes: str) -> Running | None:
        """What was noted a moment ago; does not wait, and is ``None`` until there is an answer."""
        if self._asked is None:
            self._ask()
        return self._told.get(notes) if time.monotonic() - self._when < _FRESH else None

    def last(self, notes: str) -> Running | None:
        """What is noted now; ``None`` if the node does not answer."""
        try:
            return None if self.lost else ray.get(self._actor.look.remote([notes]), timeout=_PATIENCE)[0]
        except (RayError, TimeoutError):
            self.lost = True
            return None

    def forget(self, notes: str) -> None:
        """Look no more at the notes of a dead worker."""
        self._notes.remove(notes)
        self._actor.forget.remote([notes])

    def stop(self) -> None:
        """Look at nothing any more."""
        if not self.lost:
            ray.wait([self._actor.forget.remote(self._notes)], timeout=_PATIENCE)
        ray.kill(self._actor)

    def _ask(self) -> None:
        notes = list(self._notes)

        def answer(future: Future[list[Running | None]]) -> None:
            now = time.monotonic()
            if future.exception() is None:
                found = [running and running._replace(since=now - running.since) for running in future.result()]
                self._told, self._when = dict(zip(notes, found, strict=True)), now
            self._asked = None

        self._asked = self._actor.look.remote(notes).future()
        self._asked.add_done_callback(answer)
