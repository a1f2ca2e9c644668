"""Reading what Go's ``compress/lzw`` wrote, lowest bits first, 8 bits a literal: older model files are packed so."""

from __future__ import annotations

from tithe.errors import CorruptFileError

__all__ = ["expand"]

_CLEAR, _END = 256, 257
_WIDTHS = range(9, 13)


def expand(data: bytes, limit: int) -> bytes:
    """Unpack ``data``; O(data + result), and of the result at most ``limit`` bytes and one code's are ever held.

    Args:
        data: a whole LZW stream.
        limit: the most bytes that may come out.

    Returns:
        The content. Raises ``CorruptFileError`` where a code cannot be, the stream ends early, bytes follow its end,
        or more comes out.

    >>> expand(bytes([0x00, 0xC3, 0x08, 0x0C, 0x08]), 100)
    b'aaa'
    """
    entries = [bytes([i]) for i in range(256)] + [b"", b""]  # two places for the codes that are no entries
    first, width, previous = len(entries), _WIDTHS[0], b""
    out, held, count = bytearray(), 0, 0
    for read, byte in enumerate(data, 1):
        held |= byte << count
        count += 8
        if count < width:
            continue
        code = held & (1 << width) - 1
        held, count = held >> width, count - width
        if code == _END:
            if read < len(data):
                raise CorruptFileError(f"{len(data) - read} bytes follow the end of the LZW stream")
            return bytes(out)
        if code == _CLEAR:
            del entries[first:]
            width, previous = _WIDTHS[0], b""
            continue
        if code > len(entries) or (code == len(entries) and not previous):
            raise CorruptFileError(f"LZW code {code} of {len(entries)}: the stream is damaged")
        entry = entries[code] if code < len(entries) else previous + previous[:1]
        out += entry
        if len(out) > limit:
            raise CorruptFileError(f"the stream expands to more than {limit} bytes")
        if previous and len(entries) < 1 << _WIDTHS[-1]:
            entries.append(previous + entry[:1])
            if len(entries) >> width and width < _WIDTHS[-1]:
                width += 1
        previous = entry
    raise CorruptFileError(f"the LZW stream ends early, after {len(out)} bytes of content")
