"""Text files of numbers: exact there and back, made where missing, and faults told with their place."""

import math
import multiprocessing
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.tether.number_tokens import FLOATS, INTEGERS, _quick, _slow
from tithe.tether.text_files import read_numbers, write_numbers

EXAMPLES = 400
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["tithe.tether.text_files"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data_input.txt"


def bits(tensor):
    return tensor.reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_there_and_back_exactly(path, dtype):
    raw = torch.randint(0, 256, (40, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).view(dtype)
    if dtype in FLOATS:
        limits = torch.finfo(dtype)
        edges = [0.0, -0.0, limits.max, limits.min, limits.tiny, limits.eps, limits.smallest_normal / 2]
        raw = torch.where(raw.isfinite(), raw, 0)
    else:
        edges = [torch.iinfo(dtype).min, torch.iinfo(dtype).max, 0, 1]
    raw = torch.cat([raw.flatten(), torch.tensor(edges, dtype=dtype)])
    assert write_numbers(path, raw) == path
    found = read_numbers(path, raw.shape, dtype=dtype)
    assert found.dtype == dtype and bits(found) == bits(raw)
    assert bits(read_numbers(path, (2, -1), dtype=dtype)) == bits(raw) if len(raw) % 2 == 0 else len(raw) % 2


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(width=32), max_size=20), st.booleans())
def test_any_floats(tmp_path_factory, values, double):
    path = tmp_path_factory.mktemp("any") / "x.txt"
    tensor = torch.tensor(values, dtype=torch.float64 if double else torch.float32)
    write_numbers(path, tensor, finite=False)
    found = read_numbers(path, (len(values),), dtype=tensor.dtype, finite=False)
    torch.testing.assert_close(found, tensor, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.signbit() & ~found.isnan(), tensor.signbit() & ~tensor.isnan())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (1, 2, 1, 3)])
def test_shapes(path, shape):
    tensor = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    write_numbers(path, tensor.requires_grad_())
    assert torch.equal(read_numbers(path, shape), tensor)


def test_views_are_written_row_by_row(path):
    write_numbers(path, torch.arange(6).reshape(2, 3).T)
    assert path.read_text() == "0 3 1 4 2 5"


def test_large_files_are_written_in_one_piece(path):
    tensor = torch.arange(200_001)
    write_numbers(path, tensor)
    assert path.read_text() == " ".join(map(str, range(200_001)))
    assert torch.equal(read_numbers(path, (-1,), dtype=torch.int64), tensor)


def test_files_of_the_source(path):
    """As its own code writes them: Python's str of the list, floats for labels too."""
    data = torch.rand(32, 128, generator=torch.Generator().manual_seed(0))
    path.write_text(" ".join(map(str, data.view(-1).tolist())))
    assert torch.equal(read_numbers(path, (32, 128)), data)
    path.write_text(" ".join(map(str, [3.0, 0.0, 9.0])))
    assert read_numbers(path, (3,), dtype=torch.int64).tolist() == [3, 0, 9]
    write_numbers(path, data)
    flat = list(map(float, path.read_text().strip().split()))  # and as it reads them
    assert torch.equal(torch.tensor(flat, dtype=torch.float32).view(32, 128), data)


@pytest.mark.parametrize("text", ["1 2 3", "\ufeff1 2 3", "  1\n2\t3\n\n", "1\r\n2\r\n3\r\n", "1\r2\r3", "1\v2\f3",
                                  "1. +2 .3e1", "1e0 20E-1 0.3e+1", "01 002 3.000", "\ufeff\n1\n2\n3"])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_ways_to_write_three_numbers(path, text, dtype):
    path.write_bytes(text.encode())
    assert read_numbers(path, (3,), dtype=dtype).tolist() == [1, 2, 3]


