"""What a model tells of its tether nodes: their rows of its weights, read, written back, and advertised in files."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import write_atomically
from tithe.tether.exchange.message import Message, pack, unpack
from tithe.tether.nodes import layers_with_nodes

__all__ = ["Advertisement", "advertise", "put_rows", "read_advertisement", "rows_of"]

_KIND = "tithe.tether.advertisement"


def rows_of(model: nn.Module, nodes: Mapping[str, Tensor], *, strict: bool = True) -> dict[str, Tensor]:
    """What a model has of some nodes: their rows of weights, biases and tethers.

    Two models are comparable at the same nodes only, so ask for those that were advertised:
    ``compatibility(rows_of(model, other.nodes, strict=False), other.rows)``.

    Args:
        model: any module.
        nodes: ascending indices by layer, int64 (k,).
        strict: whether layers that the model has not, or not with so many nodes, are an error; else they are left out.

    Returns:
        Copies (k, ...) by the name in the state dict. Raises ``InvalidValueError`` for what is not there.
        O(rows). Source: MISSION T5.

    >>> rows_of(nn.Sequential(nn.Linear(3, 4)), {"0": torch.tensor([1, 3])})["0.weight"].shape
    torch.Size([2, 3])
    """
    tensors, faults = _tensors(model, nodes)
    if strict and faults:
        raise InvalidValueError("; ".join(f"{name!r}: {fault}" for name, fault in faults.items()))
    return {name: tensor.detach()[at.to(tensor.device)] for name, (tensor, at) in tensors.items()}


@torch.no_grad()
def put_rows(
    model: nn.Module, nodes: Mapping[str, Tensor], rows: Mapping[str, Tensor], *, strict: bool = True
) -> dict[str, str]:
    """Write rows of nodes into a model in place: the way back from ``rows_of``.

    Args:
        model: any module.
        nodes: ascending indices by layer, int64 (k,).
        rows: (k, ...) by the name in the state dict; the model's own tensors that are not among them stay.
        strict: whether what does not fit is an error; else the rest is written, such as between models of unequal
            architecture, matched by name and shape of a row.

    Returns:
        What was left out, with the reason; empty where all was written. Raises ``InvalidValueError`` where something
        does not fit, or is not finite (never written); the model is then as it was. O(rows).

    >>> model = nn.Linear(2, 3)
    >>> put_rows(model, {"": torch.tensor([2])}, {"weight": torch.ones(1, 2), "other.weight": torch.ones(1, 2)},
    ...          strict=False)
    {'other.weight': 'no tensor of that name at these nodes'}
    >>> model.weight[2].tolist()
    [1.0, 1.0]
    """
    tensors, faults = _tensors(model, nodes)
    fitting, left_out = {}, {}
    for name, new in rows.items():
        if name not in tensors:
            layer = _layer_of(name, nodes)
            left_out[name] = faults.get("" if layer is None else layer, "no tensor of that name at these nodes")
            continue
        tensor, at = tensors[name]
        shape = (len(at), *tensor.shape[1:])
        if new.shape != shape or not new.is_floating_point():
            left_out[name] = f"{new.dtype} {tuple(new.shape)} for floating-point {shape}"
            continue
        fitting[name] = new.to(tensor)  # the cast may overflow, so what is checked comes after it
        if not bool(fitting[name].isfinite().all()):
            raise InvalidValueError(f"{name} has entries that are NaN or infinite; nothing is written")
    if strict and left_out:
        raise InvalidValueError("; ".join(f"{name}: {reason}" for name, reason in left_out.items()))
    for name, new in fitting.items():
        tensor, at = tensors[name]
        tensor[at.to(tensor.device)] = new
    return left_out


@dataclass(frozen=True, eq=False)
class Advertisement:
    """What a model tells of its tether nodes.

    Attributes:
        name: of the model: 1 to 64 letters, digits, ``_`` and ``-``.
        step: of its training.
        nodes: indices by layer, int64.
        rows: of its weights, biases and tethers at these nodes, by name.
        info: what JSON can hold, such as ``{"loss": 0.3}``.

    >>> Advertisement("ada", 3, {"fc": torch.tensor([1])}, {"fc.weight": torch.ones(1, 2)}).step
    3
    """

    name: str
    step: int
    nodes: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]
    info: Mapping[str, Any] = field(default_factory=dict)


def advertise(
    path: str | os.PathLike[str],
    model: nn.Module,
    nodes: Mapping[str, Tensor],
    *,
    name: str,
    step: int = 0,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write the rows of tether nodes to a file that other processes and machines can read while the descent goes on.

    It is a safetensors file with a checksum, replaced as a whole: a reader sees the old one or the new one.

    Args:
        path: of the file.
        model: whose rows.
        nodes: ascending indices by layer, as ``tether_nodes`` gives them.
        name: of the model: 1 to 64 letters, digits, ``_`` and ``-``.
        step: of the training, from 0.
        info: what JSON can hold.

    Returns:
        The path. Raises ``InvalidValueError`` for nodes, names and info that cannot be used, ``OSError`` as the file
        system does. O(rows). Source: MISSION T5 ("advertise edges during the descent").

    >>> import tempfile
    >>> path = advertise(f"{tempfile.mkdtemp()}/ada.safetensors", nn.Linear(2, 3), {"": torch.tensor([1])}, name="ada")
    >>> read_advertisement(path).nodes
    {'': tensor([1])}
    """
    tensors = {f"nodes/{layer}": at for layer, at in nodes.items()}
    tensors |= {f"rows/{tensor}": rows for tensor, rows in rows_of(model, nodes).items()}
    return write_atomically(path, pack(Message(name, 0, step, tensors, {"kind": _KIND, "info": dict(info or {})})))


