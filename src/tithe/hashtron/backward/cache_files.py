"""Writing a sum cache's folder: batches to the journal, a snapshot of all, and the one before it as a backup."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from tithe.errors import InvalidValueError
from tithe.files import write_atomically
from tithe.hashtron.backward.frames import HEAD_BYTES, Content, Head, pack_frame, pack_head
from tithe.hashtron.backward.recovery import Recovered, cache_files, file_name, read_folder
from tithe.hashtron.backward.sum_table import SumTable
from tithe.locks import lock

__all__ = ["CacheFiles"]


class _Place(NamedTuple):
    """Where writing has come to; replaced as one, so that no interruption leaves a part of it behind."""

    generation: int
    journal: int  # file descriptor; −1 for none
    whole: int  # bytes of the journal
    batches: int  # since the first generation
    rows: int  # that were read or written


class CacheFiles:
    """The files of one sum cache, held by one writer.

    Opening reads what is there. The torn end of a journal is cut off; where a file is damaged, a new generation is
    written from what is whole, and the file stays beside with ``.damaged`` after its name.

    Args:
        folder: is made where there is none.
        tau: τ of the table's gold zone.

    Attributes:
        table: the records that were read.
        recovered: what was found wrong, in words; empty if nothing was.

    Raises ``CorruptFileError`` where files are foreign or newer, or no state is whole, and leaves all as it is;
    ``InvalidStateError`` where somebody else writes; ``InvalidValueError`` where the folder is a file; ``OSError``.

    >>> import tempfile
    >>> files = CacheFiles(Path(tempfile.mkdtemp()), tau=0.8)
    >>> len(files.table), files.recovered
    (0, '')
    >>> files.close()
    """

    def __init__(self, folder: Path, tau: float) -> None:
        if folder.exists() and not folder.is_dir():
            raise InvalidValueError(f"{folder} is a file; give the folder of a sum cache, or one that is not there yet")
        self._folder = folder
        with contextlib.ExitStack() as opened:
            opened.enter_context(contextlib.closing(lock(folder)))
            found = read_folder(folder, tau)
            self.table, self.recovered = found.table, "; ".join(found.notes)
            self._at = _Place(found.generation, -1, 0, found.batches, len(found.table))
            opened.callback(self._close_journal)
            self._take_over(found)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the files and let others write. Closing twice does nothing."""
        self._opened.close()

    @property
    def rows(self) -> int:
        """How many records were read and written since the files were opened."""
        return self._at.rows

    def write(self, content: Content, payload: bytes, rows: int = 0) -> None:
        """Add a batch to the journal, of so many records, and wait for the disk.

        Where this fails or is interrupted, the next attempt replaces what it left. Raises ``OSError``. O(size).
        """
        generation, journal, whole, batches, written = self._at
        frame = pack_frame(content, batches, payload)
        os.ftruncate(journal, whole)  # what an earlier attempt may have left
        os.lseek(journal, whole, os.SEEK_SET)
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(journal, rest) :]
        os.fsync(journal)
        self._at = _Place(generation, journal, whole + len(frame), batches + 1, written + rows)

    def snapshot(self, table: SumTable) -> None:
        """Begin a generation with all records of a table; the one before stays as the backup, older ones go.

        A crash at any moment leaves the state before or after; the batches are the same. Raises ``OSError``, and goes
        on with the old snapshot then. O(bytes).
        """
        self._begin(self._at.generation + 1)  # first: from now on nothing may go where a snapshot would hide it
        self._write_snapshot(table)
        files, newest = cache_files(self._folder), self._at.generation
        backup = max((number for kind, number in files if kind == "snapshot" and number < newest), default=0)
        for (_, generation), path in files.items():
            if generation < backup:
                path.unlink(missing_ok=True)

    def _take_over(self, found: Recovered) -> None:
        for part in self._folder.glob(".*.sums*.part"):  # of a writer that was killed
            part.unlink(missing_ok=True)
        if found.generation < 0:
            self._begin(0)
        elif found.whole is not None and not found.damaged:
            self._open_journal(found.generation, found.whole)
        else:
            self._begin(found.generation + 1)
            self._write_snapshot(found.table)
            for path in found.damaged:
                path.replace(_free(path))
            self.snapshot(found.table)  # so that the one just written is a backup, as there is one always

    def _begin(self, generation: int) -> None:
        path = self._folder / file_name("journal", generation)
        try:
            write_atomically(path, pack_head(Head("journal", generation, self._at.batches)))
            _settle(self._folder)
            self._open_journal(generation, HEAD_BYTES)
        except BaseException:
            if self._at.generation != generation:  # batches go on to the old one, which this one does not follow
                path.unlink(missing_ok=True)
            raise

    def _open_journal(self, generation: int, whole: int) -> None:
        path = self._folder / file_name("journal", generation)
        journal, old = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0)), self._at.journal
        self._at = self._at._replace(generation=generation, journal=journal, whole=whole)
        if old >= 0:
            os.close(old)
        os.ftruncate(journal, whole)

    def _close_journal(self) -> None:
        journal, self._at = self._at.journal, self._at._replace(journal=-1)
        if journal >= 0:
            os.close(journal)

    def _write_snapshot(self, table: SumTable) -> None:
        """Written part by part: all records as one string of bytes would take their memory again."""
        path = self._folder / file_name("snapshot", self._at.generation)
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                file.write(pack_head(Head("snapshot", self._at.generation, self._at.batches)))
                number = 0
                for rows in table.chunks():
                    file.write(pack_frame("rows", number, rows.tobytes()))
                    number += 1
                file.write(pack_frame("end", number, len(table).to_bytes(8, "little")))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _settle(self._folder)


def _free(path: Path) -> Path:
    """A name for a damaged file that no other has."""
    number, name = 0, path.with_name(f"{path.name}.damaged")
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.damaged.{number}")
    return name


def _settle(folder: Path) -> None:
    """Have the names in a folder on the disk too, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
