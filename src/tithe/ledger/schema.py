"""The ledger's file: what is in it, how it is made, how it is recognised, and what SQLite's errors mean for it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tithe.errors import CorruptFileError, InvalidStateError, InvalidValueError

__all__ = ["begin_immediate", "connect", "translated_errors"]

_APPLICATION_ID = int.from_bytes(b"Tith", "big")
_VERSION = 1
_COLUMNS = ["id", "run", "time", "system", "kind", "payload"]
_SCHEMA = f"""
CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run TEXT NOT NULL, time REAL NOT NULL, system TEXT NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL
);
CREATE INDEX events_by_run ON events (run, id);
CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER no_replace BEFORE INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
  BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""
_REMEDY = "move it away together with its -wal and -shm files and start anew, or give another path"


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """Open the ledger at ``path``, making it where there is none; waits up to ``timeout`` seconds for others.

    The connection commits by itself and may be handed from thread to thread. A file of zero length and an empty
    database count as none: a process may have died between making the file and writing the schema.
    Raises as ``translated_errors`` says, and ``CorruptFileError`` where the file is another program's. O(1).
    """
    if path.is_dir():
        raise InvalidValueError(f"{path} is a folder; give the path of a file, for instance {path / 'runs.db'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size == 1:  # which SQLite takes for an empty file and overwrites
        raise CorruptFileError(f"{path} is damaged or no SQLite file (it has one byte); {_REMEDY}")
    with translated_errors(path):
        # SQLite alone may open the file: closing a second handle would drop all locks that this process has on it.
        connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            if not _is_ledger(connection, path):
                _switch_to_wal(connection, path, timeout)
                begin_immediate(connection, timeout)
                if not _is_ledger(connection, path):  # another process may have been quicker
                    for statement in _statements(_SCHEMA):
                        connection.execute(statement)
                connection.execute("COMMIT")
            _switch_to_wal(connection, path, timeout)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


def begin_immediate(connection: sqlite3.Connection, timeout: float) -> None:
    """Begin a transaction that may write, trying again for ``timeout`` seconds where SQLite gives up sooner."""
    _persist(connection, "BEGIN IMMEDIATE", timeout)


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into those that name the file and the remedy.

    ``CorruptFileError``: damaged, or no SQLite file. ``InvalidStateError``: locked by another process for too long.
    ``OSError``: not permitted, disk full, or any other refusal of the file system.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise CorruptFileError(f"{path} is damaged or no SQLite file ({error}); {_REMEDY}") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise InvalidStateError(
                f"another process keeps {path} locked, nothing was written; try again, or open it with a longer timeout"
            ) from error
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(f"cannot use the ledger {path}: {error}; check that its folder is writable") from error
        raise


def _is_ledger(connection: sqlite3.Connection, path: Path) -> bool:
    """True for a ledger, False for an empty database; ``CorruptFileError`` for anything else."""
    # One statement, hence one snapshot: another process may be writing the schema right now.
    application, version, objects = connection.execute(
        "SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_application_id AS a, pragma_user_version AS v"
    ).fetchone()
    if (application, version, objects) == (0, 0, 0):
        return False
    if application != _APPLICATION_ID:
        raise CorruptFileError(
            f"{path} is an SQLite file of another program (application_id {application:#x}, {objects} objects), "
            f"not a ledger ({_APPLICATION_ID:#x}); give another path"
        )
    if version > _VERSION:
        raise CorruptFileError(
            f"{path} was written by a newer Tithe (schema {version}; this one reads up to {_VERSION}); upgrade Tithe"
        )
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    if version < 1 or columns != _COLUMNS:
        raise CorruptFileError(
            f"{path} has schema {version} with the event columns {columns}; expected {_COLUMNS}; {_REMEDY}"
        )
    return True


def _switch_to_wal(connection: sqlite3.Connection, path: Path, timeout: float) -> None:
    mode = _persist(connection, "PRAGMA journal_mode = WAL", timeout).fetchone()[0]
    if mode != "wal":
        raise InvalidStateError(f"{path} lies where SQLite cannot keep a write-ahead log; put it on a local disk")


def _persist(connection: sqlite3.Connection, statement: str, timeout: float) -> sqlite3.Cursor:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connection.execute(statement)
        except sqlite3.OperationalError as error:
            passing = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
            if not passing or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)


def _statements(script: str) -> Iterator[str]:
    """The single statements of ``script``; ``executescript`` would commit before it begins."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