def test_large_integers(path):
    path.write_text("9223372036854775807 -9223372036854775808 9007199254740993 2.0 -1e18 9223372036854775806.0")
    expected = [2**63 - 1, -(2**63), 2**53 + 1, 2, -(10**18), 2**63 - 2]
    assert read_numbers(path, (6,), dtype=torch.int64).tolist() == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text("0123456789+-.eE \n", max_size=12), st.sampled_from([torch.float32, torch.float64, torch.int64,
                                                                    torch.uint8]))  # fmt: skip
def test_the_quick_way_reads_what_the_slow_way_reads(tmp_path_factory, text, dtype):
    quick = _quick(text.strip().encode(), dtype)
    if quick is not None:
        slow = _slow("it", text, dtype, True)  # does not raise
        assert quick.dtype == slow.dtype and quick.tobytes() == slow.tobytes()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(-300, 300).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr)),
                min_size=1, max_size=6), st.sampled_from([torch.float64, torch.int64, torch.uint8]))  # fmt: skip
def test_the_quick_way_is_taken_for_plain_numbers(tokens, dtype):
    if dtype in INTEGERS:
        limits = torch.iinfo(dtype)
        good = all(re.fullmatch(r"-?[0-9]+(\.0)?", t) and limits.min <= float(t) <= limits.max for t in tokens)
    else:
        good = True
    assert (_quick(" ".join(tokens).encode(), dtype) is not None) == good


def test_the_quick_way_takes_zeros_and_ends_of_small_ranges():
    assert _quick(b"0 255 0", torch.uint8).tolist() == [0, 255, 0]
    assert _quick(b"-128 127", torch.int8).tolist() == [-128, 127]


FAULTS = [
    ("1 2\n3 x4", torch.float32, "'x4' at line 2, column 3; expected a number"),
    ("1 2\r\n3 1-2", torch.float32, "'1-2' at line 2, column 3; expected a number"),
    ("1\r2\r\r 1,5", torch.float32, "'1,5' at line 4, column 2; expected a number"),
    ("\ufeff1 2 3 4;", torch.float32, "'4;' at line 1, column 7; expected a number"),
    ("é 2 3 4", torch.float32, "'é' at line 1, column 1; expected a number"),
    ("1 2 3 １", torch.float32, "'１' at line 1, column 7; expected a number"),
    ("1 2 3 1_0", torch.float32, "'1_0' at line 1, column 7; expected a number"),
    ("1 2 3 0x1", torch.float32, "'0x1' at line 1, column 7; expected a number"),
    ("1 2 3 1e", torch.float32, "'1e' at line 1, column 7; expected a number"),
    ("1 2 3 4\x00", torch.float32, r"'4\x00' at line 1, column 7; expected a number"),
    ("1 2 3\x004", torch.float32, r"'3\x004' at line 1, column 5; expected a number"),
    ("1 2 3\xa04", torch.float32, r"'3\xa04' at line 1, column 5; expected a number"),
    ("1 2 nan(3) 4", torch.float32, "'nan(3)' at line 1, column 5; expected a number"),
    ("1 2 3 nan", torch.float32, "'nan' at line 1, column 7; expected a finite number"),
    ("1 2 3 -INF", torch.float32, "'-INF' at line 1, column 7; expected a finite number"),
    ("1 2 3 1e39", torch.float32, "'1e39' at line 1, column 7; expected a number of at most 3.40282347e+38"),
    ("1 2 3 1e400", torch.float64, "'1e400' at line 1, column 7; expected a number of at most 1.79769313e+308"),
    ("1 2 3 70000", torch.float16, "'70000' at line 1, column 7; expected a number of at most 65504"),
    ("1 2 3 3.5", torch.int64, "'3.5' at line 1, column 7; expected an integer"),
    ("1 2 3 1e-1", torch.int64, "'1e-1' at line 1, column 7; expected an integer"),
    ("1 2 3 nan", torch.int64, "'nan' at line 1, column 7; expected an integer"),
    (
        "1 2 3 1e999999999",
        torch.int64,
        "'1e999999999' at line 1, column 7; expected an integer from -9223372036854775808",
    ),
    ("1 2 3 1e99999999999999999999", torch.int64, "column 7; expected an integer"),
    ("1 2 3 1e-99999999999999999999", torch.int64, "column 7; expected an integer"),
    (
        "1 2 3 9223372036854775808",
        torch.int64,
        "column 7; expected an integer from -9223372036854775808 to 922337203685",
    ),
    ("1 2 3 9007199254740993.5", torch.int64, "column 7; expected an integer"),
    ("1 2 3 256", torch.uint8, "'256' at line 1, column 7; expected an integer from 0 to 255"),
    ("1 2 3 -1", torch.uint8, "'-1' at line 1, column 7; expected an integer from 0 to 255"),
    ("1 2 3 -1.0", torch.uint8, "'-1.0' at line 1, column 7; expected an integer from 0 to 255"),
    ("1 2 3\n4 5 6", torch.float32, "'5' at line 2, column 3; expected the end: the shape (4,) takes 4 numbers, not 6"),
    ("1 2\n 3  \n", torch.float32, "ends after 3 numbers, line 2, column 3; expected 4 for the shape (4,)"),
    ("", torch.float32, "is empty, line 1, column 1; expected 4 for the shape (4,)"),
    (" \n", torch.int64, "is empty, line 1, column 1; expected 4 for the shape (4,)"),
]


