"""Messages as bytes and back, and that nothing damaged, foreign or unfit gets through."""

import json

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.tether.exchange import Message, check, pack, unpack
from tithe.tether.exchange.message import DTYPES


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def message(tensors=None, **changes):
    given = {"sender": "ada", "generation": 3, "step": 75, "info": {"loss": 0.5}} | changes
    return Message(tensors={"w": noise(4, 3), "b": noise(4)} if tensors is None else tensors, **given)


def packed(header, content=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


@given(
    sender=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    generation=st.integers(0, (1 << 62) - 1),
    step=st.integers(0, (1 << 62) - 1),
    shapes=st.dictionaries(st.text(max_size=20), st.lists(st.integers(0, 3), max_size=3), max_size=4),
    dtype=st.sampled_from(sorted(DTYPES)),
    info=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()
                         | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.integers()), max_size=3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_round_trip(sender, generation, step, shapes, dtype, info):
    tensors = {name: (noise(*shape).abs() * 5).to(DTYPES[dtype]) for name, shape in shapes.items()}
    sent = Message(sender, generation, step, tensors, info)
    data = pack(sent)
    got = unpack(data)
    assert (got.sender, got.generation, got.step, got.info) == (sender, generation, step, info)
    assert got.tensors.keys() == tensors.keys() and pack(got) == data == pack(sent)
    for name, tensor in tensors.items():
        assert got.tensors[name].dtype == tensor.dtype and got.tensors[name].shape == tensor.shape
        assert torch.equal(got.tensors[name].float(), tensor.float())


def test_strided_and_shared_tensors():
    weight = noise(4, 3)
    got = unpack(pack(message({"w": weight, "tied": weight, "turned": weight.T, "row": weight[1]}))).tensors
    assert torch.equal(got["tied"], weight) and torch.equal(got["turned"], weight.T)
    assert torch.equal(got["row"], weight[1])


def test_is_a_safetensors_file():
    assert torch.equal(safetensors.torch.load(pack(message()))["w"], noise(4, 3))


def test_every_altered_bit_is_found():
    data = pack(message({"w": noise(2)}))
    header = int.from_bytes(data[:8], "little") + 8
    intact = unpack(data)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1
        try:
            got = unpack(bytes(altered))
        except CorruptFileError:
            continue
        assert place < header  # such as a blank in the JSON: what it says is the same
        assert (got.sender, got.generation, got.step, got.info) == ("ada", 3, 75, {"loss": 0.5})
        assert got.tensors.keys() == {"w"} and torch.equal(got.tensors["w"], intact.tensors["w"])


def test_every_truncation_is_found():
    data = pack(message())
    for length in range(len(data)):
        with pytest.raises(CorruptFileError):
            unpack(data[:length])
    with pytest.raises(CorruptFileError):
        unpack(data + b"\0")


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_other_bytes_are_refused(content, framed):
    with pytest.raises(CorruptFileError):
        unpack(len(content).to_bytes(8, "little") + content if framed else content)


HEAD = {"format": "tithe.tether.message", "version": 1, "head": "{}", "sha256": ""}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        {"__metadata__": []},
        {"__metadata__": {"tithe": "{}"}},
        {"__metadata__": {"tithe": json.dumps(HEAD | {"version": 2})}},
        {"__metadata__": {"tithe": json.dumps(HEAD | {"head": 7})}},
        {"__metadata__": {"tithe": json.dumps(HEAD)}},
        {"__metadata__": {"tithe": "[" * 10_000}},
        {"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}, "__metadata__": {"tithe": "{}"}},
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
         "__metadata__": {"tithe": json.dumps(HEAD)}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}, "__metadata__": {"tithe": json.dumps(HEAD)}},
    ],
)  # fmt: skip
def test_hostile_headers(header):
    with pytest.raises(CorruptFileError):
        unpack(packed(header, b"\0" * 4))


@pytest.mark.parametrize("size", [0, 1 << 22 | 1, 1 << 40, (1 << 64) - 1])
def test_announced_sizes(size):
    with pytest.raises(CorruptFileError, match="announce"):
        unpack(size.to_bytes(8, "little") + b"{}")


