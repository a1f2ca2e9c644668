"""A folder in which one process works at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tithe.errors import InvalidStateError

__all__ = ["locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have a folder for oneself, until the end or until this process dies, however it does.

    Args:
        folder: is made where there is none; gets an empty file ``.lock``, which stays.

    Raises ``InvalidStateError`` where another process has it, ``OSError`` where the folder cannot be written to.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp())):
    ...     pass
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # The system lets go of SQLite's locks when a process is killed, everywhere; a file with a number would stay.
        connection = sqlite3.connect(folder / ".lock", timeout=0, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise OSError(f"cannot write to {folder}: {error}") from error
    with closing(connection):
        try:
            connection.execute("PRAGMA journal_mode = OFF")  # nothing is written that could be rolled back
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise OSError(f"cannot write to {folder}: {error}") from error
            raise InvalidStateError(
                f"another process is at work in {folder}; wait for it, or give another folder"
            ) from None
        yield
