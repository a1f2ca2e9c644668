"""Numbers in text files, separated by blanks: data, labels and another model's tether, as the source keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.files import create_exclusively, write_atomically
from tithe.tether.number_tokens import FLOATS, INTEGERS, check_count, parsed

__all__ = ["read_numbers", "write_numbers"]

_MARK = b"\xef\xbb\xbf"  # of UTF-8, from editors on Windows
_AT_ONCE = 1 << 16  # numbers

Default = Tensor | Callable[[], Tensor] | None


def read_numbers(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    *,
    default: Default = None,
    dtype: torch.dtype = torch.float32,
    finite: bool = True,
) -> Tensor:
    """Read numbers that blanks and line ends separate, as UTF-8 text has them.

    Args:
        path: of the file.
        shape: of the tensor, row by row; one length may be −1 and follows from the count.
        default: a tensor of that shape, or a function that makes it. Where there is no file, one is made of it; where
            the file is empty, it is left alone. Of several processes that make the file at once, all get what is in it.
        dtype: float or integer; labels want ``torch.int64``, which takes ``3`` and ``3.0`` but not ``3.5``.
        finite: whether NaN, ±∞ and what is too large for ``dtype`` are errors.

    Returns:
        The tensor, on the CPU. Raises ``CorruptFileError``, with line, column and token, where the file holds something
        else, ``FileNotFoundError`` where there is none and no default, ``InvalidValueError`` or ``InvalidDTypeError``
        for a shape, default or dtype that cannot be used. O(size), some seconds for 10 million numbers.
        Source: MISSION T8.

    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/tether_other_model.txt"
    >>> read_numbers(path, (2, 2), default=torch.ones(2, 2)).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    >>> Path(path).read_text()
    '1.0 1.0 1.0 1.0'
    >>> read_numbers(path, (2, -1), dtype=torch.int64).tolist()
    [[1, 1], [1, 1]]
    """
    path, shape = Path(path), _checked_shape(shape)
    if dtype not in (*INTEGERS, *FLOATS):
        raise InvalidDTypeError(f"dtype is {dtype}; use one of {', '.join(map(str, (*FLOATS, *INTEGERS)))}")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        if default is None:
            raise FileNotFoundError(
                f"{path} does not exist; write {tuple(shape)} numbers into it, or pass a default"
            ) from None
        made = _made(default, shape, dtype)
        if create_exclusively(path, b"".join(_formatted(made, finite))):
            return made
        raw = path.read_bytes()  # another process was quicker
    if default is not None and not raw.removeprefix(_MARK).strip():
        return _made(default, shape, dtype)
    values = parsed(path, raw, dtype, finite)
    sizes = check_count(path, raw, len(values), shape)
    return torch.from_numpy(values).to(dtype).view(sizes)


def write_numbers(path: str | os.PathLike[str], tensor: Tensor, *, finite: bool = True) -> Path:
    """Write a tensor as text: numbers row by row, a blank between, each as short as reads back exactly.

    Args:
        path: a reader sees the old file or the new one.
        tensor: float or integer, of any shape and device.
        finite: whether NaN and ±∞ are errors.

    Returns:
        The path. Raises ``InvalidDTypeError`` or ``InvalidValueError`` for what ``read_numbers`` would not read,
        ``OSError`` as the file system does. O(size).

    >>> import tempfile
    >>> write_numbers(f"{tempfile.mkdtemp()}/labels_input.txt", torch.tensor([3, 1])).read_text()
    '3 1'
    """
    if tensor.dtype not in (*INTEGERS, *FLOATS):
        raise InvalidDTypeError(f"the tensor is {tensor.dtype}; write one of floats or integers")
    return write_atomically(path, b"".join(_formatted(tensor, finite)))


def _formatted(tensor: Tensor, finite: bool) -> Iterator[bytes]:
    flat = tensor.detach().cpu().reshape(-1)
    if finite and tensor.dtype in FLOATS and not flat.isfinite().all():
        at = int((~flat.isfinite()).nonzero()[0])
        raise InvalidValueError(f"number {at + 1} is {flat[at].item()}; pass finite=False to write such numbers")
    for start in range(0, len(flat), _AT_ONCE):
        part = " ".join(map(repr, flat[start : start + _AT_ONCE].tolist()))
        yield (" " * (start > 0) + part).encode()


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(length) for length in shape)
    inferred = [length for length in shape if length < 0]
    if len(inferred) > 1 or min(inferred, default=-1) < -1:
        raise InvalidValueError(f"shape is {shape}; use lengths of at least 0, of which one may be -1")
    if inferred and 0 in shape:
        raise InvalidValueError(f"shape is {shape}; beside a length of 0, one of -1 does not follow")
    return shape


def _made(default: Tensor | Callable[[], Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    made = default if isinstance(default, Tensor) else default()
    if len(made.shape) != len(shape) or any(b not in (a, -1) for a, b in zip(made.shape, shape, strict=True)):
        raise InvalidValueError(f"the default has shape {tuple(made.shape)}; make it {shape}")
    converted = made.detach().cpu().to(dtype, copy=True)
    if dtype in INTEGERS and not torch.equal(converted.double(), made.detach().cpu().double()):
        raise InvalidValueError(f"the default holds numbers that are none of {dtype}; use integers in its range")
    return converted
