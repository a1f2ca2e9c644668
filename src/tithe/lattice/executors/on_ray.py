"""Chunks on a Ray cluster: for more cores than one machine has; machines may leave while it works."""

from __future__ import annotations

import os
import queue
import textwrap
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tithe.errors import InvalidStateError, MissingExtraError
from tithe.lattice.executors.executor import Chunk, Loss, Report, Result, Running
from tithe.lattice.executors.parcels import pack, unpack_results
from tithe.lattice.executors.shelf import Shelf
from tithe.lattice.usage import Usage, cores, own_usage

try:
    import ray
    from ray.exceptions import RayError, RayTaskError

    from tithe.lattice.executors.ray_watch import Watch
    from tithe.lattice.executors.ray_worker import Birth, Worker, forget, noted
except ImportError as error:
    raise MissingExtraError("executor='ray' needs Ray: pip install 'tithe[ray]'") from error

__all__ = ["RayExecutor"]

_STILLBORN = 3  # workers in a row in one place that die before they are ready, after which it is no accident


@dataclass(slots=True, eq=False)
class _Hired:
    """An actor, and what it was given."""

    actor: Any
    stillborn: int = 0  # how many before it, in its place, were never ready
    birth: Birth | None = None
    watch: Watch | None = None  # where its notes are on another node
    shift: float = 0.0  # from its monotonic clock to ours
    killed: bool = False
    chunks: dict[int, list[Any]] = field(default_factory=dict)  # oldest first, with the references that they use
    usage: Usage = field(default_factory=lambda: Usage(0.0, 0, 0))


