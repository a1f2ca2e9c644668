"""Tensors, and what is known of them, as a safetensors file with checksums: bit by bit what was written, or an error.

What is known stands as JSON in the header, so that it can be read without the tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tithe.errors import InvalidDTypeError

__all__ = ["DTYPES", "FAULTS", "dense", "known_in", "seal", "told", "unseal"]

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
    torch.bool, torch.complex64,
)  # fmt: skip
# What json, safetensors and torch raise over content that is none.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, SafetensorError, TypeError,
          ValueError)  # fmt: skip


def seal(kind: str, version: int, known: Mapping[str, Any], tensors: Sequence[Tensor]) -> bytes:
    """The bytes of a file.

    Args:
        kind: what it is, such as ``"tithe.generations"``.
        version: of its format.
        known: what JSON can hold; NaN and ±∞ are taken, as Python's JSON has them.
        tensors: as ``dense`` gives them.

    Returns:
        A safetensors file. O(bytes).

    >>> known, tensors = unseal(seal("it", 1, {"step": 3}, [torch.ones(2)]), "it", 1)
    >>> known["step"], tensors
    (3, [tensor([1., 1.])])
    """
    text = json.dumps({**known, "sha256": _checksum(tensors)})
    head = {"format": kind, "version": version, "text": text, "sha256": _digest(text)}
    numbered = {str(index): tensor for index, tensor in enumerate(tensors)}  # names go where all characters may
    return safetensors.torch.save(numbered, {"tithe": json.dumps(head)})


def unseal(raw: bytes, kind: str, version: int) -> tuple[dict[str, Any], list[Tensor]]:
    """What is known, and the tensors on the CPU; one of ``FAULTS`` where any bit is not what was written. O(bytes)."""
    header_size = int.from_bytes(raw[:8], "little")
    known = known_in(raw[8 : 8 + header_size], kind, version)
    found = safetensors.torch.load(raw)
    tensors = [found[str(index)] for index in range(len(found))]
    if _checksum(tensors) != known["sha256"]:
        raise ValueError("the checksum over the tensors differs")
    return known, tensors


def known_in(header: bytes, kind: str, version: int) -> dict[str, Any]:
    """What is known, by the header of a file; one of ``FAULTS`` where it is damaged, foreign or of another version."""
    metadata = json.loads(header).get("__metadata__") or {}
    if "tithe" not in metadata:
        raise ValueError("it is another file, none of Tithe's")
    head = json.loads(metadata["tithe"])
    if (head["format"], head["version"]) != (kind, version):
        raise ValueError(f"it is of format {str(head['format'])[:40]!r}, version {str(head['version'])[:10]}; "
                         f"this version of Tithe reads {kind!r}, {version}")  # fmt: skip
    text = head["text"]
    if not isinstance(text, str) or _digest(text) != head["sha256"]:
        raise ValueError("the checksum over the header differs")
    known: dict[str, Any] = json.loads(text)
    return known


def dense(tensor: object, name: str) -> Tensor:
    """A copy on the CPU that shares memory with nothing; ``InvalidDTypeError`` for what a file cannot hold."""
    if not isinstance(tensor, Tensor):
        raise InvalidDTypeError(f"{name} is a {type(tensor).__name__}; a state has tensors only")
    if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.is_meta:
        raise InvalidDTypeError(f"{name} is {tensor.dtype}, {tensor.layout}, on {tensor.device}; keep dense tensors of "
                                f"{', '.join(str(dtype).removeprefix('torch.') for dtype in DTYPES)}")  # fmt: skip
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    return plain.contiguous().clone(memory_format=torch.contiguous_format)


def told(error: BaseException) -> str:
    """One of ``FAULTS`` in a message."""
    return (str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}")[:200]


def _checksum(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
