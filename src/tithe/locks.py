"""A folder in which one works at a time: a lock that the system lets go of when its holder dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tithe.errors import InvalidStateError

__all__ = ["lock", "locked"]


def lock(folder: Path) -> sqlite3.Connection:
    """Have a folder for oneself until the connection is closed or this process dies, however it does.

    Args:
        folder: is made where there is none; gets an empty file ``.lock``, which stays.

    Returns:
        What to close. Raises ``InvalidStateError`` where somebody else has the folder, in this process or another;
        ``OSError`` where it cannot be written to.

    >>> import tempfile
    >>> lock(Path(tempfile.mkdtemp())).close()
    """
    folder.mkdir(parents=True, exist_ok=True)
    connection = None
    try:
        # SQLite's locks end with the process that holds them, on every platform; a file with its number would stay.
        connection = sqlite3.connect(folder / ".lock", timeout=0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = OFF")  # nothing is written that could be rolled back
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise InvalidStateError(
                f"somebody else is at work in {folder}; wait for it, or close it there, or give another folder"
            ) from None
        raise OSError(f"cannot lock {folder}: {error}; check that it is writable") from error
    return connection


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have a folder for oneself until the end of the block; arguments and errors as of :func:`lock`.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp())):
    ...     pass
    """
    with closing(lock(folder)):
        yield
