"""The idx format of the MNIST family: big-endian arrays behind a header of a few bytes."""

from __future__ import annotations

import gzip
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.data.records import Labelled
from tithe.errors import CorruptFileError

__all__ = ["gunzip", "labelled_images", "parse_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def gunzip(raw: bytes) -> bytes:
    """The content of a gzip file; what does not start like one is returned as it is (it was unpacked before).

    Raises ``EOFError``, ``zlib.error`` or ``gzip.BadGzipFile`` for a damaged file. O(size).

    >>> gunzip(gzip.compress(b"idx")), gunzip(b"idx")
    (b'idx', b'idx')
    """
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def parse_idx(data: bytes) -> NDArray[Any]:
    """The array in an idx file, in the byte order of this machine.

    Args:
        data: the whole (unpacked) file: two zero bytes, a type code, the number of dimensions, that many big-endian
            uint32 sizes, then the values, row by row.

    Returns:
        A fresh, writable array of uint8, int8, int16, int32, float32 or float64.

    Raises ``CorruptFileError`` where magic number, type code or length do not fit. O(size).
    Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".

    >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9]))
    array([[7, 8, 9]], dtype=uint8)
    """
    if len(data) < 4 or data[:2] != b"\0\0":
        raise CorruptFileError(
            f"not an idx file: it starts with {data[:4].hex() or 'nothing'}, expected 0000 and a type"
        )
    code, dimensions = data[2], data[3]
    if code not in _DTYPES:
        known = ", ".join(f"{c:#04x}" for c in _DTYPES)
        raise CorruptFileError(f"not an idx file: type code {code:#04x}, expected one of {known}")
    dtype, start = np.dtype(_DTYPES[code]), 4 + 4 * dimensions
    if len(data) < start:
        raise CorruptFileError(
            f"truncated idx file: {len(data)} bytes, but {dimensions} dimensions need a header of {start}"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        kind = "truncated idx file" if len(data) < expected else "idx file with bytes after its end"
        raise CorruptFileError(f"{kind}: {len(data)} bytes, but shape {shape} of {dtype.name} needs {expected}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def labelled_images(train_x: bytes, train_y: bytes, test_x: bytes, test_y: bytes) -> Labelled:
    """Four idx files as a labelled set: images uint8 (n, height, width), labels int64 (n,).

    Raises ``CorruptFileError`` where images and labels do not belong together. O(size).

    >>> image, label = bytes([0, 0, 8, 3, *[0, 0, 0, 1] * 3, 255]), bytes([0, 0, 8, 1, 0, 0, 0, 1, 4])
    >>> labelled_images(image, label, image, label).test_y
    array([4])
    """
    arrays = Labelled(parse_idx(train_x), parse_idx(train_y), parse_idx(test_x), parse_idx(test_y))
    for part, x, y in (("train", arrays.train_x, arrays.train_y), ("test", arrays.test_x, arrays.test_y)):
        if x.ndim != 3 or x.dtype != np.uint8 or y.shape != x.shape[:1]:
            raise CorruptFileError(
                f"the {part} files hold {x.dtype} {x.shape} and {y.dtype} {y.shape}; "
                "expected uint8 images (n, height, width) and n labels"
            )
    return arrays._replace(train_y=arrays.train_y.astype(np.int64), test_y=arrays.test_y.astype(np.int64))
