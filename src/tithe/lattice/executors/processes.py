"""Chunks in processes: for functions that hold the GIL, may crash, or must be ended by force."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import pickle
import selectors
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tithe.errors import InvalidStateError
from tithe.lattice.executors.executor import Chunk, Loss, Report, Running
from tithe.lattice.executors.parcels import pack, unpack_results
from tithe.lattice.executors.shelf import Folder, Label, Shelf
from tithe.lattice.executors.worker import RUNNING, parcel_of, value_of, work
from tithe.lattice.usage import Usage, own_usage

__all__ = ["ProcessExecutor"]

_STILLBORN = 3  # workers in a row that die before they are ready, after which it is no accident


@dataclass(slots=True)
class _Worker:
    """A process, and what it was given."""

    name: str
    process: BaseProcess
    pipe: Connection
    running: mmap.mmap
    ready: bool = False
    chunks: dict[int, list[Label]] = field(default_factory=dict)  # oldest first, with the arrays they use
    usage: Usage = field(default_factory=lambda: Usage(0.0, 0, 0))


class ProcessExecutor:
    """An ``Executor`` of processes. Arrays of 64 KiB and more are shared and not copied; NumPy's arrive read-only.

    Workers are started by a server that forks (``forkserver``), or afresh where there is none: nothing of this
    process is inherited, so scripts need ``if __name__ == "__main__":``. One that dies is replaced.

    Args:
        workers: processes.
        each: threads that numerical libraries may use inside each.

    >>> executor = ProcessExecutor(1)
    >>> executor.start()
    >>> while not executor.available(0):
    ...     reports = executor.poll(20.0)
    >>> executor.submit(0, Chunk(1, [(abs, (-3,), {})]))
    >>> executor.poll(20.0)[0].results[0].value
    3
    >>> executor.stop()
    """

    kills = True

    def __init__(self, workers: int, each: int = 1) -> None:
        self.workers, self._each = workers, each
        methods = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        self._workers: list[_Worker] = []
        self._started = self._stillborn = 0
        self._news: list[Report | Loss] = []
        self._gone = Usage(0.0, 0, 0)  # of workers that have ended

    def start(self) -> None:
        """Start the processes."""
        if self._workers:
            return
        self._folder, self._selector = Folder(), selectors.DefaultSelector()
        self._shelf = Shelf(self._folder.put, lambda label: Path(label.path).unlink())
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._workers = [self._hire(worker) for worker in range(self.workers)]

    def available(self, worker: int) -> bool:
        """Once it has said so."""
        return self._workers[worker].ready

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Send the chunk; what cannot be sent is reported as lost by the next ``poll``."""
        labels: list[Label] = []
        try:
            data, arrays = pack(chunk.calls)
            for array in arrays:
                labels.append(self._shelf.use(array))
            parcel = parcel_of(data, labels, self._folder.put)
        except Exception as error:
            for label in labels:
                self._shelf.release(label)
            self._news.append(Loss(worker, chunk.number, None, "it cannot be sent", unsendable=error))
            return
        hired = self._workers[worker]
        hired.chunks[chunk.number] = labels
        try:
            hired.pipe.send_bytes(pickle.dumps((chunk.number, parcel)))
        except OSError:  # it has died; poll will find out
            return

    def poll(self, timeout: float | None) -> list[Report | Loss]:
        """Take what the processes have sent, and replace those that died."""
        for key, _ in self._selector.select(0 if self._news else timeout):
            if key.data is None:
                self._woken.recv(1 << 12)
                continue
            worker, what = key.data
            if what == "died":
                self._bury(worker)
            elif key.fileobj is self._workers[worker].pipe:  # else it was replaced in this very round
                self._read(worker)
        found, self._news = self._news, []
        return found

    def wake(self) -> None:
        """Write to a socket that ``poll`` reads; another thread may be stopping the workers at this moment."""
        if self._workers:
            with contextlib.suppress(OSError):  # it is closed, or full of what will wake
                self._waker.send(b"w")

    def running(self, worker: int) -> Running | None:
        """As the process has noted in shared memory."""
        chunk, call, since = RUNNING.unpack_from(self._workers[worker].running, 0)
        return Running(chunk, call, since) if chunk in self._workers[worker].chunks and call >= 0 else None

    def kill(self, worker: int) -> None:
        """Kill the process."""
        self._workers[worker].process.kill()

    def usage(self) -> Usage:
        """Of this process and of the workers, as they told last."""
        total = own_usage().plus(self._gone)
        for worker in self._workers:
            total = total.plus(worker.usage)
        return total

    def stop(self) -> None:
        """Ask idle workers to end and kill the others."""
        for worker in self._workers:
            if worker.chunks:
                worker.process.kill()
            else:
                try:
                    worker.pipe.send_bytes(pickle.dumps(None))
                except OSError:
                    continue
        deadline = time.monotonic() + 5.0
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
            worker.process.close()
            self._gone = self._gone.plus(worker.usage)
        if self._workers:
            self._workers, self._news = [], []
            self._selector.close()
            self._woken.close()
            self._waker.close()
            self._folder.remove()

    def _hire(self, worker: int) -> _Worker:
        self._started += 1
        name = f"worker-{self._started}."
        path = self._folder.path / f"{name}running"
        path.write_bytes(RUNNING.pack(0, -1, 0.0))
        with path.open("r+b") as file:
            running = mmap.mmap(file.fileno(), RUNNING.size)
        ours, theirs = self._context.Pipe()
        arguments = (theirs, str(self._folder.path), name, self._each)
        process = self._context.Process(target=work, args=arguments, name=f"lattice-{worker}", daemon=True)
        process.start()
        theirs.close()
        self._selector.register(ours, selectors.EVENT_READ, (worker, "spoke"))
        self._selector.register(process.sentinel, selectors.EVENT_READ, (worker, "died"))
        return _Worker(name, process, ours, running)

    def _read(self, worker: int) -> bool:
        """Take one message; whether there was one."""
        hired = self._workers[worker]
        try:
            message: Any = pickle.loads(hired.pipe.recv_bytes())
        except (EOFError, OSError):
            return False
        if message[0] == "ready":
            hired.ready, self._stillborn, hired.usage = True, 0, Usage(*message[2])
            self._gone = self._gone.since(hired.usage)  # what it took to start is not the epoch's
        elif message[0] == "unreadable":
            self._done(worker, message[1])
            self._news.append(Loss(worker, message[1], None, "it cannot be read", unsendable=message[2]))
        else:
            chunk, first, finished, parcel, usage = message
            hired.usage = Usage(*usage)
            if finished:
                self._done(worker, chunk)
            try:
                results = value_of(parcel, None, unpack_results)
            except Exception as error:
                self._news.append(Loss(worker, chunk, None, "its results cannot be read", unsendable=error))
            else:
                self._news.append(Report(worker, chunk, first, results, finished))
        return True

    def _done(self, worker: int, chunk: int) -> None:
        for label in self._workers[worker].chunks.pop(chunk):
            self._shelf.release(label)
        if not any(hired.chunks for hired in self._workers):
            self._shelf.forget_idle()  # whoever gave the arrays may change them now

    def _bury(self, worker: int) -> None:
        """A process has died: what it sent is taken, what it had is lost, another is started."""
        hired = self._workers[worker]
        while hired.pipe.poll() and self._read(worker):
            continue
        chunk, call, _ = RUNNING.unpack_from(hired.running, 0)
        hired.process.join()
        code = hired.process.exitcode
        reason = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        for place, number in enumerate(list(hired.chunks)):
            running = call if number == chunk and call >= 0 else None
            self._news.append(Loss(worker, number, running, reason, oldest=place == 0))
            self._done(worker, number)
        self._selector.unregister(hired.pipe)
        self._selector.unregister(hired.process.sentinel)
        self._gone = self._gone.plus(hired.usage)
        hired.pipe.close()
        hired.running.close()
        for path in self._folder.path.glob(f"{hired.name}*"):  # results that it had not sent
            path.unlink(missing_ok=True)
        if not hired.ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise InvalidStateError(
                    f"worker processes die before they can work ({reason}); a script that uses executor='processes' "
                    "must start its work under if __name__ == '__main__':"
                )
        hired.process.close()
        self._workers[worker] = self._hire(worker)