class RayExecutor:
    """An ``Executor`` of actors on a Ray cluster, whose nodes need Tithe; each asks for one CPU, and no GPU.

    The cluster is the one that this process is connected to, else that of ``RAY_ADDRESS``, else one of its own on this
    machine while it runs. Arrays of 64 KiB and more go into the object store once; NumPy's arrive read-only. A worker
    that dies is replaced where there is room; while there is none, the others go on.

    Args:
        workers: actors; by default as many as the cluster has CPUs, on this machine the cores of this process.

    Raises ``MissingExtraError`` without Ray (``pip install tithe[ray]``).

    >>> RayExecutor(2).workers
    2
    """

    kills = True

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or (int(ray.cluster_resources().get("CPU", 0)) or 1 if _connected() else cores())
        self._workers: list[_Hired] = []
        self._watches: dict[str, Watch] = {}
        self._inbox: queue.SimpleQueue[tuple[int, _Hired, int | None, Future[Any]] | None] = queue.SimpleQueue()
        self._news: list[Report | Loss] = []
        self._gone = Usage(0.0, 0, 0)  # of workers that have ended
        self._local = False

    def start(self) -> None:
        """Find or start the cluster, and ask it for the actors."""
        if self._workers:
            return
        if not _connected():
            ray.init(address="local", num_cpus=self.workers, include_dashboard=False, logging_level="WARNING")
            self._local = True
        self._node = ray.get_runtime_context().get_node_id()
        self._class = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Worker)
        self._shelf = Shelf[Any](lambda array: ray.put(np.ascontiguousarray(array)), lambda place: None)
        self._workers = [self._hire(worker, 0) for worker in range(self.workers)]

    def available(self, worker: int) -> bool:
        """Once the cluster had room for it, and it has said so."""
        return self._workers[worker].birth is not None and not self._workers[worker].killed

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Call the actor; what cannot be sent is reported as lost by the next ``poll``."""
        places: list[Any] = []
        try:
            data, arrays = pack(chunk.calls, script=False)
            for array in arrays:
                places.append(self._shelf.use(array))
        except Exception as error:
            for place in places:
                self._shelf.release(place)
            self._news.append(Loss(worker, chunk.number, None, "it cannot be sent", unsendable=error))
            return
        hired = self._workers[worker]
        hired.chunks[chunk.number] = places
        self._follow(worker, hired, chunk.number, hired.actor.work.remote(chunk.number, data, *places))

    def poll(self, timeout: float | None) -> list[Report | Loss]:
        """Take what the actors have returned, and replace those that died."""
        fallen: dict[int, str] = {}
        for worker, hired, chunk, future in self._told(0.0 if self._news else timeout):
            if self._workers[worker] is not hired:  # it was replaced
                continue
            try:
                self._take(worker, hired, chunk, future.result())
            except RayTaskError as error:
                if chunk is None:
                    fallen[worker] = str(error)
                else:
                    self._lose(worker, hired, chunk, error)
            except RayError as error:
                fallen[worker] = _reason(error)
        for worker, hired in enumerate(self._workers):
            if worker in fallen or (hired.killed and not hired.chunks):
                self._bury(worker, "killed" if hired.killed else fallen[worker])
        found, self._news = self._news, []
        return found

    def wake(self) -> None:
        """Tell nothing."""
        self._inbox.put(None)

    def running(self, worker: int) -> Running | None:
        """As the actor has noted; of another node's, as that has told a moment ago."""
        hired = self._workers[worker]
        if hired.birth is None:
            return None
        found = noted(hired.birth.notes) if hired.watch is None else hired.watch.running(hired.birth.notes)
        return found if found is not None and found.chunk in hired.chunks and found.call >= 0 else None

    def kill(self, worker: int) -> None:
        """Kill the actor's process."""
        self._workers[worker].killed = True
        ray.kill(self._workers[worker].actor)
        self.wake()

    def usage(self) -> Usage:
        """Of this process and of the actors, as they told last; not of Ray's own processes."""
        total = own_usage().plus(self._gone)
        for hired in self._workers:
            total = total.plus(hired.usage)
        return total

    def stop(self) -> None:
        """Kill the actors, and end the cluster if it is one's own."""
        if ray.is_initialized():
            for hired in self._workers:
                self._dismiss(hired)
            for watch in self._watches.values():
                watch.stop()
        self._workers, self._watches, self._news = [], {}, []
        if self._local:
            self._local = False
            ray.shutdown()

    def _hire(self, worker: int, stillborn: int) -> _Hired:
        hired = _Hired(self._class.remote(), stillborn)
        self._follow(worker, hired, None, hired.actor.begin.remote())
        return hired

    def _follow(self, worker: int, hired: _Hired, chunk: int | None, reference: Any) -> None:
        """Have it put into the inbox what becomes of a call of an actor, also where its node is lost."""
        inbox = self._inbox
        reference.future().add_done_callback(lambda future: inbox.put((worker, hired, chunk, future)))

    def _told(self, timeout: float | None) -> list[tuple[int, _Hired, int | None, Future[Any]]]:
        found = []
        try:
            told = self._inbox.get(timeout=timeout)
            while True:
                if told is not None:
                    found.append(told)
                told = self._inbox.get_nowait()
        except queue.Empty:
            return found

    def _take(self, worker: int, hired: _Hired, chunk: int | None, message: Any) -> None:
        if chunk is None:
            self._begin(hired, message)
        elif isinstance(message, BaseException):
            self._lose(worker, hired, chunk, message)
        else:
            usage, data, arrays = message
            hired.usage = Usage(*usage)
            try:  # copies are one's own, and let the object store have its room back
                results = unpack_results(data, lambda number, writable: arrays[number].copy())
            except Exception as error:
                self._lose(worker, hired, chunk, error)
                return
            self._done(hired, chunk)
            if hired.shift:
                results = [Result(ok, value, then + hired.shift, seconds) for ok, value, then, seconds in results]
            self._news.append(Report(worker, chunk, 0, results, True))

    def _begin(self, hired: _Hired, birth: Birth) -> None:
        hired.birth, hired.usage = birth, birth.usage
        self._gone = self._gone.since(birth.usage)  # what it took to start is not the epoch's
        if birth.node != self._node or noted(birth.notes) is None:
            if birth.node not in self._watches or self._watches[birth.node].lost:
                self._watches[birth.node] = Watch(birth.node)
            hired.watch = self._watches[birth.node]
            hired.watch.add(birth.notes)
            hired.shift = birth.clock - (time.time() - time.monotonic())

    def _lose(self, worker: int, hired: _Hired, chunk: int, why: BaseException) -> None:
        self._done(hired, chunk)
        self._news.append(Loss(worker, chunk, None, "it cannot be read", unsendable=why))

    def _done(self, hired: _Hired, chunk: int) -> None:
        for place in hired.chunks.pop(chunk):
            self._shelf.release(place)
        if not any(other.chunks for other in self._workers):
            self._shelf.forget_idle()  # whoever gave the arrays may change them now

    def _bury(self, worker: int, reason: str) -> None:
        """An actor has died: what it had is lost, another is asked for."""
        hired = self._workers[worker]
        last = self._last(hired)
        oldest = last.chunk if last is not None and last.chunk in hired.chunks else next(iter(hired.chunks), None)
        for number in list(hired.chunks):
            running = last.call if last is not None and number == last.chunk and last.call >= 0 else None
            self._news.append(Loss(worker, number, running, reason, oldest=number == oldest))
            self._done(hired, number)
        self._gone = self._gone.plus(hired.usage)
        self._dismiss(hired)
        stillborn = hired.stillborn + 1 if hired.birth is None else 0
        if stillborn >= _STILLBORN:
            raise InvalidStateError(
                f"workers on the Ray cluster die before they can work ({reason}); every node needs Tithe installed"
            )
        self._workers[worker] = self._hire(worker, stillborn)

    def _last(self, hired: _Hired) -> Running | None:
        """What a dead actor was at; ``None`` if its node is dead, too."""
        if hired.birth is None:
            return None
        return noted(hired.birth.notes) if hired.watch is None else hired.watch.last(hired.birth.notes)

    def _dismiss(self, hired: _Hired) -> None:
        ray.kill(hired.actor)
        if hired.birth is not None:
            if hired.watch is None:
                forget(hired.birth.notes)
            else:
                hired.watch.forget(hired.birth.notes)


def _connected() -> bool:
    """Whether there is a cluster to use; the one of ``RAY_ADDRESS`` is connected to."""
    if not ray.is_initialized() and os.environ.get("RAY_ADDRESS"):
        ray.init()
    found: bool = ray.is_initialized()
    return found


def _reason(error: RayError) -> str:
    """What Ray says of a death, in one line, without its advice."""
    text = str(error)
    return textwrap.shorten(text[max(0, text.find("The actor is dead because")) :], 240)
