"""Models in one file: arrays in the safetensors format, all else as JSON in its header, with a checksum over both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from tithe.errors import InvalidDTypeError, ModelFileError
from tithe.files import write_atomically
from tithe.hashtron.encoders import Encoder
from tithe.hashtron.tuples.tables import Tables
from tithe.hashtron.tuples.training import blank

__all__ = ["packed_tables", "plain", "read_model", "unpacked_tables", "write_model"]

_FORMAT, _VERSION = "tithe.hashtron", 1
_WIDEST = 16  # bits of a tuple


def write_model(path: str | os.PathLike[str], model: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write a model; a reader sees the old file or the new one, never a part. The same model gives the same bytes.

    Args:
        path: of the file.
        model: what JSON can hold.
        arrays: by name.

    Returns:
        The path. Raises ``OSError`` as the file system does, ``TypeError`` for what JSON cannot hold. O(size).

    >>> import tempfile
    >>> path = write_model(tempfile.mkdtemp() + "/model", {"a": 1}, {"b": np.arange(3)})
    >>> read_model(path)
    ({'a': 1}, {'b': array([0, 1, 2])})
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(model, sort_keys=True)
    head = {"format": _FORMAT, "version": _VERSION, "model": text, "sha256": _checksum(text, arrays)}
    # one entry: safetensors writes several in any order
    return write_atomically(path, safetensors.numpy.save(arrays, {"tithe": json.dumps(head, sort_keys=True)}))


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what ``write_model`` wrote.

    Returns:
        The model and its arrays. Raises ``ModelFileError`` where the file is truncated, changed, of another version or
        another format; ``OSError`` as the file system does. O(size); nothing in the file is executed.
    """
    raw = Path(path).read_bytes()
    try:
        arrays = safetensors.numpy.load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        head = json.loads(header["__metadata__"]["tithe"])
        kind, version, text, checksum = head["format"], head["version"], head["model"], head["sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path} is no model of tithe.hashtron, or is truncated ({error}); save the model again"
        ) from error
    if (kind, version) != (_FORMAT, _VERSION):
        raise ModelFileError(
            f"{path} is of format {kind!r}, version {version!r}; this version of Tithe reads {_FORMAT!r}, {_VERSION}"
        )
    if not isinstance(text, str) or _checksum(text, arrays) != checksum:
        raise ModelFileError(f"{path} was changed or damaged: its checksum differs; save the model again")
    model: dict[str, Any] = json.loads(text)
    return model, arrays


def packed_tables(tables: Tables) -> dict[str, NDArray[Any]]:
    """Tables as arrays for a file, a bit for each cell and class."""
    signs = np.packbits(tables.signs[:, :, : tables.classes] > 0)
    return {"tuples": tables.tuples, "salts": tables.salts, "signs": signs}


def unpacked_tables(
    encoder: Encoder, cells: int, classes: int, *, tuples: NDArray[Any], salts: NDArray[Any], signs: NDArray[Any]
) -> Tables:
    """Tables from what a file holds; ``ValueError`` where it would make the kernels read beside the arrays."""
    count, width = tuples.shape
    log_size, sharing = cells.bit_length() - 1, encoder.sharing
    last = encoder.length - 1 - (sharing.down - 1) * sharing.stride
    whole = (
        tuples.dtype == np.int32 and salts.dtype == np.uint32 and signs.dtype == np.uint8
        and tuples.min() >= 0 and tuples.max() <= last and salts.shape == (count,)
        and 1 <= width <= _WIDEST and 0 <= log_size <= width and cells == 1 << log_size
        and classes >= 1 and signs.shape == (-(-count * cells * classes // 8),)
    )  # fmt: skip
    if not whole:
        raise ValueError("its arrays do not fit together")
    tables = blank(tuples, salts, log_size, classes, sharing)
    bits = np.unpackbits(signs, count=count * cells * classes).reshape(count, cells, classes)
    tables.signs[:, :, :classes] = bits.astype(np.int8) * 2 - 1
    return tables


def plain(name: str, value: Any) -> Any:
    """A parameter as JSON has it; a generator of random numbers as None."""
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(name, entry) for entry in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if name == "random_state":
        return None
    raise InvalidDTypeError(f"{name} is {value!r}; only numbers, truths, strings and lists of them can be saved")


def _checksum(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
