"""Models in one file: arrays in the safetensors format, all else as JSON in its header, with a checksum over both.

A file is data, whoever wrote it. Its size, then its header, then every part by itself, then the parts together are
looked at before anything is built of them; what a file claims can take neither more memory than the limits below nor
the kernels beside their arrays.
"""

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

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError, ModelFileError
from tithe.files import write_atomically
from tithe.hashtron.encoders import Encoder
from tithe.hashtron.saved_models import check_model, need
from tithe.hashtron.tuples.kernels import CLASSES
from tithe.hashtron.tuples.tables import Tables, filled_up
from tithe.hashtron.tuples.training import blank

__all__ = ["packed_tables", "plain", "plain_params", "read_model", "unpacked_tables", "write_model"]

_FORMAT, _VERSION = "tithe.hashtron", 1
_WIDEST = 16  # bits of a tuple
_MOST_HEADER = 1 << 24  # bytes
_MOST_ARRAYS = 8
_MOST_BYTES = 1 << 28  # of a file
_MOST_SIGNS = 1 << 29  # bytes of tables in memory: cells times classes filled up
_MOST_BITS = 1 << 26  # of an encoded sample
_RUNNING = ("n_jobs", "verbose")  # parameters that say how a model is run and not what it is


def write_model(path: str | os.PathLike[str], model: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write a model; a reader sees the old file or the new one, never a part. The same model gives the same bytes.

    Args:
        path: of the file.
        model: what JSON can hold.
        arrays: by name.

    Returns:
        The path. Raises ``InvalidValueError`` for more bytes than ``read_model`` takes, ``OSError`` as the file system
        does, ``TypeError`` for what JSON cannot hold. O(size).
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(model, sort_keys=True)
    head = {"format": _FORMAT, "version": _VERSION, "model": text, "sha256": _checksum(text, arrays)}
    # one entry: safetensors writes several in any order
    raw = safetensors.numpy.save(arrays, {"tithe": json.dumps(head, sort_keys=True)})
    if _header(raw) > _MOST_HEADER or len(raw) > _MOST_BYTES:
        raise InvalidValueError(
            f"the model takes {len(raw)} bytes, {_header(raw)} of them for columns, categories and classes; a file has "
            f"{_MOST_BYTES} and {_MOST_HEADER} at most: take a smaller preset, or fewer columns or categories"
        )
    return write_atomically(path, raw)


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what ``write_model`` wrote of an estimator, and check it, but for what the encoder and the arrays hold.

    Returns:
        The model and its arrays. Raises ``ModelFileError`` where the file is truncated, changed, too large, of another
        version or another format, or holds what no estimator can have; ``OSError`` as the file system does. O(size),
        and 1 GB of memory at most; nothing in the file is executed.
    """
    try:
        text, arrays = _contents(Path(path))
        try:
            model = json.loads(text)
            check_model(model)
        except _FAULTS as error:
            raise CorruptFileError(f"holds no whole model ({_told(error)}); save the model again") from error
    except CorruptFileError as error:
        raise ModelFileError(f"{path} {error}") from error
    model["params"] = {name: value for name, value in model["params"].items() if name not in _RUNNING}
    return model, arrays


def packed_tables(tables: Tables) -> dict[str, NDArray[Any]]:
    """Tables as arrays for a file, a bit for each cell and class; ``InvalidValueError`` where they are too many."""
    if tables.signs.nbytes > _MOST_SIGNS:
        raise InvalidValueError(
            f"the tables take {tables.signs.nbytes} bytes of memory; those of a file take {_MOST_SIGNS} at most: "
            "take a smaller preset"
        )
    signs = np.packbits(tables.signs[:, :, : tables.classes] > 0)
    return {"tuples": tables.tuples, "salts": tables.salts, "signs": signs}


def unpacked_tables(
    encoder: Encoder, cells: int, classes: int, *, tuples: NDArray[Any], salts: NDArray[Any], signs: NDArray[Any]
) -> Tables:
    """Tables from what a file holds; ``CorruptFileError`` where it would make the kernels read beside the arrays."""
    count, width = tuples.shape
    log_size, sharing = cells.bit_length() - 1, encoder.sharing
    bits = encoder.length - (sharing.down - 1) * sharing.stride - (sharing.across - 1)  # where the first window may be
    need(encoder.length <= _MOST_BITS, f"samples of {encoder.length} bits")
    need(count >= 1 and 1 <= width <= _WIDEST and tuples.dtype == np.int32, "tuples that are none")
    need(1 <= log_size <= width and cells == 1 << log_size, f"tables of {cells} cells for tuples of {width} bits")
    need(count * cells * filled_up(classes, CLASSES) <= _MOST_SIGNS, f"{count} tables of {cells} cells")
    need(tuples.min() >= 0 and tuples.max() < bits, f"tuples that look beside the {bits} bits they may")
    need(salts.dtype == np.uint32 and salts.shape == (count,), "other salts than tuples")
    need(signs.dtype == np.uint8 and signs.shape == (-(-count * cells * classes // 8),), "other cells than tuples")
    tables = blank(tuples, salts, log_size, classes, sharing)
    yes = np.unpackbits(signs, count=count * cells * classes).reshape(count, cells, classes)
    tables.signs[:, :, :classes][yes == 0] = -1
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


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a file keeps, as JSON has them: not those that say how a model is run, such as n_jobs.

    >>> plain_params({"preset": "tiny", "image_shape": (8, 8), "n_jobs": 2})
    {'preset': 'tiny', 'image_shape': [8, 8]}
    """
    return {name: plain(name, value) for name, value in params.items() if name not in _RUNNING}


# Whatever json, safetensors and the checks below raise over content that is none; ``OSError`` goes through.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, SafetensorError, TypeError, ValueError)


def _contents(path: Path) -> tuple[str, dict[str, NDArray[Any]]]:
    """The JSON of the model and the arrays of a file whose checksum is right; ``CorruptFileError`` where none is."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 for what has no end
        if size > _MOST_BYTES:
            raise CorruptFileError(f"has {size} bytes; a model of tithe.hashtron has {_MOST_BYTES} at most")
        raw = file.read(size)
    try:
        need(_header(raw) <= _MOST_HEADER, f"a header of {_header(raw)} bytes")
        header = json.loads(raw[8 : 8 + _header(raw)])
        need(len(header) <= _MOST_ARRAYS, f"{len(header)} arrays")
        head, arrays = json.loads(header["__metadata__"]["tithe"]), safetensors.numpy.load(raw)
        kind, version, text, checksum = (head[key] for key in ("format", "version", "model", "sha256"))
        need(isinstance(kind, str) and type(version) is int, "neither format nor version")
        right = _checksum(text, arrays) == checksum
    except _FAULTS as error:
        raise CorruptFileError(
            f"is no model of tithe.hashtron, or is truncated ({_told(error)}); save the model again"
        ) from error
    if (kind, version) != (_FORMAT, _VERSION):
        raise CorruptFileError(
            f"is of format {kind[:40]!r}, version {version!r}; this version of Tithe reads {_FORMAT!r}, {_VERSION}"
        )
    if not right:
        raise CorruptFileError("was changed or damaged: its checksum differs; save the model again")
    return text, arrays


def _header(raw: bytes) -> int:
    """Bytes of a safetensors file's header."""
    return int.from_bytes(raw[:8], "little")


def _checksum(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, CorruptFileError) else f"{type(error).__name__}: {str(error)[:200]}"
