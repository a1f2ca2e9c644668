"""Data sets on which settings are compared: with each seed another split, and another network to start from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.staleness import fingerprint
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.network import Network
from tithe.hashtron.topology import Layer, Topology

__all__ = ["Trial", "TrialSet", "as_sets", "from_arrays", "from_lexicon", "keys", "topology"]

_BITS, _GROUP = 15, 3  # hidden hashtrons: so many bits for the last layer, each the majority of so many
_HELD_OUT = 0.2


@dataclass(frozen=True, eq=False)
class Trial:
    """What both settings get.

    Attributes:
        network: to start from.
        X: samples to train on, as for ``Network.predict``.
        y: their targets, int64 (n,).
        held: other samples.
        wanted: their targets.
        judge: what a trained network is worth on the former and on the latter, where that is not the share of right
            answers.
    """

    network: Network
    X: NDArray[Any]
    y: NDArray[np.int64]
    held: NDArray[Any]
    wanted: NDArray[np.int64]
    judge: Callable[[Network], tuple[float, float]] | None = None

    def accuracies(self, network: Network) -> tuple[float, float]:
        """On the samples to train on, and on the others. O(samples · neurons)."""
        if self.judge is not None:
            return self.judge(network)
        both = ((self.X, self.y), (self.held, self.wanted))
        train, held = (float((network.predict(X) == y).mean()) for X, y in both)
        return train, held


@dataclass(frozen=True, eq=False)
class TrialSet:
    """A data set.

    Attributes:
        name: of it.
        make: the trial of a seed, always the same.
        data: a fingerprint of what it is made from.
    """

    name: str
    make: Callable[[int], Trial]
    data: int


def topology(answers: int) -> Topology:
    """45 hidden hashtrons, the majorities of three each read as 15 bits by as many final ones as the answers need.

    >>> topology(5).layers[-1].neurons
    3
    """
    pool = MajorityPool(_BITS, 1, _GROUP, capwidth=_BITS)
    return Topology((Layer(_BITS * _GROUP, combiner=pool), Layer(max(1, (answers - 1).bit_length()))))


def keys(X: ArrayLike, count: int, together: int, random: np.random.Generator) -> Callable[[ArrayLike], NDArray[Any]]:
    """Numbers that stand for a few random columns each: what the hidden hashtrons of a table see.

    Args:
        X: integers (n, columns), of which those columns count that are not the same everywhere.
        count: how many numbers, one for each hashtron.
        together: columns that one of them stands for, at most.
        random: draws the columns and the hashes.

    Returns:
        A function from (n, columns) to uint32 (n, ``count``). O(n · ``count`` · ``together``).

    >>> keys([[1, 2], [1, 3]], 4, 2, np.random.default_rng(0))([[1, 2], [1, 2]]).shape
    (2, 4)
    """
    table = np.asarray(X)
    useful = np.flatnonzero((table != table[0]).any(0)) if len(table) else np.arange(table.shape[1])
    useful = useful if len(useful) else np.arange(table.shape[1])
    places = np.stack([random.permutation(useful)[:together] for _ in range(count)])
    odd = random.integers(0, 1 << 31, places.shape, dtype=np.uint32) * 2 + 1
    return lambda values: (np.asarray(values).astype(np.uint32)[:, places] * odd).sum(2, dtype=np.uint32)


def from_arrays(
    name: str, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None, together: int = 4
) -> TrialSet:
    """A data set of samples and targets, of which a fifth is held out.

    Args:
        name: of it.
        X: integers (n,), which all hashtrons see, or (n, columns), of which each sees some.
        y: targets, integers (n,) from 0 on.
        groups: integers (n,): samples of the same number are held out together; each on its own by default.
        together: columns that a hashtron sees, at most.

    Returns:
        The set. Raises ``InvalidValueError`` or ``InvalidDTypeError`` for other arrays. O(size).

    >>> trial = from_arrays("parity", np.arange(50), np.arange(50) % 2).make(0)
    >>> len(trial.y), len(trial.wanted)
    (40, 10)
    """
    table, targets = np.asarray(X), np.asarray(y)
    which = np.arange(len(targets)) if groups is None else np.asarray(groups)
    if any(array.dtype.kind not in "iub" for array in (table, targets, which)):
        raise InvalidDTypeError(f"{name}: X is {table.dtype}, y {targets.dtype}; integers are expected")
    if table.ndim not in (1, 2) or targets.ndim != 1 or not len(table) == len(targets) == len(which):
        raise InvalidValueError(
            f"{name}: X has shape {table.shape}, y {targets.shape}, groups {which.shape}; (n,) or (n, columns), and "
            "(n,) for the others, is expected"
        )
    parts = np.unique(which)
    if len(parts) < 2 or targets.min() < 0:
        raise InvalidValueError(f"{name}: at least two groups of samples are expected, and targets from 0 on")
    targets = targets.astype(np.int64)

    def make(seed: int) -> Trial:
        random = np.random.default_rng([seed, 0])
        held = np.isin(which, random.permutation(parts)[: max(1, round(_HELD_OUT * len(parts)))])
        return _trial(table[~held], targets[~held], table[held], targets[held], together, random)

    return TrialSet(name, make, fingerprint(table, targets, which))


def from_lexicon(path: str | os.PathLike[str]) -> TrialSet:
    """A lexicon, and how many letters a model of its language pronounces right; a fifth of the words is held out.

    The model is that of ``tithe hashtron languages``, but for the settings of the pipeline.

    Args:
        path: a file of words and phonemes, as ``languages.read`` reads it.

    Returns:
        The set, named as the file is. Raises as ``read`` does. O(size), and the alignment with each seed.

    Source: MISSION H8, H10.
    """
    from tithe.hashtron.languages import letter_accuracy, letter_samples, read
    from tithe.hashtron.languages.candidates import seen_candidates
    from tithe.hashtron.languages.contexts import REACH, seen_contexts
    from tithe.hashtron.languages.pronouncer import Pronouncer
    from tithe.hashtron.languages.ranking import TOPOLOGY, Settings, questions

    path, usual = Path(path), Settings()
    lexicon = read(path)

    def make(seed: int) -> Trial:
        samples = letter_samples(lexicon, seed=seed, width=2 * REACH + 1, held_out=_HELD_OUT)
        contexts = seen_contexts(samples.train.windows, usual.least)
        candidates = seen_candidates(samples.train, len(samples.alphabet.letters) + 2, usual.most)

        def judge(network: Network) -> tuple[float, float]:
            model = Pronouncer(samples.alphabet, samples.chunks, candidates, contexts, network)
            train, held = (letter_accuracy(part, model.labels(part.windows)) for part in parts)
            return train, held

        parts = samples.train, samples.held_out
        (X, y), (held, wanted) = (questions(contexts, candidates, part) for part in parts)
        if not len(y):
            raise InvalidValueError(f"{path} has no letter with a choice; there is nothing to train")
        return Trial(Network.random(TOPOLOGY, np.random.default_rng([seed, 0])), X, y, held, wanted, judge)

    return TrialSet(path.stem, make, fingerprint(np.frombuffer(path.read_bytes(), np.uint8)))


def _trial(
    X: NDArray[Any], y: NDArray[np.int64], held: NDArray[Any], wanted: NDArray[np.int64], together: int,
    random: np.random.Generator,
) -> Trial:  # fmt: skip
    layers = topology(int(max(y.max(initial=0), wanted.max(initial=0))) + 1)
    network = Network.random(layers, random)
    if X.ndim == 1:
        return Trial(network, X, y, held, wanted)
    seen = keys(X, layers.layers[0].neurons, together, random)
    return Trial(network, seen(X), y, seen(held), wanted)


def as_sets(found: Iterable[Any]) -> list[TrialSet]:
    """What a user's function yields: trial sets, or (name, X, y). Raises ``InvalidDTypeError`` for anything else.

    >>> [each.name for each in as_sets([("parity", np.arange(9), np.arange(9) % 2)])]
    ['parity']
    """
    sets = []
    for each in found:
        if isinstance(each, tuple) and len(each) == 3 and isinstance(each[0], str):
            each = from_arrays(*each)
        if not isinstance(each, TrialSet):
            raise InvalidDTypeError(f"a {type(each).__name__} is no data set; yield TrialSet, or (name, X, y)")
        sets.append(each)
    return sets
