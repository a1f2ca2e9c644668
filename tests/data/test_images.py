from __future__ import annotations

import gzip
import struct
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from tithe.data.images import gunzip, labelled_images, parse_idx
from tithe.errors import CorruptFileError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array: NDArray[Any]) -> bytes:
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@given(arrays)
def test_round_trip(array: NDArray[Any]) -> None:
    parsed = parse_idx(idx(array))
    np.testing.assert_array_equal(parsed, array)
    assert (parsed.dtype, parsed.shape) == (array.dtype, array.shape)
    assert parsed.dtype.isnative
    assert parsed.flags.writeable


@given(arrays, st.data())
def test_any_cut_is_noticed(array: NDArray[Any], data: st.DataObject) -> None:
    whole = idx(array)
    kept = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CorruptFileError, match=r"truncated|not an idx file"):
        parse_idx(whole[:kept])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"<html>", "starts with 3c68746d, expected 0000"),
        (bytes([0, 0, 0x0A, 1]), "type code 0x0a, expected one of 0x08"),
        (bytes([0, 0, 8, 3, 0, 0]), "3 dimensions need a header of 16"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 5, 6]), r"bytes after its end: 10 bytes, but shape \(1,\) of uint8 needs 9"),
        (bytes([0, 0, 8, 3, *[255] * 12]), "truncated idx file: 16 bytes"),
    ],
)
def test_foreign_and_damaged_files_are_named(data: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        parse_idx(data)


def test_labels_that_do_not_belong_to_the_images_are_noticed() -> None:
    images, labels = idx(np.zeros((2, 3, 3), np.uint8)), idx(np.zeros(2, np.uint8))
    assert labelled_images(images, labels, images, labels).train_y.dtype == np.int64
    with pytest.raises(CorruptFileError, match=r"the test files hold uint8 \(2, 3, 3\) and uint8 \(3,\)"):
        labelled_images(images, labels, images, idx(np.zeros(3, np.uint8)))
    with pytest.raises(CorruptFileError, match="the train files"):
        labelled_images(labels, labels, images, labels)


def test_a_truncated_gzip_file_is_no_content() -> None:
    with pytest.raises(EOFError):
        gunzip(gzip.compress(bytes(1000))[:-9])
