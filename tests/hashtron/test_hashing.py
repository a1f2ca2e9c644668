"""The hash, and features of text and bytes, are those of the reference."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import LARGEST, vectors

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron import Hashtron, byte_features, hash32, string_hash
from tithe.hashtron.kernels import compiled, plain
from tithe.hashtron.stages import pack

ROWS = np.array(vectors("hash_vectors"), np.uint32)
UINT32 = st.integers(0, LARGEST)


def test_every_vector() -> None:
    n, s, maximum, expected = ROWS.T
    assert [hash32(*row) for row in ROWS[:, :3].tolist()] == expected.tolist()
    assert (hash32(n, s, maximum) == expected).all()
    tensors = (torch.from_numpy(column.astype(np.int64)) for column in (n, s, maximum))
    assert (plain.hash32(*tensors).numpy() == expected).all()


def test_every_vector_compiled() -> None:
    """A hashtron without a filter shows the lowest bit of the hash, and a premodulo salts by position."""
    for n, s, maximum, expected in ROWS.tolist():
        packed = pack([Hashtron(((s, maximum),))])
        bit = compiled.evaluate(np.array([[n]], np.uint32), np.array([0]), 0, packed)
        assert bit[0, 0] == expected & 1


@given(n=UINT32, s=UINT32, maximum=UINT32)
def test_numbers_arrays_and_tensors_agree(n: int, s: int, maximum: int) -> None:
    value = hash32(n, s, maximum)
    assert 0 <= value < max(maximum, 1)
    assert hash32(np.array([n, n], np.uint64), s, maximum).tolist() == [value, value]
    assert int(plain.hash32(torch.tensor([n]), s, maximum)) == value
    assert hash32(n - (1 << 32), s + (1 << 32), maximum) == value


def test_shapes_and_types() -> None:
    assert hash32(np.arange(6).reshape(2, 3), np.arange(3), 9).shape == (2, 3)
    assert hash32(np.int64(12345), 678, 1000).shape == ()
    assert hash32(np.arange(0), 1, 5).dtype == np.uint32
    with pytest.raises(InvalidDTypeError, match="float64"):
        hash32(np.array([1.0]), 0, 2)


@pytest.mark.parametrize("program", [(), ((1, 5),), ((1, 5), (7, 9))])
def test_a_hashtron_takes_any_integer(program: tuple[tuple[int, int], ...]) -> None:
    neuron = Hashtron(program)
    for kind in (int, np.int64, np.uint8, np.uint32):
        assert neuron.forward(kind(7)) is neuron.forward(7)
    assert neuron.forward(np.array(7)).shape == ()
    assert neuron.forward(np.array(7)) == neuron.forward(7)
    for key in (1.5, "7", [7], None, np.array([1.5])):
        with pytest.raises(InvalidDTypeError, match="integer"):
            neuron.forward(key)  # type: ignore[call-overload]


def test_texts() -> None:
    for vector in vectors("stringhash_vectors"):
        assert string_hash(vector["in"], vector["str"]) == vector["out"]


def test_bytes() -> None:
    found = vectors("bytesample_vectors")
    assert byte_features(bytes.fromhex(found["buf"]), len(found["features"])).tolist() == found["features"]
    with pytest.raises(InvalidValueError, match="at least one byte"):
        byte_features(b"", 3)
