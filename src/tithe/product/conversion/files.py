"""Converted models as files: parameters under their own names, ways beside them, bit by bit what was saved or an error.

A file is a safetensors file. Whoever has no Tithe reads the parameters from it as from any other; the tensors of ways
have names that begin with ``tithe/``. All else stands as JSON in the header.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tithe.errors import InvalidDTypeError, InvalidStateError, ModelFileError
from tithe.files import write_atomically
from tithe.machine import describe
from tithe.product.conversion.layers import Conversion, Place, adopt, converted_layers, place_of
from tithe.product.conversion.rows import Layer, why_not
from tithe.product.conversion.ways import from_tensors

__all__ = ["load_converted", "save_converted"]

_FORMAT, _VERSION = "tithe.product.conversion", 1
_Model = TypeVar("_Model", bound=nn.Module)
# What json, safetensors and torch raise over content that is none.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, SafetensorError, TypeError,
           ValueError)  # fmt: skip


def save_converted(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write the state of a model, and how its converted layers compute.

    Args:
        model: on any device, with converted layers or without.
        path: of the file, ``….safetensors`` by custom; replaced as a whole.

    Returns:
        The path. Raises ``InvalidDTypeError`` for a state that has other things than dense tensors of the types that
        safetensors has, ``OSError`` as the file system does. O(bytes); tied weights are written once.

    >>> import tempfile
    >>> path = save_converted(nn.Linear(2, 1), f"{tempfile.mkdtemp()}/plain.safetensors")
    >>> sorted(safetensors.torch.load_file(path))
    ['bias', 'weight']
    """
    tensors, twins = _without_twins(model.state_dict())
    ways = {name: _told(layer) for name, layer in converted_layers(model).items()}
    for name, layer in converted_layers(model).items():
        tensors |= {_name(name, part): x for part, x in layer.conversion.way.tensors().items()}
    tensors = {name: _dense(x, name) for name, x in tensors.items()}
    text = json.dumps({"twins": twins, "ways": ways})
    head = {"format": _FORMAT, "version": _VERSION, "text": text, "sha256": _checksum(text, tensors)}
    try:
        content = safetensors.torch.save(tensors, {"tithe": json.dumps(head)})
    except (KeyError, SafetensorError) as error:
        types = ", ".join(sorted({str(x.dtype) for x in tensors.values()}))
        raise InvalidDTypeError(f"safetensors has not all of the types of this state: {types}") from error
    return write_atomically(path, content)


def load_converted(model: _Model, path: str | os.PathLike[str]) -> _Model:
    """Give a plain model the state of a file, and let its layers compute as those that were saved; nothing is timed.

    Results are right on every machine. What was timed elsewhere may not be faster here, and a warning says so; where
    torch has another number of threads, or a layer is on another kind of device, it is plain.

    Args:
        model: of the architecture that was saved, without converted layers, on any device.
        path: a file of ``save_converted``.

    Returns:
        The model. Raises ``ModelFileError`` where the file is damaged, of a newer format or of another model, which
        then stays as it was; ``InvalidStateError`` for a model that is converted; ``OSError`` as the file system does.
        O(bytes); nothing in the file is executed.

    >>> import tempfile
    >>> path = save_converted(nn.Linear(2, 1), f"{tempfile.mkdtemp()}/plain.safetensors")
    >>> load_converted(nn.Linear(2, 1), path)
    Linear(in_features=2, out_features=1, bias=True)
    """
    if converted_layers(model):
        raise InvalidStateError("the model has converted layers; call tithe.restore(model) first")
    known, tensors = _read(Path(path))
    modules: dict[str, Any] = dict(model.named_modules())
    try:
        ways = {name: _conversion(name, modules.get(name), told, tensors) for name, told in known["ways"].items()}
        state = tensors | {name: tensors[twin] for name, twin in known["twins"].items()}
        _need_same(state, model.state_dict())
    except _FAULTS as error:
        raise ModelFileError(f"{path} is not of this model: {_message(error)}") from error
    model.load_state_dict(state)
    for name, conversion in ways.items():
        adopt(modules[name], conversion)
    _warn_of_places(known["ways"], modules)
    return model


def _told(layer: Any) -> dict[str, Any]:
    """What a file says of a converted layer, as JSON has it."""
    conversion: Conversion = layer.conversion
    return {
        "layer": _described(layer),
        "parts": sorted(conversion.way.tensors()),
        "place": list(conversion.place),
        "machine": _machine(conversion.place.device),
        "rows": conversion.rows,
        "print": conversion.print,
    }


