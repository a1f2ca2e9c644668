"""The ledger: events are appended and read, never changed; one file, many writers."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.ledger.payload import decode_payload, encode_payload
from tithe.ledger.schema import begin_immediate, connect, translated_errors

__all__ = ["Event", "Ledger"]

_TAIL_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a ledger.

    Attributes:
        id: its number, from 1; later entries have larger ones.
        run: which run it belongs to.
        time: when it was written, in seconds since 1970 (UTC), by the writer's clock.
        system: which part wrote it, for instance ``product``.
        kind: what it reports, for instance ``receipt``.
        payload: JSON values; see ``Ledger.append``.

    >>> Event(1, "run-1", 0.0, "product", "receipt", {"flops": 2}).kind
    'receipt'
    """

    id: int
    run: str
    time: float
    system: str
    kind: str
    payload: dict[str, Any]


class Ledger:
    """An append-only store of events in one SQLite file, for any number of processes and threads at once.

    The file is made where there is none. What ``append`` or ``extend`` has returned is in the file: it survives the
    death of the process (kill -9); the last moments may be lost when the whole machine loses power, never more.
    A Ledger may be shared by threads and used on both sides of a fork. It is of no use on network file systems.

    Args:
        path: the file; missing parent folders are made.
        timeout: seconds to wait for other writers before giving up.

    Raises ``CorruptFileError`` for a file that is damaged, foreign or written by a newer Tithe, ``InvalidStateError``
    where others keep it locked for longer than ``timeout`` or it has been closed, ``OSError`` as the file system does.
    Source: MISSION, the run store; sqlite.org/wal.html.

    >>> import tempfile
    >>> with Ledger(f"{tempfile.mkdtemp()}/runs.db") as ledger:
    ...     number = ledger.append("run-1", "product", "receipt", {"ratio": 0.1})
    ...     [event.payload for event in ledger.read(run="run-1")]
    [{'ratio': 0.1}]
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 30.0) -> None:
        self.path = Path(path).absolute()
        self._timeout = timeout
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        with _LOCK:
            self._connection = connect(self.path, timeout)
            _OPEN.add(self)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice does nothing, using it afterwards raises ``InvalidStateError``."""
        with _LOCK:
            self._closed = True
            self._disconnect()
            _OPEN.discard(self)

    def append(self, run: str, system: str, kind: str, payload: Mapping[str, Any]) -> int:
        """Write one event.

        Args:
            run: which run it belongs to; not empty.
            system: which part writes it; not empty.
            kind: what it reports; not empty.
            payload: a mapping of JSON values. Tuples come back as lists; NaN and ±∞ are kept.

        Returns:
            Its id. Raises ``InvalidDTypeError`` or ``InvalidValueError`` for what cannot be kept; nothing is written
            then. O(log n + size).
        """
        return self.extend([(run, system, kind, payload)])[0]

    def extend(self, events: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> list[int]:
        """Write many events (run, system, kind, payload), all or none, in one transaction; quicker than one by one.

        Returns:
            Their ids, consecutive, in the order given. Raises as ``append`` does. O(k · (log n + size)).
        """
        rows = [(_name("run", r), _name("system", s), _name("kind", k), encode_payload(p)) for r, s, k, p in events]
        if not rows:
            return []
        with _LOCK, translated_errors(self.path):
            connection = self._connected()
            try:
                begin_immediate(connection, self._timeout)
                now = time.time()
                ids = [
                    connection.execute(
                        "INSERT INTO events (run, time, system, kind, payload) VALUES (?, ?, ?, ?, ?)",
                        (run, now, system, kind, payload),
                    ).lastrowid
                    for run, system, kind, payload in rows
                ]
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return [number for number in ids if number is not None]

    def read(
        self,
        *,
        run: str | None = None,
        system: str | None = None,
        kind: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Event]:
        """The events that match, in the order in which they were written.

        Args:
            run: only of this run.
            system: only of this system.
            kind: only of this kind.
            after: only those with a larger id.
            limit: at most so many, the earliest.

        Returns:
            A list; all of one moment, whatever is being written. Raises ``CorruptFileError`` where the file is
            damaged. O(log n + events after ``after``, of the run where one is given).
        """
        wanted = {"run": run, "system": system, "kind": kind}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = "".join(f" AND {column} = :{column}" for column in given)
        query = (
            f"SELECT id, run, time, system, kind, payload FROM events WHERE id > :after{where} ORDER BY id LIMIT :limit"
        )
        values = {**given, "after": after, "limit": -1 if limit is None else limit}
        with _LOCK, translated_errors(self.path):
            rows = self._connected().execute(query, values).fetchall()
        try:
            return [Event(r[0], r[1], r[2], r[3], r[4], decode_payload(r[5])) for r in rows]
        except (ValueError, TypeError) as error:
            raise CorruptFileError(f"{self.path} holds a payload that is not JSON ({error}); restore a copy") from error

    def tail(
        self,
        *,
        run: str | None = None,
        system: str | None = None,
        kind: str | None = None,
        after: int = 0,
        poll: float = 0.2,
        stop: Callable[[], bool] | None = None,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """Yield the events that match, then wait for new ones and yield those; none is left out or told twice.

        Args:
            run: only of this run.
            system: only of this system.
            kind: only of this kind.
            after: only those with a larger id.
            poll: seconds between two looks.
            stop: asked before each look; once it is true, what is there is yielded and the generator ends.
            timeout: seconds without any new event after which the generator ends; None waits for ever.

        Raises as ``read`` does. Each look is O(log n + new events).
        """
        last_news = time.monotonic()
        while True:
            stopping = stop is not None and stop()
            events = self.read(run=run, system=system, kind=kind, after=after, limit=_TAIL_BATCH)
            for event in events:
                after = event.id
                yield event
            if events:
                last_news = time.monotonic()
            elif stopping or (timeout is not None and time.monotonic() - last_news >= timeout):
                return
            else:
                time.sleep(poll)

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise InvalidStateError(f"the ledger {self.path} has been closed; open it again with Ledger(path)")
        if self._connection is None:
            self._connection = connect(self.path, self._timeout)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _name(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidDTypeError(f"{what} is a {type(value).__name__}; pass a string")
    if not value:
        raise InvalidValueError(f"{what} is empty; name it")
    return value


# SQLite's locks break in a forked child (a data loader's, say): no connection may be open while a fork happens.
_LOCK = threading.RLock()
_OPEN: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _before_fork() -> None:
    _LOCK.acquire()
    for ledger in list(_OPEN):
        ledger._disconnect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
