"""Bookmarks as bytes: the tensors of some members in the safetensors format, all else as JSON in its header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO, Literal, get_args

from torch import Tensor

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.tether.sealed import FAULTS, dense, known_in, seal, told, unseal

__all__ = ["Bookmark", "Reason", "decode", "encode", "read_bookmark"]

Reason = Literal["merge", "drift", "renormalise", "regroup", "start", "final"]
States = Mapping[str, Mapping[str, Tensor]]

_FORMAT, _VERSION = "tithe.generations", 1


@dataclass(frozen=True)
class Bookmark:
    """What is known of a kept state without reading its tensors.

    Attributes:
        number: of the bookmark, from 1; later ones have larger numbers.
        what: why it was kept: ``merge``, ``drift``, ``renormalise``, ``regroup``, ``start`` or ``final``.
        when: date and time in UTC, as ISO 8601 has it.
        step: of the training.
        members: their names.
        before: losses by member before what happened, where they were given.
        after: losses by member after it, likewise.
        compatibility: of each member with each, row by row, where it was given.
        note: any text.
        nbytes: that the tensors take.

    >>> Bookmark(1, "start", "2026-01-01T00:00:00+00:00", 0, ("a", "b"), None, None, None, "", 80).members
    ('a', 'b')
    """

    number: int
    what: Reason
    when: str
    step: int
    members: tuple[str, ...]
    before: dict[str, float] | None
    after: dict[str, float] | None
    compatibility: tuple[tuple[float, ...], ...] | None
    note: str
    nbytes: int


def encode(bookmark: Bookmark, states: States) -> tuple[Bookmark, bytes]:
    """The bytes of a bookmark's file; the number is not in them, it is the file's name.

    Args:
        bookmark: what is known; its members and size are taken from ``states``.
        states: tensors by name, by member; of any dtype that safetensors has. Names may be any text.

    Returns:
        The bookmark with members and size, and the bytes. Raises ``InvalidDTypeError`` for what is no dense tensor of
        such a dtype, ``InvalidValueError`` where ``states`` is empty. O(bytes).

    >>> import torch
    >>> kept, raw = encode(Bookmark(1, "start", "", 0, (), None, None, None, "", 0), {"a": {"w": torch.ones(2)}})
    >>> kept.members, kept.nbytes, decode(raw, "it")["a"]["w"]
    (('a',), 8, tensor([1., 1.]))
    """
    if bookmark.what not in get_args(Reason):
        raise InvalidValueError(f"what is {bookmark.what!r}; use one of {', '.join(map(repr, get_args(Reason)))}")
    if not states:
        raise InvalidValueError("there is no member to keep; pass tensors by name, by member")
    tensors: list[Tensor] = []
    tables = []
    for member, state in states.items():
        table = []
        for name, tensor in state.items():
            tensors.append(dense(tensor, f"{_text(name)!r} of {member!r}"))
            table.append([name, str(tensor.dtype), list(tensor.shape)])
        tables.append([_text(member), table])
    bookmark = replace(bookmark, members=tuple(states), nbytes=sum(tensor.nbytes for tensor in tensors))
    known = asdict(bookmark)
    del known["number"], known["members"]
    return bookmark, seal(_FORMAT, _VERSION, {"known": known, "tensors": tables}, tensors)


def decode(raw: bytes, source: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of a bookmark's bytes, on the CPU, bit by bit what they were.

    Args:
        raw: a whole file.
        source: its path, for the message.

    Returns:
        Tensors by name, by member, none of which shares memory with another. Raises ``CorruptFileError`` where any bit
        is not what was written. O(bytes).
    """
    try:
        saved, tensors = unseal(raw, _FORMAT, _VERSION)
        rest = iter(tensors)
        states = {}
        for member, table in saved["tensors"]:
            states[member] = {name: _checked(next(rest), dtype, shape) for name, dtype, shape in table}
    except (*FAULTS, StopIteration) as error:
        raise CorruptFileError(_fault(source, error)) from error
    return states


def read_bookmark(file: BinaryIO, number: int, source: str) -> Bookmark:
    """What is known of a bookmark, from the header of its file; tensors are not read.

    Args:
        file: at its beginning.
        number: of the bookmark.
        source: its path, for the message.

    Returns:
        The bookmark. Raises ``CorruptFileError`` where the header is damaged, foreign or of a newer version, or the
        file has not the size that the header says. O(header).
    """
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        header_size = int.from_bytes(file.read(8), "little")
        if not 0 < header_size <= size - 8:
            raise ValueError(f"the header should have {header_size} bytes and the file has {size}")
        header = file.read(header_size)
        saved = known_in(header, _FORMAT, _VERSION)
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        if (expected := 8 + header_size + max(ends, default=0)) != size:
            raise ValueError(f"the file has {size} bytes and should have {expected}")
        known = saved["known"]
        if known["compatibility"] is not None:
            known["compatibility"] = tuple(tuple(row) for row in known["compatibility"])
        return Bookmark(number=number, members=tuple(member for member, _ in saved["tensors"]), **known)
    except FAULTS as error:
        raise CorruptFileError(_fault(source, error)) from error


def _checked(tensor: Tensor, dtype: str, shape: list[int]) -> Tensor:
    if (str(tensor.dtype), list(tensor.shape)) != (dtype, shape):
        raise ValueError(f"a tensor is {tensor.dtype} {list(tensor.shape)} and should be {dtype} {shape}")
    return tensor


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidDTypeError(f"{name!r} is a {type(name).__name__}; name members and tensors by strings")
    return name


def _fault(source: str, error: BaseException) -> str:
    return f"{source} is damaged or no bookmark ({told(error)}); take another generation, or move the file away"
