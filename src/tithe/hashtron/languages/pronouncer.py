"""A model that pronounces the words of one language, and its file: data with a checksum, nothing that is executed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import ModelFileError
from tithe.files import write_atomically
from tithe.hashtron.filters import Filter
from tithe.hashtron.languages.alignment import Chunk
from tithe.hashtron.languages.candidates import Candidates, best
from tithe.hashtron.languages.contexts import REACH, Contexts
from tithe.hashtron.languages.ranking import TOPOLOGY, scores
from tithe.hashtron.languages.samples import Alphabet, spoken
from tithe.hashtron.network import Network
from tithe.hashtron.neuron import Hashtron

__all__ = ["Pronouncer", "load_pronouncer", "save_pronouncer"]

_FORMAT, _VERSION = "tithe.pronouncer", 1
_MOST_BYTES = 1 << 24  # of a file, and 16 times as many when it is expanded


@dataclass(frozen=True, eq=False)
class Pronouncer:
    """A trained model of one language.

    Attributes:
        alphabet: the letters that it knows.
        chunks: the phonemes that labels stand for.
        candidates: the labels of each letter.
        contexts: the letters around that it knows.
        network: chooses among the candidates.
    """

    alphabet: Alphabet
    chunks: tuple[Chunk, ...]
    candidates: Candidates
    contexts: Contexts
    network: Network

    def labels(self, windows: NDArray[np.uint32]) -> NDArray[np.int64]:
        """The label of each letter, int64 (rows,), for windows of ``alphabet``. O(rows · candidates · neurons)."""
        pairs = self.candidates.of(windows[:, windows.shape[1] // 2])
        return best(pairs, scores(self.network, self.contexts, pairs, windows))

    def pronounce(self, words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The phonemes of each word.

        Args:
            words: any. A letter that was not seen in training gets the most frequent phonemes of all.

        Returns:
            As many tuples of phonemes; empty for a word without letters. O(letters · candidates · neurons).
        """
        windows, edges = self.alphabet.windows(words)
        return spoken(self.chunks, self.labels(windows), edges)


def save_pronouncer(model: Pronouncer, path: str | os.PathLike[str], about: Mapping[str, Any]) -> int:
    """Write a model so that a reader sees the old file or the new one, never a part.

    Args:
        model: what to write.
        path: of the file.
        about: what else it should hold, as JSON can.

    Returns:
        Bytes of the file. Raises ``OSError`` as the file system does. O(size).
    """
    content = {
        "about": dict(about),
        "letters": model.alphabet.letters,
        "width": model.alphabet.width,
        "chunks": model.chunks,
        "candidates": [_packed(model.candidates.labels), _packed(model.candidates.edges)],
        "contexts": [_packed(known) for known in model.contexts.known],
        "neurons": [
            [neuron.program, base64.b85encode(neuron.filter.cells).decode()] for neuron in model.network.neurons
        ],
    }
    body = zlib.compress(json.dumps(content, ensure_ascii=False, sort_keys=True).encode(), 9)
    head = {"format": _FORMAT, "version": _VERSION, "sha256": hashlib.sha256(body).hexdigest()}
    data = json.dumps(head).encode() + b"\n" + body
    write_atomically(path, data)
    return len(data)


def load_pronouncer(path: str | os.PathLike[str]) -> tuple[Pronouncer, dict[str, Any]]:
    """Read what ``save_pronouncer`` wrote.

    Returns:
        The model, and what else the file holds. Raises ``ModelFileError`` where it is truncated, changed, too large, of
        another version or no such model; ``OSError`` as the file system does. O(size).
    """
    path = Path(path)
    content = _content(path)
    try:
        return _model(content), dict(content["about"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path} holds no model of a language ({type(error).__name__}: {str(error)[:200]}); train it again"
        ) from error


def _content(path: Path) -> dict[str, Any]:
    """The JSON of a file whose checksum is right."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    first, _, body = data.partition(b"\n")
    try:
        head = json.loads(first)
        kind, version, checksum = head["format"], head["version"], head["sha256"]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} begins with {data[:20]!r}; this is no model of a language") from error
    if (kind, version) != (_FORMAT, _VERSION):
        raise ModelFileError(
            f"{path} is of format {str(kind)[:40]!r}, version {str(version)[:9]!r}; this version of Tithe reads "
            f"{_FORMAT!r}, {_VERSION}"
        )
    if len(data) > _MOST_BYTES or hashlib.sha256(body).hexdigest() != checksum:
        raise ModelFileError(f"{path} was changed or damaged: its checksum differs; train the language again")
    try:
        inflater = zlib.decompressobj()
        content: dict[str, Any] = json.loads(inflater.decompress(body, 16 * _MOST_BYTES))
    except (zlib.error, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}; train the language again") from error
    return content


def _model(content: Mapping[str, Any]) -> Pronouncer:
    """A model from its JSON; any of the errors that ``load_pronouncer`` knows where it is none."""
    alphabet = Alphabet(tuple(map(str, content["letters"])), content["width"])
    chunks = tuple(tuple(map(str, chunk)) for chunk in content["chunks"])
    labels, edges = (_unpacked(text, np.int64) for text in content["candidates"])
    if (
        alphabet.width // 2 < REACH
        or len(edges) != len(alphabet.letters) + 3
        or (np.diff(edges) < 1).any()
        or (edges[0], edges[-1]) != (0, len(labels))
        or not 0 <= labels.min() <= labels.max() < len(chunks)
    ):
        raise ValueError("its parts do not fit each other")
    neurons = [
        Hashtron(tuple((salt, modulo) for salt, modulo in program), Filter(base64.b85decode(cells)))
        for program, cells in content["neurons"]
    ]
    contexts = Contexts(tuple(_unpacked(text, np.uint32) for text in content["contexts"]))
    return Pronouncer(alphabet, chunks, Candidates(labels, edges), contexts, Network(TOPOLOGY, neurons))


def _packed(array: NDArray[Any]) -> str:
    """An array of integers as text: their differences, which are small where they ascend."""
    steps = np.diff(array, prepend=array.dtype.type(0))
    return base64.b85encode(steps.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def _unpacked(text: str, dtype: type[Any]) -> NDArray[Any]:
    return np.cumsum(np.frombuffer(base64.b85decode(text), np.dtype(dtype).newbyteorder("<")), dtype=dtype)
