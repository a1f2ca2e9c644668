"""Reading a sum cache's folder: the newest state that is whole, and what is wrong with the rest.

Generation g is ``snapshot-g``, all records of one moment, and ``journal-g``, the batches that came after it. Where
``snapshot-g`` is damaged, the snapshot before it and the journals of both give the same state, with what was pruned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.hashtron.backward.frames import HEAD_BYTES, Frame, Head, Kind, is_foreign, read_frames, read_head
from tithe.hashtron.backward.records import ROW, Rows, as_rows
from tithe.hashtron.backward.staleness import StaleRule
from tithe.hashtron.backward.sum_table import SumTable

__all__ = ["Recovered", "cache_files", "file_name", "read_folder"]

_NAME = re.compile(r"(snapshot|journal)-(\d{8})\.sums")


@dataclass(slots=True)
class Recovered:
    """What was read.

    Attributes:
        table: the records.
        batches: how many batches they are.
        generation: the newest that there is a file of; −1 in an empty folder.
        whole: bytes of the newest journal that hold whole batches; ``None`` where it cannot be written on.
        damaged: files that are not what was written.
        notes: what was found wrong, in words; empty if nothing was.
    """

    table: SumTable
    batches: int = 0
    generation: int = -1
    whole: int | None = None
    damaged: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def found(self, path: Path, fault: str) -> None:
        """Note that a file is damaged."""
        self.notes.append(f"{path.name} {fault}")
        if path not in self.damaged:
            self.damaged.append(path)


def file_name(kind: Kind, generation: int) -> str:
    """How a file is called.

    >>> file_name("journal", 3)
    'journal-00000003.sums'
    """
    return f"{kind}-{generation:08}.sums"


def cache_files(folder: Path) -> dict[tuple[Kind, int], Path]:
    """The files of a sum cache in a folder. O(files)."""
    found: dict[tuple[Kind, int], Path] = {}
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            found["snapshot" if match[1] == "snapshot" else "journal", int(match[2])] = path
    return found


def read_folder(folder: Path, tau: float) -> Recovered:
    """Read the newest state that is whole; changes nothing.

    Args:
        folder: there is one.
        tau: τ of the table's gold zone.

    Returns:
        What was found. Raises ``CorruptFileError`` where files are foreign or newer, or no state is left that is
        whole; ``OSError`` as the file system does. O(bytes + n log n).
    """
    files = cache_files(folder)
    heads = _heads(folder, files)
    found = Recovered(SumTable(tau), generation=max((generation for _, generation in files), default=-1))
    base = 0
    for generation in sorted((number for kind, number in files if kind == "snapshot"), reverse=True):
        path, head = files["snapshot", generation], heads["snapshot", generation]
        try:
            found.table, found.batches = _snapshot(path, head, tau)
        except CorruptFileError as error:
            found.found(path, str(error))
        else:
            base = generation
            break
    else:
        if files and ("journal", 0) not in files:
            told = "; ".join(found.notes) or "there is no snapshot"
            raise CorruptFileError(f"{folder} has no whole state ({told}); restore a copy, or give another folder")
    for generation in range(base, found.generation + 1):
        if ("journal", generation) in files:
            _replay(found, files["journal", generation], heads["journal", generation], generation)
    return found


def _heads(folder: Path, files: dict[tuple[Kind, int], Path]) -> dict[tuple[Kind, int], Head | None]:
    """The head of each file, ``None`` where it is damaged or of some other file."""
    heads: dict[tuple[Kind, int], Head | None] = {}
    foreign = 0
    for (kind, generation), path in files.items():
        with path.open("rb") as file:
            raw = file.read(HEAD_BYTES)
        foreign += is_foreign(raw)
        try:
            head = read_head(raw)
        except CorruptFileError as error:
            raise CorruptFileError(f"{path} {error}") from None
        heads[kind, generation] = head if head and (head.kind, head.generation) == (kind, generation) else None
    if files and foreign == len(files):  # beside files of ours it would be one of ours that is damaged
        raise CorruptFileError(
            f"{folder} has files called {min(files.values()).name} or alike that are of no sum cache; "
            "they were left as they are: move them away, or give another folder"
        )
    return heads


def _snapshot(path: Path, head: Head | None, tau: float) -> tuple[SumTable, int]:
    if head is None:
        raise CorruptFileError("has a damaged head")
    table, ended = SumTable(tau), False
    with path.open("rb") as file:
        file.seek(HEAD_BYTES)
        for number, frame in enumerate(read_frames(file, HEAD_BYTES)):
            if frame.number != number or ended:
                raise CorruptFileError(f"has part {frame.number} in the place of part {number}")
            if frame.content == "rows":
                table.extend(_rows(frame))
            elif frame.content == "end" and frame.payload == len(table).to_bytes(8, "little"):
                ended = True
            else:
                raise CorruptFileError(f"has a part {number} that cannot be there")
    if not ended:
        raise CorruptFileError("is cut off")
    return table, head.batches


def _replay(found: Recovered, path: Path, head: Head | None, generation: int) -> None:
    """Add the batches of a journal to what was found."""
    newest = generation == found.generation
    if head is None:
        found.found(path, "has a damaged head")
    elif head.batches != found.batches:
        found.found(path, f"goes on after {head.batches} batches, of which only {found.batches} are left: not used")
        return
    after, fault = HEAD_BYTES, None
    with path.open("rb") as file:
        file.seek(HEAD_BYTES)
        try:
            for frame in read_frames(file, HEAD_BYTES):
                _apply(found, frame)
                found.batches, after = found.batches + 1, frame.after
        except CorruptFileError as error:
            fault = str(error)
    torn = path.stat().st_size - after
    if fault is not None:
        found.found(path, f"{fault}; its batches up to byte {after} were read")
    elif torn > 0 and newest:
        found.notes.append(f"{path.name} ends in {torn} bytes of a batch that was not finished; they were dropped")
    if newest and path not in found.damaged:
        found.whole = after


def _apply(found: Recovered, frame: Frame) -> None:
    if frame.number != found.batches:
        raise CorruptFileError(f"has batch {frame.number} in the place of batch {found.batches}")
    if frame.content == "rows":
        found.table.extend(_rows(frame))
    elif frame.content == "mark":
        found.table.mark(StaleRule.unpack(frame.payload))
    else:
        raise CorruptFileError(f"has a batch {frame.number} that cannot be there")


def _rows(frame: Frame) -> Rows:
    if len(frame.payload) % ROW.itemsize:
        raise CorruptFileError(f"has {len(frame.payload)} bytes of records; each has {ROW.itemsize}")
    try:
        return as_rows(np.frombuffer(frame.payload, ROW))
    except InvalidValueError as error:
        raise CorruptFileError(f"has a record that cannot be ({error})") from None
