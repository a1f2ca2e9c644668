"""Checkpoints: a state of plain values and tensors in one file, without pickle, there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import write_atomically
from tithe.tether.sealed import FAULTS, dense, seal, told, unseal
from tithe.tether.trees import put_together, taken_apart

__all__ = ["read_checkpoint", "write_checkpoint"]

_FORMAT, _VERSION = "tithe.checkpoint", 1


def write_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> Path:
    """Write a state such as ``Population.state_dict`` gives.

    Args:
        path: of the file, replaced as a whole: whoever is killed meanwhile leaves the old one.
        state: nested dicts (by str or int), lists and tuples of tensors, ``None``, bool, int, float and str.

    Returns:
        The path: a safetensors file with checksums, all but the tensors as JSON in its header. Raises
        ``InvalidDTypeError`` or ``InvalidValueError`` for a state of anything else, ``OSError`` as the file system
        does; the old file is then untouched. O(bytes).

    >>> import tempfile, torch
    >>> path = write_checkpoint(f"{tempfile.mkdtemp()}/state.safetensors", {"step": 3, "pair": (torch.ones(1), None)})
    >>> read_checkpoint(path)
    {'step': 3, 'pair': (tensor([1.]), None)}
    """
    tensors: list[Tensor] = []
    tree = taken_apart(dict(state), tensors)
    whole = [dense(tensor, f"tensor {number}") for number, tensor in enumerate(tensors)]
    try:
        raw = seal(_FORMAT, _VERSION, {"state": tree}, whole)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"the state cannot be written ({error}); use plain values and tensors") from error
    return write_atomically(path, raw)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what ``write_checkpoint`` wrote; nothing in it is executed.

    Returns:
        The state, bit by bit, on the CPU. Raises ``CorruptFileError`` where the file is truncated, altered or another
        one, ``OSError`` where it cannot be read. O(bytes).
    """
    try:
        known, tensors = unseal(Path(path).read_bytes(), _FORMAT, _VERSION)
        state: dict[str, Any] = put_together(known["state"], tensors)
    except FAULTS as error:
        raise CorruptFileError(f"{path} is damaged or no checkpoint ({told(error)}); move it away") from error
    return state
