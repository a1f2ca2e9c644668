"""What ``tithe hashtron migrate`` and ``tithe hashtron ab`` read, and the tables that they print."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError, TitheError
from tithe.hashtron.pipeline.migration import Migration
from tithe.hashtron.pipeline.rollout import Pair, Rollout
from tithe.hashtron.pipeline.templates import template
from tithe.hashtron.pipeline.trial_sets import TrialSet, as_sets, from_lexicon
from tithe.hashtron.topology import TOPOLOGIES, Topology
from tithe.lattice.commands import function
from tithe.meter.intervals import Interval

__all__ = ["ab_rows", "ab_totals", "arms", "migration_rows", "read_samples", "read_sets", "read_topology"]


def read_topology(name: str | None) -> str | Topology | None:
    """A topology for ``load``: a known name, or the path of a ``.json`` file. Raises as ``Topology.from_json`` does.

    >>> read_topology("squareroot")
    'squareroot'
    """
    if name is None or name in TOPOLOGIES or not name.endswith(".json"):
        return name
    return Topology.from_json(Path(name).read_text(encoding="utf-8"))


def read_samples(target: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Samples and targets: an ``.npz`` file with X and y, or what ``module:function`` returns.

    Raises ``CorruptFileError`` for a file that is none, ``InvalidDTypeError`` for another value, ``OSError``. O(size).

    >>> import tempfile
    >>> np.savez(name := tempfile.mkdtemp() + "/samples.npz", X=[1, 2], y=[0, 1])
    >>> [each.tolist() for each in read_samples(name)]
    [[1, 2], [0, 1]]
    """
    if target.endswith(".npz"):
        try:
            with np.load(target, allow_pickle=False) as found:
                return found["X"], found["y"]
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise CorruptFileError(f"{target} has no arrays X and y ({error}); write it with numpy.savez") from error
    found = function(target)()
    if not isinstance(found, tuple) or len(found) != 2:
        raise InvalidDTypeError(f"{target} returned a {type(found).__name__}; let it return X and y")
    return np.asarray(found[0]), np.asarray(found[1])


def read_sets(target: str) -> tuple[list[TrialSet], list[str]]:
    """Data sets to compare on: a folder of lexica, or what ``module:function`` yields.

    Args:
        target: a folder of ``.tsv`` files, each a set; or a function without arguments that returns or yields
            ``TrialSet`` objects, or (name, X, y).

    Returns:
        The sets, and what is wrong with each lexicon that was left out. Raises ``InvalidValueError`` where none is
        left, ``InvalidDTypeError`` for other values. O(size).
    """
    if not Path(target).is_dir():
        if ":" not in target:
            raise InvalidValueError(f"{target} is no folder; give a folder of lexica (.tsv), or module:function")
        found = function(target)()
        if not isinstance(found, Iterable):
            raise InvalidDTypeError(f"{target} returned a {type(found).__name__}; let it return or yield data sets")
        return as_sets(found), []
    sets, wrong = [], []
    for path in sorted(Path(target).glob("*.tsv")):
        try:
            sets.append(from_lexicon(path))
        except TitheError as error:
            wrong.append(f"{path.name} is left out: {error}")
    if not sets:
        raise InvalidValueError(f"{target} has no lexicon that can be used (.tsv): {'; '.join(wrong) or 'it has none'}")
    return sets, wrong


def arms(a: str, b: str, target: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of both sides: templates or files. On lexica the final neurons are thresholds, unless they say.

    >>> arms("forward", "backward", ".")[1]
    {'final': 'majority', 'direction': 'backward'}
    """
    usual = {"final": "majority"} if Path(target).is_dir() else {}
    return {**usual, **template(a)}, {**usual, **template(b)}


def ab_rows(pairs: Iterable[Pair]) -> list[list[str]]:
    """A row for each pair: accuracies in per cent, gaps in points, seconds.

    >>> from tithe.hashtron.pipeline.rollout import Outcome
    >>> ab_rows([Pair("pol", 0, Outcome(0.9, 0.8, 1.0), Outcome(0.85, 0.82, 0.5))])
    [['pol', '0', '80.0', '82.0', '+2.0', '10.0', '3.0', '1.00', '0.50']]
    """
    return [
        [pair.name, str(pair.seed), f"{100 * pair.a.eval:.1f}", f"{100 * pair.b.eval:.1f}",
         f"{100 * (pair.b.eval - pair.a.eval):+.1f}", f"{100 * pair.a.gap:.1f}", f"{100 * pair.b.gap:.1f}",
         f"{pair.a.seconds:.2f}", f"{pair.b.seconds:.2f}"]
        for pair in pairs
    ]  # fmt: skip


def ab_totals(found: Rollout) -> list[list[str]]:
    """What all pairs come to, and what each look found."""
    rows = [
        ["held-out accuracy, points", _interval(found.interval("eval"), 100)],
        ["gap, points", _interval(found.interval("gap"), 100)],
        ["seconds", _interval(found.interval("seconds"), 1)],
    ]
    for look in found.looks:
        bound = "too few to tell" if look.upper is None else f"below {100 * look.upper:+.2f}"
        rows.append([f"after {look.sets} of {found.sets} data sets", f"{100 * look.mean:+.2f}, {bound}"])
    verdict = "worse: stopped" if found.stopped else "not shown to be worse"
    return [*rows, ["the second is", verdict]]


def migration_rows(done: Migration) -> list[list[str]]:
    """What was moved, layer by layer."""
    rows = [
        ["model", str(done.model)],
        ["neurons", str(done.network.topology.neurons)],
        ["same answers as before", f"on all of {done.compared} samples"],
        ["sum cache", f"{done.cache}: {done.records} neurons" if done.records else f"{done.cache}: empty, no samples"],
    ]
    if done.accuracy is not None:
        rows.append(["right on the samples", f"{100 * done.accuracy:.1f} %"])
    for layer in done.margins:
        rows.append([
            f"layer {layer.layer}", f"median margin {layer.quartiles[2]:.2f}, {layer.gold} of {layer.neurons} in the "
            "gold zone",
        ])  # fmt: skip
    return rows


def _interval(found: Interval, scale: float) -> str:
    if found.low is None or found.high is None:
        return f"{scale * found.mean:+.2f}"
    return f"{scale * found.mean:+.2f} [{scale * found.low:+.2f}, {scale * found.high:+.2f}]"
