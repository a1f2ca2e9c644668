"""Text to numbers, the quick way where NumPy is right beyond doubt, else token by token with the place of a fault."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from tithe.errors import CorruptFileError

__all__ = ["FLOATS", "INTEGERS", "check_count", "parsed"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)

_BLANKS = b" \t\n\r\f\v"
_PLAIN = b"0123456789+-.eE" + _BLANKS  # of these NumPy reads the same as the grammar below, or gives up
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
_TOKEN = re.compile(r"[^ \t\n\r\f\v]+")
_NO_FRACTION = re.compile(rb"(?<=[0-9])\.0*(?![^ \t\n\r\f\v])")
_LINE_END = re.compile(r"\r\n|\r|\n")
_SHOWN = 40  # characters of a token


def parsed(path: Path, raw: bytes, dtype: torch.dtype, finite: bool) -> NDArray[Any]:
    r"""The numbers of a file, as float64 or int64.

    Args:
        path: for messages.
        raw: what is in it: UTF-8, numbers between blanks; a byte order mark is skipped.
        dtype: what the numbers must fit into, one of ``FLOATS`` or ``INTEGERS``.
        finite: whether numbers that are not finite in ``dtype`` are errors.

    Returns:
        An array (n,). Raises ``CorruptFileError`` with line, column and token, both counted from 1. O(bytes).

    >>> parsed(Path("it"), b"1 2.0\n30e-1", torch.int64, True)
    array([1, 2, 3])
    """
    values = _quick(raw.removeprefix(b"\xef\xbb\xbf").strip(_BLANKS), dtype)
    return _slow(path, _decoded(path, raw), dtype, finite) if values is None else values


def check_count(path: Path, raw: bytes, count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with its −1 filled in; ``CorruptFileError`` where so many numbers do not make it. O(1), or O(bytes)."""
    product = math.prod(length for length in shape if length != -1)
    if -1 in shape and count and count % product == 0:
        return tuple(count // product if length == -1 else length for length in shape)
    if -1 not in shape and count == product:
        return shape
    expected = f"a multiple of {product}" if -1 in shape else f"{product}"
    text = raw.decode("utf-8-sig")
    if -1 not in shape and count > product:
        surplus = next(itertools.islice(_TOKEN.finditer(text), product, None))
        _fail(
            path, text, surplus.start(), surplus[0], f"the end: the shape {shape} takes {product} numbers, not {count}"
        )
    told = "is empty" if count == 0 else f"ends after {count} numbers"
    place = _place(text, len(text.rstrip(_BLANKS.decode())))
    raise CorruptFileError(f"{path} {told}, {place}; expected {expected} for the shape {shape}")


def _quick(raw: bytes, dtype: torch.dtype) -> NDArray[Any] | None:
    """What NumPy reads, if it is beyond doubt what the slow way would read."""
    if not raw or raw.translate(None, _PLAIN):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # so did older ones tell that they gave up
        try:
            values = _quick_integers(raw, dtype) if dtype in INTEGERS else np.fromstring(raw, np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
    if values is None or (dtype in FLOATS and (np.abs(values) > torch.finfo(dtype).max).any()):
        return None
    blank = np.frombuffer(raw, np.uint8) <= ord(" ")
    tokens = 1 + int((blank[:-1] & ~blank[1:]).sum())
    return values if tokens == len(values) else None  # NumPy takes 1-2 for two numbers


def _quick_integers(raw: bytes, dtype: torch.dtype) -> NDArray[Any] | None:
    limits = torch.iinfo(dtype)
    if b"." in raw:
        raw = _NO_FRACTION.sub(b"", raw)  # 3.0, say
    characters = np.frombuffer(raw + b" ", np.uint8)
    signs = (characters[:-1] == ord("+")) | (characters[:-1] == ord("-"))
    if (characters[1:][signs] < ord("0")).any():  # NumPy takes a sign alone for 0
        return None
    values = np.fromstring(raw, np.int64, sep=" ")
    if dtype == torch.int64 and ((values == limits.min) | (values == limits.max)).any():
        return None  # NumPy clips what is too large
    return None if ((values < limits.min) | (values > limits.max)).any() else values


def _slow(path: Path, text: str, dtype: torch.dtype, finite: bool) -> NDArray[Any]:
    """Token by token; says where the first one is that is not as expected."""
    values: list[float] = []
    for match in _TOKEN.finditer(text):
        value, expected = _integer(match[0], dtype) if dtype in INTEGERS else _float(match[0], dtype, finite)
        if expected:
            _fail(path, text, match.start(), match[0], expected)
        values.append(value)
    return np.array(values, np.int64 if dtype in INTEGERS else np.float64)


def _integer(token: str, dtype: torch.dtype) -> tuple[int, str]:
    """The value, or what was expected; 3.0 and 3e2 are integers, 3.5 is none."""
    limits = torch.iinfo(dtype)
    try:
        value = Decimal(token if _NUMBER.fullmatch(token) else "NaN")
    except InvalidOperation:  # an exponent beyond all bounds
        return 0, "an integer"
    if not value:  # a tiny exponent may have made it so
        return 0, "an integer" if re.search("[1-9]", re.split("[eE]", token)[0]) else ""
    if value.is_nan() or value.adjusted() < 0:
        return 0, "an integer"
    if value.adjusted() > 20 or not limits.min <= value <= limits.max:
        return 0, f"an integer from {limits.min} to {limits.max}"
    return int(value), "" if value == value.to_integral_value() else "an integer"


def _float(token: str, dtype: torch.dtype, finite: bool) -> tuple[float, str]:
    """The value, or what was expected."""
    if _NOT_FINITE.fullmatch(token):
        return float(token), "a finite number" if finite else ""
    if not _NUMBER.fullmatch(token):
        return 0.0, "a number"
    value, largest = float(token), torch.finfo(dtype).max
    # a little more than the largest is rounded to it
    fits = not finite or abs(value) <= largest or bool(torch.tensor(value, dtype=torch.float64).to(dtype).isfinite())
    return value, "" if fits else f"a number of at most {largest:.9g}, for {dtype}"


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + 3 * raw.startswith(b"\xef\xbb\xbf")
        before = raw[:start].decode("utf-8-sig")
        raise CorruptFileError(
            f"{path} holds the byte 0x{raw[start]:02x} at offset {start}, {_place(before, len(before))}, "
            "which is not UTF-8; expected numbers as text: save the file as UTF-8"
        ) from None


def _fail(path: Path, text: str, at: int, token: str, expected: str) -> NoReturn:
    shown = repr(token[:_SHOWN]) + ("…" if len(token) > _SHOWN else "")
    raise CorruptFileError(f"{path} has {shown} at {_place(text, at)}; expected {expected}")


def _place(text: str, at: int) -> str:
    """Line and column of a character, counted from 1."""
    ends = [match.end() for match in _LINE_END.finditer(text, 0, at)]
    return f"line {len(ends) + 1}, column {at - (ends[-1] if ends else 0) + 1}"