@pytest.mark.parametrize(("text", "dtype", "told"), FAULTS)
def test_faults_are_told_with_their_place(path, text, dtype, told):
    path.write_bytes(text.encode())
    with pytest.raises(CorruptFileError, match=re.escape(told)) as caught:
        read_numbers(path, (4,), dtype=dtype)
    assert str(path) in str(caught.value) and path.read_bytes() == text.encode()


def test_the_fault_of_an_inferred_shape(path):
    path.write_text("1 2 3 4 5")
    with pytest.raises(
        CorruptFileError, match=r"ends after 5 numbers, line 1, column 10; expected a multiple of 2 for"
    ):
        read_numbers(path, (-1, 2))
    assert read_numbers(path, (-1,)).tolist() == [1, 2, 3, 4, 5] and read_numbers(path, (5, -1)).shape == (5, 1)


@pytest.mark.parametrize(("raw", "told"), [
    (b"1 2\n3 \xff", "byte 0xff at offset 6, line 2, column 3, which is not UTF-8"),
    (b"\xef\xbb\xbf1 \x80", "byte 0x80 at offset 5, line 1, column 3, which is not UTF-8"),
    ("1 2".encode("utf-16"), "byte 0xff at offset 0, line 1, column 1, which is not UTF-8"),
    (b"1 2 3 \xe2\x82", "byte 0xe2 at offset 6, line 1, column 7, which is not UTF-8"),
])  # fmt: skip
def test_undecodable_bytes(path, raw, told):
    path.write_bytes(raw)
    with pytest.raises(CorruptFileError, match=told):
        read_numbers(path, (4,))


def test_messages_are_short(path):
    for token in ("9" * 100_000 + "x", "9" * 100_000, "\x1b[2J" + "y" * 10_000):
        path.write_text(token)
        with pytest.raises(CorruptFileError) as caught:
            read_numbers(path, (1,), dtype=torch.int64)
        assert len(str(caught.value)) < len(str(path)) + 200 and "\x1b" not in str(caught.value)


def test_what_is_not_finite_may_be_allowed(path):
    path.write_text("nan -inf +Infinity 1e39 1")
    found = read_numbers(path, (5,), finite=False)
    assert found[0].isnan() and found[1:].tolist() == [-math.inf, math.inf, math.inf, 1]


def test_a_little_more_than_the_largest_is_rounded_to_it(path):
    path.write_text(f"{np.finfo(np.float32).max!s} -3.4028235e+38")  # as NumPy prints it
    assert read_numbers(path, (2,)).abs().tolist() == [torch.finfo(torch.float32).max] * 2


