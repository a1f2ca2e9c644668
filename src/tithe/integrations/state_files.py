"""The state of the filters beside a model's checkpoint: averages as safetensors, all else as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from tithe.errors import CorruptFileError
from tithe.files import write_atomically

__all__ = ["has_state", "read_state", "write_state"]

_TENSORS, _NUMBERS = "resolvent.safetensors", "resolvent.json"
_VERSION = 1


def write_state(folder: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a state to a folder, the numbers last, so that where they are the averages are whole.

    Args:
        folder: of the checkpoint; made where it is missing.
        state: as ``Attached.state`` gives it.

    Raises ``OSError`` as the file system does. O(weights).

    >>> import tempfile, torch
    >>> folder = tempfile.mkdtemp()
    >>> trajectory = {"tau": 9.0, "steps": 3, "averages": {"weight": torch.ones(2)}}
    >>> write_state(folder, {"trajectory": trajectory, "gradient": None, "monitor": None})
    >>> read_state(folder)["trajectory"]
    {'tau': 9.0, 'steps': 3, 'averages': {'weight': tensor([1., 1.])}}
    """
    folder = Path(folder)
    trajectory = dict(state["trajectory"])
    averages = {name: tensor.contiguous() for name, tensor in trajectory.pop("averages").items()}
    (folder / _NUMBERS).unlink(missing_ok=True)
    write_atomically(folder / _TENSORS, safetensors.torch.save(averages))
    numbers = {"version": _VERSION, **state, "trajectory": trajectory}
    write_atomically(folder / _NUMBERS, json.dumps(numbers, indent=1) + "\n")


def has_state(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a state, whole or damaged."""
    return (Path(folder) / _NUMBERS).exists()


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``write_state`` wrote, with its tensors on the CPU. Nothing in the files is executed.

    Raises ``CorruptFileError`` where the files hold no state of this version, ``OSError`` as the file system does.
    O(weights).
    """
    folder = Path(folder)
    try:
        state: dict[str, Any] = json.loads((folder / _NUMBERS).read_bytes())
        if state.pop("version") != _VERSION:
            raise ValueError("it was written by another version of Tithe")
        missing = {"trajectory", "gradient", "monitor"} - state.keys() or {"tau", "steps"} - state["trajectory"].keys()
        if missing:
            raise ValueError(f"{sorted(missing)} are missing")
        averages = safetensors.torch.load_file(folder / _TENSORS)
        return {**state, "trajectory": {**state["trajectory"], "averages": averages}}
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise CorruptFileError(f"{folder / _NUMBERS} and {_TENSORS} hold no state of the filters: {error}") from error
