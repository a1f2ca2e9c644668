"""Taking an existing model into the pipeline: the model, checked, and a sum cache that knows its neurons."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import CorruptFileError, InvalidStateError, InvalidValueError
from tithe.hashtron.backward.distribution import LayerMargins
from tithe.hashtron.backward.records import Record
from tithe.hashtron.backward.staleness import fingerprint
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.hashtron.model_files import load, save
from tithe.hashtron.network import Network
from tithe.hashtron.topology import Topology
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import Loss

__all__ = ["CACHE", "MODEL", "Migration", "migrate"]

MODEL, CACHE = "model.json.t.zlib", "cache"
"""What lies in the new folder."""

_ASKED = 4096  # random samples on which the models are compared where none are given


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done.

    Attributes:
        network: as it was read.
        model: path of the new model file.
        cache: path of the folder of the sum cache.
        records: how many neurons were tallied; 0 without samples.
        compared: on how many samples both models gave the same answers.
        accuracy: on the samples; ``None`` without.
        margins: of the layers; empty without samples.
    """

    network: Network
    model: Path
    cache: Path
    records: int
    compared: int
    accuracy: float | None
    margins: tuple[LayerMargins, ...]


def migrate(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    topology: str | Topology | None = None,
    samples: tuple[ArrayLike, ArrayLike] | None = None,
    loss: Loss | None = None,
) -> Migration:
    """Make a folder from which ``Pipeline`` can go on with an existing model; the old files are only read.

    The folder appears at once, when all is done and checked, or not at all.

    Args:
        old: a model file of the reference, or of ``save``.
        new: the folder to make; it must not be there, or be empty.
        topology: as for ``load``, where no file beside the model says it.
        samples: X and y to train on later: every neuron is tallied once with them, so that the capacity law and the
            choice of neurons have sums to begin with, as if there had been a run on the same data. Without, the cache
            is empty, and the first sweep of a pipeline asks some samples itself.
        loss: as for ``tally``, where the pipeline will be given one.

    Returns:
        What was done. Raises as ``load`` does; ``InvalidStateError`` where the folder is in use;
        ``InvalidValueError`` or ``InvalidDTypeError`` for samples that are none for this model; ``CorruptFileError``
        where old and new give different answers, which cannot be unless the disk fails; ``OSError``.
        O(neurons · N · what lies behind one).

    Source: MISSION H6.

    >>> from tithe.hashtron import Hashtron, Layer
    >>> folder = Path(tempfile.mkdtemp())
    >>> old = save(Network(Topology((Layer(2),)), [Hashtron(), Hashtron(((7, 2),))]), folder / "old.json.t.zlib")
    >>> done = migrate(old, folder / "new", samples=([1, 2, 3], [1, 0, 3]))
    >>> done.records, sorted(path.name for path in (folder / "new").iterdir())
    (2, ['cache', 'model.json.t.zlib', 'model.json.t.zlib.topology.json'])
    """
    old, new = Path(old), Path(new).absolute()
    _check_free(new)
    network = load(old, topology)
    new.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=new.parent, prefix=f".{new.name}.", suffix=".part"))
    try:
        records, accuracy, margins = _write(network, part, samples, loss)
        compared = _compare(network, part / MODEL, None if samples is None else np.asarray(samples[0]))
        part.chmod(0o755)
        if new.is_dir():
            new.rmdir()  # which fails if something has come into it
        part.rename(new)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Migration(network, new / MODEL, new / CACHE, records, compared, accuracy, margins)


def _check_free(new: Path) -> None:
    if new.is_dir() and any(new.iterdir()):
        raise InvalidStateError(f"{new} is not empty; give a folder that is not there yet")
    if new.exists() and not new.is_dir():
        raise InvalidValueError(f"{new} is a file; give a folder that is not there yet")


def _write(
    network: Network, folder: Path, samples: tuple[ArrayLike, ArrayLike] | None, loss: Loss | None
) -> tuple[int, float | None, tuple[LayerMargins, ...]]:
    save(network, folder / MODEL)
    with SumCache(folder / CACHE) as cache:
        if samples is None:
            cache.snapshot()
            return 0, None, ()
        X, y = map(np.asarray, samples)
        trainee = Trainee(network, X, y, loss=loss)
        cache.extend(list(_records(trainee, fingerprint(X, y))))
        cache.snapshot()
        return len(cache), trainee.accuracy, tuple(cache.margins())


def _records(trainee: Trainee, data: int) -> Iterator[Record]:
    """A record of each neuron, under run 0, before all that a pipeline makes."""
    topology, now = trainee.network.topology, time.time()
    for index, neuron in enumerate(trainee.network.neurons):
        layer, position = topology.place(index)
        start = time.perf_counter()
        final = topology.layers[layer].combiner is None
        votes = trainee.tally(index, balanced=True)  # as a pipeline does where nothing else is said
        yield Record(
            layer, position, 0, now, votes=votes.total if final else votes.weighed,
            outputs=2 * trainee.answered_true(index) - votes.samples, samples=votes.samples,
            pivotal=votes.pivotal, premodulo=_premodulo(neuron.program, neuron.filter.cells),
            seconds=time.perf_counter() - start, train=trainee.accuracy, prior=trainee.prior, data=data,
            final=final,
        )  # fmt: skip


def _premodulo(program: tuple[tuple[int, int], ...], cells: bytes) -> int:
    """With what a neuron seems to have been trained: of one step and a filter, its modulo; else 0, unknown."""
    return program[0][1] if len(program) == 1 and cells else 0


def _compare(network: Network, path: Path, X: NDArray[np.integer] | None) -> int:
    """On how many samples a model file answers as the network does."""
    again = load(path)
    if X is None:
        first = network.topology.layers[0]
        shape = (_ASKED, first.neurons) if first.combiner else (_ASKED,)
        X = np.random.default_rng(0).integers(0, 1 << 32, shape, dtype=np.uint32)
    wrong = int((network.predict(X) != again.predict(X)).sum())
    if wrong or again.neurons != network.neurons or again.topology != network.topology:
        raise CorruptFileError(f"{path} was not written right: {wrong} of {len(X)} answers differ; check the disk")
    return len(X)
