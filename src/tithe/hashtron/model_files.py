"""Model files of the reference and back: compressed text, one neuron a line; the topology lies in a file beside.

A file is data, whoever wrote it: it is scanned, never evaluated, and neither its size nor its content can make
loading take more memory than the limits below allow.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

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
        number of neurons than the topology; ``InvalidValueError`` for an unknown name; ``OSError`` as the file system
        does. O(size); at most 400 MB of memory for any file; nothing in it is executed.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/one.json.t.zlib"
    >>> _ = save(Network(Topology((Layer(1),)), [Hashtron(((7, 2),))]), path)
    >>> load(path).neurons
    (Hashtron(program=((7, 2),), filter=Filter(cells=b'')),)
    """
    path = Path(path)
    known = _topology(path, topology)
    neurons = _parse(path, _text(path))
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
    """Write a network so that :func:`load` and the reference read it, and its topology beside; whole files or none.

    Args:
        network: what to write.
        path: the model file; ``<path>.topology.json`` is written too.

    Returns:
        The path of the model file. Raises ``OSError`` as the file system does. O(size).

    The same network gives the same bytes; a file of the reference that was loaded gives its own text again.
    """
    path = Path(path)
    text = "[\n" + ",\n".join(neuron.to_json() for neuron in network.neurons) + "]\n"
    write_atomically(_beside(path), network.topology.to_json())
    return write_atomically(path, zlib.compress(text.encode()))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".topology.json")


def _topology(path: Path, given: str | Topology | None) -> Topology | None:
    if isinstance(given, Topology):
        return given
    if given is not None:
        if given not in TOPOLOGIES:
            raise InvalidValueError(f"no topology {given!r}: pass one of {', '.join(TOPOLOGIES)}, or a Topology")
        return TOPOLOGIES[given]
    beside = _beside(path)
    if not beside.is_file():
        return None
    try:
        return Topology.from_json(_read(beside, _MOST_TOPOLOGY).decode())
    except (InvalidValueError, InvalidDTypeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{beside}: {error}; pass topology= instead, or save the network again") from error


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ModelFileError(f"{path} has more than {most} bytes; a model file has at most that")
    return data


def _text(path: Path) -> str:
    data = _read(path, _MOST_BYTES)
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
