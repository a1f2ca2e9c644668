"""What a worker process does: read a chunk, make its calls, send what became of them."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tithe.lattice.executors.executor import Result, run_calls
from tithe.lattice.executors.parcels import Fetch, pack_results, portable, unpack
from tithe.lattice.executors.shelf import Label, Mapped, mapped, put
from tithe.lattice.libraries import limit_libraries, limit_variables
from tithe.lattice.usage import own_usage

__all__ = ["INLINE", "RUNNING", "Parcel", "parcel_of", "value_of", "work"]

INLINE = 1 << 15  # bytes of a parcel that goes through the pipe; a larger one lies in a file, so that no pipe fills up
RUNNING = struct.Struct("<qqd")  # chunk, call, since; a worker that dies has left it

Parcel = tuple[bytes | str, list[Label]]  # what pack gives, or the file where it lies


def work(pipe: Connection, folder: str, name: str, threads: int) -> None:
    """Run until the pipe is closed or says so; the target of a process.

    Args:
        pipe: to the scheduler.
        folder: for large results.
        name: of this worker, for its files.
        threads: for numerical libraries.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the scheduler's
    limit_variables(threads)
    limit_libraries(threads)
    path = Path(folder, f"{name}running")
    with path.open("r+b") as file:
        running = mmap.mmap(file.fileno(), RUNNING.size)
    arrays, written = Mapped(), 0

    def store(array: np.ndarray[Any, Any]) -> Label:
        nonlocal written
        written += 1
        return put(array, Path(folder, f"{name}{written}"))

    pipe.send_bytes(pickle.dumps(("ready", os.getpid(), tuple(own_usage()))))
    try:
        while (order := pickle.loads(pipe.recv_bytes())) is not None:
            chunk, parcel = order
            RUNNING.pack_into(running, 0, chunk, -1, 0.0)

            def note(call: int, now: float, chunk: int = chunk) -> None:
                RUNNING.pack_into(running, 0, chunk, call, now)

            def report(first: int, results: list[Result], finished: bool, chunk: int = chunk) -> None:
                data, large = pack_results(results)
                sent = parcel_of(data, [store(array) for array in large], store)
                pipe.send_bytes(pickle.dumps((chunk, first, finished, sent, tuple(own_usage()))))

            try:
                calls = value_of(parcel, arrays, unpack)
            except BaseException as error:
                pipe.send_bytes(pickle.dumps(("unreadable", chunk, portable(error))))
                continue
            run_calls(calls, report, note)
            del calls
    except (EOFError, OSError):  # the scheduler is gone
        sys.exit(0)


def parcel_of(data: bytes, labels: list[Label], store: Callable[[np.ndarray[Any, Any]], Label]) -> Parcel:
    """What was packed as what goes through a pipe: ``store`` writes it to a file where it is large."""
    return (store(np.frombuffer(data, dtype=np.uint8)).path if len(data) > INLINE else data), labels


def value_of(parcel: Parcel, kept: Mapped | None, unpack: Callable[[bytes, Fetch | None], Any]) -> Any:
    """What ``unpack`` makes of a parcel, whose file is removed; without arrays ``kept``, theirs are, too."""
    data, labels = parcel
    if isinstance(data, str):
        path, data = Path(data), Path(data).read_bytes()
        path.unlink()

    if not labels:
        return unpack(data, None)

    def fetch(number: int, writable: bool) -> np.ndarray[Any, Any]:
        return mapped(labels[number]) if writable or kept is None else kept.get(labels[number])

    try:
        return unpack(data, fetch)
    finally:
        for label in labels if kept is None else ():
            Path(label.path).unlink()