def test_a_foreign_safetensors_file():
    with pytest.raises(CorruptFileError, match="no message"):
        unpack(safetensors.torch.save({"w": torch.ones(2)}, {"format": "pt"}))


def test_size_limits():
    data = pack(message())
    assert unpack(data, most_bytes=len(data)).sender == "ada"
    with pytest.raises(CorruptFileError, match="at most"):
        unpack(data, most_bytes=len(data) - 1)
    with pytest.raises(InvalidValueError, match="most_bytes"):
        pack(message(), most_bytes=50)
    with pytest.raises(InvalidValueError, match="names and info"):
        pack(message(info={"text": "x" * (1 << 22)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": ""},
        {"sender": "../ada"},
        {"sender": "a" * 65},
        {"sender": "a.b"},
        {"sender": "ada\n"},
        {"sender": 3},
        {"generation": -1},
        {"generation": True},
        {"generation": 0.5},
        {"generation": 1 << 62},
        {"step": -1},
    ],
)
def test_heads_that_cannot_be(changes):
    with pytest.raises(InvalidValueError):
        message(**changes)


@pytest.mark.parametrize("info", [{"loss": float("nan")}, {"loss": float("inf")}, {"loss": torch.ones(1)}])
def test_info_that_is_no_json(info):
    with pytest.raises(InvalidValueError, match="JSON"):
        pack(message(info=info))


@pytest.mark.parametrize("tensor", [torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex128), 3.0, [1.0]])
def test_tensors_that_cannot_be_sent(tensor):
    with pytest.raises(InvalidDTypeError, match="'w'"):
        pack(message({"w": tensor}))


def like(**changes):
    return {"w": torch.zeros(4, 3), "b": torch.zeros(4)} | changes


def test_check_lets_through_what_fits():
    got = check(message(), like(), after=2, receiver="bob", generation=10, most_age=7)
    assert list(got.tensors) == ["w", "b"] and torch.equal(got.tensors["w"], noise(4, 3)) and got.info == {"loss": 0.5}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_check_casts_floats(dtype):
    got = check(message(), like(w=torch.zeros(4, 3, dtype=dtype)))
    assert torch.equal(got.tensors["w"], noise(4, 3).to(dtype)) and got.tensors["b"].dtype == torch.float32


WRONG = [
    ({"tensors": {"w": noise(4, 3)}}, "'b' missing, none unknown"),
    ({"tensors": {"w": noise(4, 3), "b": noise(4), "c": noise(1)}}, "none missing, 'c' unknown"),
    ({"tensors": {"w": noise(3, 4), "b": noise(4)}}, r"shape \(3, 4\), \(4, 3\) is expected"),
    ({"tensors": {"w": noise(4, 3), "b": torch.ones(4, dtype=torch.int64)}}, "dtype torch.int64"),
    ({"tensors": {"w": noise(4, 3), "b": torch.ones(4, dtype=torch.complex64)}}, "dtype torch.complex64"),
    ({"tensors": {"w": noise(4, 3), "b": torch.tensor([1, 2, float("nan"), 3])}}, "'b' has entries that are NaN"),
    ({"tensors": {"w": noise(4, 3), "b": torch.tensor([1, 2, -float("inf"), 3])}}, "'b' has entries that are NaN"),
    ({"tensors": {"w": noise(4, 3), "b": torch.full((4,), 1e300, dtype=torch.float64)}}, "infinite as torch.float32"),
    ({"generation": 2}, "generation 2 is not newer than 2"),
    ({"sender": "bob"}, "the receiver itself"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_check_refuses(changes, reason):
    with pytest.raises(InvalidValueError, match=reason):
        check(message(**changes), like(), after=2, receiver="bob")


def test_check_refuses_what_lies_behind():
    with pytest.raises(InvalidValueError, match="7 behind; at most 6"):
        check(message(), like(), generation=10, most_age=6)


def test_check_of_8_bit_floats_and_whole_numbers():
    eight = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    with pytest.raises(InvalidValueError, match="NaN"):
        check(message({"x": eight}), {"x": torch.zeros(2, dtype=torch.float8_e4m3fn)})
    whole = torch.tensor([1, 2])
    assert torch.equal(check(message({"x": whole}), {"x": torch.zeros(2, dtype=torch.int64)}).tensors["x"], whole)
