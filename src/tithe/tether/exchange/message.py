"""What one member of a population sends to the others: tensors by name, as bytes that are checked before use.

The bytes are a safetensors file with all else as JSON in its header. The checksum tells damage, not forgery: who can
write to the folder or the store can send what they like, and ``check`` is what stands between that and a merge.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError

__all__ = ["MOST_BYTES", "Message", "check", "pack", "unpack"]

MOST_BYTES = 1 << 32
_MOST_HEADER = 1 << 22
_MOST_TENSORS = 1 << 16
_FORMAT, _VERSION = "tithe.tether.message", 1
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dots: names of members are parts of names of files
DTYPES = {  # by their names; what safetensors can hold and torch can compute with
    str(dtype): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    )
}
# Whatever json, safetensors and torch raise over content that is none.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, SafetensorError, TypeError)


@dataclass(frozen=True, eq=False)
class Message:
    """A state of one member, as the others get it.

    Attributes:
        sender: name of the member: 1 to 64 letters, digits, ``_`` and ``-``.
        generation: grows with each state that the member publishes, from 0.
        step: of its training, from 0.
        tensors: by name.
        info: what JSON can hold, such as ``{"loss": 0.3}``.

    Raises ``InvalidValueError`` for a name or a number that cannot be used.

    >>> Message("ada", 3, 75, {"w": torch.ones(2)}, {"loss": 0.5}).generation
    3
    """

    sender: str
    generation: int
    step: int
    tensors: Mapping[str, Tensor]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        valid_name(self.sender)
        for name, value in (("generation", self.generation), ("step", self.step)):
            if type(value) is not int or not 0 <= value < 1 << 62:
                raise InvalidValueError(f"{name} is {str(value)[:40]}; use a whole number from 0")


def pack(message: Message, *, most_bytes: int = MOST_BYTES) -> bytes:
    """A message as bytes; the same message gives the same bytes.

    Args:
        message: its tensors may be on any device, of any strides, and share memory.
        most_bytes: that the others take.

    Returns:
        A safetensors file. Raises ``InvalidValueError`` where ``info`` is not JSON (NaN is not) or the size is over
        the limits, ``InvalidDTypeError`` for what is no dense tensor. O(bytes); memory 2 · bytes.

    >>> unpack(pack(Message("ada", 3, 75, {"w": torch.ones(2)}))).tensors["w"]
    tensor([1., 1.])
    """
    need_dense(message.tensors)
    if sum(tensor.nbytes for tensor in message.tensors.values()) > most_bytes:
        raise InvalidValueError(f"the tensors take more than {most_bytes} bytes; send fewer, or raise most_bytes")
    # safetensors refuses tensors that share memory, so each is a copy
    tensors = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in message.tensors.items()
    }
    text = head_of(message)
    head = {"format": _FORMAT, "version": _VERSION, "head": text, "sha256": _checksum(text, tensors)}
    data = safetensors.torch.save(tensors, {"tithe": json.dumps(head)})  # one entry: several come in any order
    if len(data) > most_bytes or _header(data) > _MOST_HEADER or len(tensors) > _MOST_TENSORS:
        raise InvalidValueError(
            f"{len(tensors)} tensors of {len(data)} bytes, {_header(data)} of them for names and info; a message has "
            f"{_MOST_TENSORS}, {most_bytes} and {_MOST_HEADER} at most"
        )
    return data


def unpack(data: bytes, *, most_bytes: int = MOST_BYTES) -> Message:
    """The message of the bytes of ``pack``; nothing in them is executed.

    Args:
        data: from anybody.
        most_bytes: larger ones are refused before they are looked at.

    Returns:
        The message; tensors on the CPU. Raises ``CorruptFileError`` where the bytes are truncated, altered, too many or
        of another format. O(bytes); memory at most 2 · bytes + 100 MB whatever they say.
    """
    if len(data) > most_bytes:
        raise CorruptFileError(f"has {len(data)} bytes; at most {most_bytes} are taken")
    size = _header(data)
    if not 0 < size <= min(_MOST_HEADER, len(data) - 8):
        raise CorruptFileError(f"is no message, or truncated: {len(data)} bytes that announce a header of {size}")
    try:
        header = json.loads(data[8 : 8 + size])
        count, head = len(header), json.loads(header["__metadata__"]["tithe"])
        kind, version, text, checksum = (head[key] for key in ("format", "version", "head", "sha256"))
        if (kind, version) != (_FORMAT, _VERSION) or type(text) is not str or count > _MOST_TENSORS + 1:
            raise CorruptFileError(
                f"is of format {str(kind)[:40]!r}, version {str(version)[:9]}, or has too many parts"
            )
        tensors = safetensors.torch.load(data)
        if _checksum(text, tensors) != checksum:
            raise CorruptFileError("was altered or damaged: its checksum differs")
        return message_of(text, tensors)
    except CorruptFileError:
        raise
    except (*_FAULTS, ValueError) as error:
        raise CorruptFileError(f"is no message, or truncated ({type(error).__name__}: {str(error)[:200]})") from error


def check(
    message: Message,
    like: Mapping[str, Tensor],
    *,
    after: int = -1,
    receiver: str | None = None,
    generation: int = 0,
    most_age: int | None = None,
) -> Message:
    """A message that fits, ready to be merged; all others are refused with the reason.

    Args:
        message: from ``unpack``.
        like: the receiver's own tensors: names, shapes, dtypes and devices that are expected.
        after: the generation that was taken from this sender last.
        receiver: its name; what it sent itself is refused.
        generation: the receiver's own.
        most_age: how many generations a message may be behind it; ``None`` for any.

    Returns:
        The message with its floating-point tensors in the dtypes of ``like``, all on its devices, in its order. Raises
        ``InvalidValueError`` where a name is missing or unknown, a shape or dtype differs (floating-point ones may), an
        entry is not finite, also after the cast, or the generation is too old. O(entries).

    >>> message = Message("ada", 3, 75, {"w": torch.ones(2, dtype=torch.float64)})
    >>> check(message, {"w": torch.zeros(2)}, after=2).tensors["w"].dtype
    torch.float32
    >>> check(message, {"w": torch.zeros(2)}, after=3)
    Traceback (most recent call last):
    tithe.errors.InvalidValueError: generation 3 is not newer than 3, which was taken before
    """
    if message.sender == receiver:
        raise InvalidValueError(f"it is by {receiver!r}, the receiver itself")
    if message.generation <= after:
        raise InvalidValueError(f"generation {message.generation} is not newer than {after}, which was taken before")
    if most_age is not None and message.generation < generation - most_age:
        raise InvalidValueError(
            f"generation {message.generation} is {generation - message.generation} behind; at most {most_age} are taken"
        )
    missing, unknown = like.keys() - message.tensors.keys(), message.tensors.keys() - like.keys()
    if missing or unknown:
        raise InvalidValueError(f"names differ: {_some(missing)} missing, {_some(unknown)} unknown")
    return replace(message, tensors={name: _fitted(name, message.tensors[name], own) for name, own in like.items()})


def valid_name(name: str) -> str:
    """The name of a member, if it can be one; ``InvalidValueError`` otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidValueError(f"{str(name)[:80]!r} is no name: use 1 to 64 letters of A-Z, a-z, digits, _ and -")
    return name