def test_a_missing_file_is_made_of_the_default(tmp_path):
    path = tmp_path / "new" / "tether.txt"
    default = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    found = read_numbers(path, (3, -1), default=default)
    assert torch.equal(found, default) and found.data_ptr() != default.data_ptr()
    assert torch.equal(read_numbers(path, (3, 2)), default)
    assert torch.equal(read_numbers(path, (3, 2), default=lambda: pytest.fail("there is a file")), default)
    assert [entry.name for entry in path.parent.iterdir()] == ["tether.txt"]


def test_the_default_is_what_is_read_later(path):
    default = torch.tensor([1.0, 1 / 3], dtype=torch.float64)
    found = read_numbers(path, (2,), default=lambda: default, dtype=torch.float16)
    assert found.dtype == torch.float16 and bits(found) == bits(read_numbers(path, (2,), dtype=torch.float16))


def test_an_empty_file_is_left_alone(path):
    for raw in (b"", b" \n\t", b"\xef\xbb\xbf\r\n"):
        path.write_bytes(raw)
        assert read_numbers(path, (2,), default=torch.ones(2)).tolist() == [1, 1] and path.read_bytes() == raw


def test_a_malformed_file_is_not_replaced_by_the_default(path):
    path.write_text("1 2 oops")
    with pytest.raises(CorruptFileError, match="oops"):
        read_numbers(path, (3,), default=torch.ones(3))
    assert path.read_text() == "1 2 oops"


def test_missing_without_default(path):
    with pytest.raises(FileNotFoundError, match=r"data_input.txt does not exist; write \(2, 3\) numbers into it"):
        read_numbers(path, (2, 3))
    assert not path.exists()


@pytest.mark.parametrize(("shape", "kwargs", "error", "told"), [
    ((-1, -1), {}, InvalidValueError, "one may be -1"),
    ((-2,), {}, InvalidValueError, "one may be -1"),
    ((0, -1), {}, InvalidValueError, "does not follow"),
    ((2,), {"dtype": torch.complex64}, InvalidDTypeError, "complex64"),
    ((2,), {"dtype": torch.bool}, InvalidDTypeError, "bool"),
    ((2,), {"default": torch.ones(3)}, InvalidValueError, r"default has shape \(3,\); make it \(2,\)"),
    ((-1, 2), {"default": torch.ones(4)}, InvalidValueError, r"default has shape \(4,\)"),
    ((2,), {"default": torch.tensor([1, 0.5]), "dtype": torch.int64}, InvalidValueError, "none of torch.int64"),
    ((2,), {"default": torch.tensor([1, 256]), "dtype": torch.uint8}, InvalidValueError, "none of torch.uint8"),
    ((2,), {"default": torch.tensor([1, math.nan])}, InvalidValueError, "number 2 is nan"),
])  # fmt: skip
def test_what_cannot_be_used_is_named_and_makes_no_file(path, shape, kwargs, error, told):
    with pytest.raises(error, match=told):
        read_numbers(path, shape, **kwargs)
    assert not path.exists()


def test_what_cannot_be_written(path):
    with pytest.raises(InvalidDTypeError, match="complex64"):
        write_numbers(path, torch.ones(2, dtype=torch.complex64))
    with pytest.raises(InvalidValueError, match="number 3 is -inf; pass finite=False"):
        write_numbers(path, torch.tensor([[1, 2], [-math.inf, math.nan]]))
    assert not path.exists()


READING = """
import torch
from tithe.tether.text_files import read_numbers
told.send(read_numbers(path, (500,), default=torch.full((500,), float(number))).tolist())
"""


def test_processes_that_make_the_file_at_once_get_the_same(path):
    told, tell = FORKSERVER.Pipe(duplex=False)
    scopes = [{"path": str(path), "number": i, "told": tell} for i in range(4)]
    processes = [FORKSERVER.Process(target=exec, args=(READING, scope)) for scope in scopes]
    for process in processes:
        process.start()
    found = [told.recv() for process in processes if told.poll(60)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(found) == 4 and all(one == found[0] for one in found) and found[0] == read_numbers(path, (500,)).tolist()