def read_advertisement(path: str | os.PathLike[str], *, most_bytes: int = 1 << 30) -> Advertisement:
    """Read what ``advertise`` has written, from anybody; nothing in it is executed.

    Args:
        path: of the file.
        most_bytes: larger files are not opened.

    Returns:
        The advertisement, tensors on the CPU. Raises ``CorruptFileError`` where the file is truncated, altered, foreign
        or too large, ``OSError`` where it cannot be read. O(bytes); memory at most 2 · the file + 100 MB.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
        raise CorruptFileError(f"{path} is no file of at most {most_bytes} bytes; it has {status.st_size}")
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)  # it may grow meanwhile
    try:
        message = unpack(data, most_bytes=most_bytes)
        if message.info.get("kind") != _KIND or not isinstance(message.info.get("info"), dict):
            raise CorruptFileError("is another kind of message")
        parts: dict[str, dict[str, Tensor]] = {"nodes": {}, "rows": {}}
        for name, tensor in message.tensors.items():
            part, slash, rest = name.partition("/")
            if part not in parts or not slash:
                raise CorruptFileError(f"has a tensor called {name[:80]!r}")
            parts[part][rest] = tensor
        for layer, at in parts["nodes"].items():
            if fault := _unusable(at):
                raise CorruptFileError(f"has nodes of {layer[:80]!r} that are {fault}")
        for name, rows in parts["rows"].items():
            owner = _layer_of(name, parts["nodes"])
            if owner is None or rows.ndim < 1 or len(rows) != len(parts["nodes"][owner]):
                raise CorruptFileError(f"has rows of {name[:80]!r} that belong to none of its nodes")
    except CorruptFileError as error:
        raise CorruptFileError(f"{path} {error}; have it advertised again") from error
    return Advertisement(message.sender, message.step, parts["nodes"], parts["rows"], message.info["info"])


def _tensors(model: nn.Module, nodes: Mapping[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, str]]:
    """Tensors that have a row for each node, with the nodes, by name; layers that do not fit, with the reason."""
    layers = layers_with_nodes(model)
    found, faults = {}, {}
    for name, at in nodes.items():
        if fault := _unusable(at):
            raise InvalidValueError(f"nodes of {name!r} are {fault}; use ascending int64 indices (k,)")
        if name not in layers:
            faults[name] = f"no Linear, convolution or Embedding; there are {', '.join(layers) or 'none'}"
            continue
        layer = layers[name]
        count = len(layer.weight)
        if len(at) and int(at.max()) >= count:
            faults[name] = f"{count} nodes, and node {int(at.max())} is asked for"
            continue
        for part, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            taken = isinstance(tensor, nn.Parameter) or part.endswith(".tether")
            if taken and tensor.is_floating_point() and tensor.ndim and len(tensor) == count:
                found[f"{name}.{part}".lstrip(".")] = (tensor, at)
    return found, faults


def _unusable(at: object) -> str:
    """What is wrong with indices of nodes, if anything."""
    if not isinstance(at, Tensor) or at.dtype != torch.int64 or at.ndim != 1:
        return f"{at.dtype} {tuple(at.shape)}" if isinstance(at, Tensor) else f"a {type(at).__name__}"
    return "negative, doubled or not ascending" if bool((at.diff(prepend=at.new_tensor([-1])) <= 0).any()) else ""


def _layer_of(name: str, layers: Mapping[str, Any]) -> str | None:
    """The layer that a tensor belongs to by its name: the longest that fits."""
    return max((layer for layer in layers if not layer or name.startswith(f"{layer}.")), key=len, default=None)