def need_dense(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``InvalidDTypeError`` for what cannot be sent."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or str(tensor.dtype) not in DTYPES:
            what = f"{tensor.layout}, {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InvalidDTypeError(f"{name!r} is {what}; send dense tensors of real or complex64 numbers")
    if "__metadata__" in tensors:
        raise InvalidValueError("a tensor is called '__metadata__', which safetensors keeps for itself; rename it")


def head_of(message: Message) -> str:
    """All of a message but its tensors, as JSON; ``InvalidValueError`` where ``info`` cannot be."""
    head = {"sender": message.sender, "generation": message.generation, "step": message.step}
    try:
        return json.dumps({**head, "info": dict(message.info)}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"info is not JSON ({error}); use text, finite numbers, lists and mappings") from error


def message_of(text: str, tensors: Mapping[str, Tensor]) -> Message:
    """The message of ``head_of`` and its tensors; ``CorruptFileError`` where the text is something else."""
    try:
        head = json.loads(text)
        if not isinstance(head["info"], dict):
            raise CorruptFileError("has no info")
        return Message(head["sender"], head["generation"], head["step"], tensors, head["info"])
    except (*_FAULTS, ValueError) as error:
        raise CorruptFileError(f"is no message ({type(error).__name__}: {str(error)[:200]})") from error


def _fitted(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    if tensor.shape != like.shape:
        raise InvalidValueError(f"{name!r} has shape {tuple(tensor.shape)}, {tuple(like.shape)} is expected")
    floats = tensor.is_floating_point() and like.is_floating_point()
    if tensor.dtype != like.dtype and not floats:
        raise InvalidValueError(f"{name!r} has dtype {tensor.dtype}, {like.dtype} is expected")
    cast = tensor.to(like.device, like.dtype)  # the cast may overflow, so what is checked comes after it
    numbers = cast.float() if cast.dtype.itemsize == 1 else cast  # 8-bit floats cannot be asked whether they are finite
    if not bool(numbers.isfinite().all()):
        raise InvalidValueError(f"{name!r} has entries that are NaN or infinite as {like.dtype}")
    return cast


def _some(names: set[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in sorted(names)[:3])
    return (shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")) or "none"


def _header(data: bytes) -> int:
    """Bytes of a safetensors file's header."""
    return int.from_bytes(data[:8], "little")


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
