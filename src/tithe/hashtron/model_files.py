"""Model files of the reference and back: compressed text, one neuron a line; the topology lies in a file beside.

A file is data, whoever wrote it: it is scanned, never evaluated, and neither its size nor its content can make
loading take more memory than the limits below allow.

The file beside says by a checksum which model it is for. While a model is replaced by another it is for both, so that
whatever is interrupted, the old model is there with its topology, or the new one with its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError, ModelFileError
from tithe.files import write_atomically
from tithe.hashtron.filters import Filter
from tithe.hashtron.lzw import expand
from tithe.hashtron.network import Network
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.topology import TOPOLOGIES, Layer, Topology

__all__ = ["load", "save"]

_MOST_BYTES = 1 << 26  # of a file, compressed and expanded
_MOST_NEURONS = 1 << 18
_MOST_PAIRS = 1 << 19
_MOST_TOPOLOGY = 1 << 20  # bytes

_OPEN = re.compile(r"\s*+\[")
_PAIR = re.compile(r"\s*+\[\s*+(\d{1,10})\s*+,\s*+(-?\d{1,10})\s*+\]")
_FILTER = re.compile(r'\s*+"((?:[0-9a-fA-F]{2})*+)"')
_COMMA, _CLOSE, _END = (re.compile(rf"\s*+{mark}") for mark in (",", r"\]", r"\Z"))


def load(path: str | os.PathLike[str], topology: str | Topology | None = None) -> Network:
    """Load a network from a model file of the reference (``.json.t.zlib``, or ``.json.t.lzw``) or of :func:`save`.

    Args:
        path: the model file.
        topology: what the file does not say: a :class:`Topology`, the name of a known one (``"squareroot"``), or
            ``None`` for the file ``<path>.topology.json`` if there is one, else a single neuron.

    Returns:
        The network. Raises ``ModelFileError`` where the file is damaged, too large (64 MiB), no model, or has another
        number of neurons than the topology, and where the file beside is damaged or of another model;
        ``InvalidValueError`` for an unknown name; ``OSError`` as the file system does. O(size); at most 400 MB of
        memory for any file; nothing in it is executed.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/one.json.t.zlib"
    >>> _ = save(Network(Topology((Layer(1),)), [Hashtron(((7, 2),))]), path)
    >>> load(path).neurons
    (Hashtron(program=((7, 2),), filter=Filter(cells=b'')),)
    """
    path, known = Path(path), _given(topology)
    data = _read(path, _MOST_BYTES)
    neurons = _parse(path, _text(path, data))
    known = known or _found(path, data)
    if known is None and len(neurons) > 1:
        raise ModelFileError(
            f"{path} has {len(neurons)} neurons and does not say how they are connected: pass topology= (a Topology, "
            f"or one of {', '.join(TOPOLOGIES)}), or put one beside it as {_beside(path).name}"
        )
    known = known or Topology((Layer(1),))
    if known.neurons != len(neurons):
        raise ModelFileError(f"{path} has {len(neurons)} neurons, the topology {known.neurons}: pass the one it is for")
    return Network(known, neurons)


def save(network: Network, path: str | os.PathLike[str]) -> Path:
    """Write a network so that :func:`load` and the reference read it, and its topology beside.

    Args:
        network: what to write.
        path: the model file; ``<path>.topology.json`` is written too.

    Returns:
        The path of the model file. Raises ``OSError`` as the file system does; :func:`load` then gives what was there
        before, or the new network where only the last cleaning up failed. O(size).

    The same network gives the same bytes; a file of the reference that was loaded gives its own text again.
    """
    path = Path(path)
    text = "[\n" + ",\n".join(neuron.to_json() for neuron in network.neurons) + "]\n"
    data = zlib.compress(text.encode())
    new = {**json.loads(network.topology.to_json()), "sha256": hashlib.sha256(data).hexdigest()}
    before = _before(path)
    _write_beside(path, {**new, **before})
    write_atomically(path, data)
    if before:
        _write_beside(path, new)
    return path


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".topology.json")


def _write_beside(path: Path, content: dict[str, Any]) -> None:
    write_atomically(_beside(path), json.dumps(content, indent=1) + "\n")


def _before(path: Path) -> dict[str, Any]:
    """What the file beside goes on to say of the model that is there, if it says something that can be read."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return {"before": {**_entry(path, digest), "sha256": digest}}
    except ModelFileError:
        return {}


