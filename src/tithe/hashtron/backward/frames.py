"""Frames: how records lie in a file, so that whatever is missing or was changed in it is noticed.

A file begins with a head: format, version, kind, generation, how many batches came before it, and a checksum. Frames
follow, each with its number, its kind, its length, and checksums of these and of the content.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from tithe.errors import CorruptFileError

__all__ = [
    "HEAD_BYTES",
    "VERSION",
    "Frame",
    "Head",
    "is_foreign",
    "pack_frame",
    "pack_head",
    "read_frames",
    "read_head",
]

VERSION = 1
Kind = Literal["snapshot", "journal"]
Content = Literal["rows", "mark", "end"]

_MAGIC = b"TitheSum"
_KINDS: tuple[Kind, ...] = ("snapshot", "journal")
_CONTENTS: tuple[Content, ...] = ("rows", "mark", "end")
_HEAD = struct.Struct("<8sHHIQ")  # of this form in every version to come, so that a newer one is recognised
_FRAME = struct.Struct("<IQII")  # kind, number, length, checksum of the content
_SUM = struct.Struct("<I")
_MOST_CONTENT = 1 << 24  # bytes
HEAD_BYTES = _HEAD.size + _SUM.size
_FRAME_BYTES = _FRAME.size + _SUM.size


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of itself.

    Attributes:
        kind: a snapshot holds all records of one moment, a journal the batches after its snapshot.
        generation: number of the snapshot that it is, or comes after.
        batches: how many batches there were before.

    >>> read_head(pack_head(Head("journal", 3, 70)))
    Head(kind='journal', generation=3, batches=70)
    """

    kind: Kind
    generation: int
    batches: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a file.

    Attributes:
        content: ``rows``, a ``mark`` of stale records, or the ``end`` of a snapshot.
        number: of a batch in a journal, of a part in a snapshot.
        payload: the bytes.
        after: where in the file it ends.
    """

    content: Content
    number: int
    payload: bytes
    after: int


def pack_head(head: Head, version: int = VERSION) -> bytes:
    """The head of a file. O(1)."""
    packed = _HEAD.pack(_MAGIC, version, _KINDS.index(head.kind), head.generation, head.batches)
    return packed + _SUM.pack(zlib.crc32(packed[len(_MAGIC) :]))


def read_head(raw: bytes) -> Head | None:
    """The head that a file begins with.

    Args:
        raw: the first ``HEAD_BYTES`` of the file, or all of a shorter one.

    Returns:
        The head, or ``None`` if it is damaged. Raises ``CorruptFileError`` where the file is of a newer version. O(1).
    """
    if not (_named(raw) and _summed(raw)):
        return None
    _, version, kind, generation, batches = _HEAD.unpack(raw[: _HEAD.size])
    if version > VERSION:
        raise CorruptFileError(f"was written by a newer Tithe (version {version}; this one reads {VERSION}): upgrade")
    return Head(_KINDS[kind], generation, batches) if version == VERSION and kind < len(_KINDS) else None


def is_foreign(raw: bytes) -> bool:
    """Whether a file that begins so has neither the format's name nor the right checksum. O(1).

    >>> is_foreign(b"From: somebody else"), is_foreign(pack_head(Head("journal", 0, 0))[:5])
    (True, False)
    """
    return not _named(raw) and not _summed(raw)


def pack_frame(content: Content, number: int, payload: bytes) -> bytes:
    """A frame; its content may have 16 MiB. O(size).

    >>> import io
    >>> [frame.payload for frame in read_frames(io.BytesIO(pack_frame("rows", 0, b"some")), 0)]
    [b'some']
    """
    head = _FRAME.pack(_CONTENTS.index(content), number, len(payload), zlib.crc32(payload))
    return head + _SUM.pack(zlib.crc32(head)) + payload


def read_frames(file: BinaryIO, start: int) -> Iterator[Frame]:
    """The frames of a file, up to the first that is not whole.

    Args:
        file: is read on from where it is.
        start: where that is.

    Yields:
        Frames whose checksums are right. Raises ``CorruptFileError`` after these if something follows that was whole
        once and was changed; what may be the torn end of a file that was being written ends them silently. O(size).
    """
    while len(head := file.read(_FRAME_BYTES)) == _FRAME_BYTES:
        kind, number, length, checksum = _FRAME.unpack(head[: _FRAME.size])
        if _SUM.unpack(head[_FRAME.size :]) != (zlib.crc32(head[: _FRAME.size]),):
            raise CorruptFileError(f"is damaged at byte {start}")
        if kind >= len(_CONTENTS) or length > _MOST_CONTENT:
            raise CorruptFileError(f"has a frame at byte {start} that this version does not write")
        payload = file.read(length)
        if len(payload) < length:
            return
        if zlib.crc32(payload) != checksum:
            raise CorruptFileError(f"is damaged in the {length} bytes before byte {start + _FRAME_BYTES + length}")
        start += _FRAME_BYTES + length
        yield Frame(_CONTENTS[kind], number, payload, start)


def _named(raw: bytes) -> bool:
    return raw.startswith(_MAGIC) or (len(raw) < HEAD_BYTES and _MAGIC.startswith(raw[: len(_MAGIC)]))


def _summed(raw: bytes) -> bool:
    """Whether the checksum is right, which leaves out the format's name: either shows that the other is damaged."""
    return len(raw) >= HEAD_BYTES and raw[_HEAD.size : HEAD_BYTES] == _SUM.pack(
        zlib.crc32(raw[len(_MAGIC) : _HEAD.size])
    )