def _described(layer: Layer) -> dict[str, Any]:
    """What a layer must have in common with the one that a way was made for, beside its parameters."""
    shape = list(layer.weight.shape)
    if not isinstance(layer, nn.Conv2d):
        return {"kind": "Linear", "shape": shape}
    geometry = {key: list(getattr(layer, key)) for key in ("stride", "padding", "dilation")}
    return {"kind": "Conv2d", "shape": shape, **geometry}


def _conversion(name: str, layer: Any, told: Mapping[str, Any], tensors: dict[str, Tensor]) -> Conversion:
    """How a layer of the model computes from now on; takes the tensors of its way out of ``tensors``."""
    there = _described(layer) if type(layer) in (nn.Linear, nn.Conv2d) and not why_not(layer) else None
    if there != told["layer"]:
        raise ValueError(f"its layer {name!r} is {told['layer']}; the model has {there or type(layer).__name__} there")
    device = layer.weight.device
    parts = {part: tensors.pop(_name(name, part)).to(device) for part in told["parts"]}
    place = Place(*told["place"])
    if _kind(place.device) == device.type:
        place = place._replace(device=str(device))
    return Conversion(from_tensors(parts, layer.weight.detach()), place, int(told["rows"]), str(told["print"]))


def _need_same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for first, second, where in ((state, expected, "the model"), (expected, state, "the file")):
        if lacking := [name for name in first if name not in second]:
            raise ValueError(f"{where} has no {', '.join(lacking[:3])}{' …' * (len(lacking) > 3)}")
    for name, x in expected.items():
        if x.shape != state[name].shape:
            raise ValueError(f"{name} is {tuple(state[name].shape)} in the file, {tuple(x.shape)} in the model")


def _warn_of_places(ways: Mapping[str, Any], modules: Mapping[str, Any]) -> None:
    for name, told in ways.items():
        device, threads = place_of(modules[name].weight)
        here = _kind(device), threads, _machine(device)
        then = _kind(told["place"][0]), told["place"][1], told["machine"]
        if here != then:
            plain = "so layers stay plain" if here[:2] != then[:2] else "so layers may not be faster"
            warnings.warn(
                f"the ways were timed on {_place(then)}; here is {_place(here)}, {plain}: restore and "
                "convert the model here to know",
                stacklevel=3,
            )
            return


def _place(place: tuple[Any, ...]) -> str:
    kind, threads, machine = place
    return f"{kind} ({machine}, {threads} threads)" if threads else f"{kind} ({machine})"


def _kind(device: str) -> str:
    return device.split(":")[0]


def _machine(device: str) -> str:
    cuda = _kind(device) == "cuda"
    return str(describe(gpu=cuda)["gpu" if cuda else "processor"])


def _name(layer: str, part: str) -> str:
    return f"tithe/{layer}/{part}"


def _without_twins(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Each tensor under the first of its names, and the first name for each of the others."""
    first: dict[Any, str] = {}
    twins: dict[str, str] = {}
    for name, x in state.items():
        if isinstance(x, Tensor) and x.numel():
            same = first.setdefault((x.device, x.data_ptr(), x.dtype, x.shape, x.stride()), name)
            if same != name:
                twins[name] = same
    return {name: x for name, x in state.items() if name not in twins}, twins


def _dense(x: object, name: str) -> Tensor:
    """A copy on the CPU that shares memory with nothing."""
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.is_meta:
        kind = f"{x.layout} tensor on {x.device}" if isinstance(x, Tensor) else type(x).__name__
        raise InvalidDTypeError(f"{name} is a {kind}; a state that is saved has dense tensors only")
    return x.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says, and its tensors, once the checksum has been compared."""
    raw = path.read_bytes()
    try:
        length = int.from_bytes(raw[:8], "little")
        metadata = json.loads(raw[8 : 8 + length]).get("__metadata__") or {}
        if "tithe" not in metadata:
            raise ValueError("it was not written by save_converted")
        head = json.loads(metadata["tithe"])
        if head["format"] != _FORMAT:
            raise ValueError(f"its format is {str(head['format'])[:40]!r}; {_FORMAT!r} is expected")
        if head["version"] != _VERSION:
            raise ValueError(f"its format is {str(head['version'])[:9]}, newer than {_VERSION}; update Tithe")
        tensors = safetensors.torch.load(raw)
        if _checksum(head["text"], tensors) != head["sha256"]:
            raise ValueError("the checksum differs, it is damaged; save it again")
        known: dict[str, Any] = json.loads(head["text"])
    except _FAULTS as error:
        raise ModelFileError(f"{path} cannot be loaded: {_message(error)}") from error
    return known, tensors


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        x = tensors[name]
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _message(error: BaseException) -> str:
    return (str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}")[:600]