def _given(topology: str | Topology | None) -> Topology | None:
    if topology is None or isinstance(topology, Topology):
        return topology
    if topology not in TOPOLOGIES:
        raise InvalidValueError(f"no topology {topology!r}: pass one of {', '.join(TOPOLOGIES)}, or a Topology")
    return TOPOLOGIES[topology]


def _found(path: Path, data: bytes) -> Topology | None:
    """The topology that the file beside has for the model of these bytes; None where there is none."""
    entry = _entry(path, hashlib.sha256(data).hexdigest())
    if not entry.keys() - {"sha256"}:
        return None
    try:
        return Topology.from_json(json.dumps(entry))
    except (InvalidValueError, InvalidDTypeError) as error:
        raise ModelFileError(f"{_beside(path)}: {error}; pass topology= instead, or save the network again") from error


def _entry(path: Path, digest: str) -> dict[str, Any]:
    """What the file beside says of the model with this checksum; nothing where there is no such file.

    One that was written by hand has no checksum and is for any model.
    """
    beside = _beside(path)
    if not beside.is_file():
        return {}
    try:
        found = json.loads(_read(beside, _MOST_TOPOLOGY))
        for entry in (found, found.pop("before", {})):
            if entry and entry.get("sha256", digest) == digest:
                return dict(entry)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{beside} holds no topology ({type(error).__name__}: {error}); pass topology=") from error
    raise ModelFileError(
        f"{beside} is for another model than {path}, its sha256 differs: pass topology=, or save the network again"
    )


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ModelFileError(f"{path} has more than {most} bytes; a model file has at most that")
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        if data[:1] == b"\x78" and len(data) > 1 and (data[0] << 8 | data[1]) % 31 == 0:
            return _inflate(data).decode("ascii")
        if data[:1] == b"\x00" and data[1:2] and data[1] & 1:  # the first code is 256, in 9 bits
            return expand(data, _MOST_BYTES).decode("ascii")
    except (CorruptFileError, UnicodeDecodeError, zlib.error) as error:
        raise ModelFileError(f"{path} is damaged: {error}; fetch or save it again") from error
    raise ModelFileError(f"{path} begins with {data[:8]!r}; a model file is a zlib or LZW stream of JSON lines")


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise CorruptFileError(f"it expands to more than {_MOST_BYTES} bytes")
    if not inflater.eof:
        raise CorruptFileError(f"it ends early, after {len(text)} bytes of content")
    if inflater.unused_data:
        raise CorruptFileError(f"{len(inflater.unused_data)} bytes follow its end")
    return text


def _parse(path: Path, text: str) -> list[Hashtron]:
    """The neurons of ``[[[salt, modulo], [salt step, modulo step], ..., "filter"], ...]``."""
    neurons: list[Hashtron] = []
    scan = _Scanner(path, text)
    scan.need(_OPEN)
    pairs = 0
    while True:
        scan.need(_OPEN)
        program: list[tuple[int, int]] = []
        cells, more = "", True
        while more and (found := scan.take(_PAIR)):
            salt, modulo = int(found[1]), int(found[2])
            program.append((program[-1][0] ^ salt, program[-1][1] - modulo) if program else (salt, modulo))
            more = scan.take(_COMMA) is not None
            pairs += 1
            if pairs > _MOST_PAIRS:
                raise ModelFileError(f"{path} has more than {_MOST_PAIRS} program steps")
        if more and (found := scan.take(_FILTER)):
            cells = found[1]
        elif more and program:
            scan.need(_PAIR)
        scan.need(_CLOSE)
        try:
            neurons.append(Hashtron(tuple(program), Filter.from_hex(cells)) if cells or program else _PARITY)
        except InvalidValueError as error:
            raise ModelFileError(f"{path}, neuron {len(neurons)}: {error}") from error
        if len(neurons) > _MOST_NEURONS:
            raise ModelFileError(f"{path} has more than {_MOST_NEURONS} neurons")
        if not scan.take(_COMMA):
            break
    scan.need(_CLOSE)
    scan.need(_END)
    return neurons


_PARITY = Hashtron()


class _Scanner:
    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.at = path, text, 0

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def need(self, pattern: re.Pattern[str]) -> None:
        if not self.take(pattern):
            line = self.text.count("\n", 0, self.at) + 1
            raise ModelFileError(
                f"{self.path}, line {line}: {self.text[self.at : self.at + 40]!r} stands where "
                f'a neuron goes on, [[salt, modulo], ..., "filter"]; this is no model file, or a damaged one'
            )
