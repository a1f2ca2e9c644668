"""A network that says of a letter and a candidate whether this is right: the more of its neurons say yes, the better.

A hidden neuron reads one key: the letters around, in one of eight orders, and the candidate. The last neurons are
thresholds on how many hidden ones say yes, one apart, so that a sample votes as long as it is not right by a margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.hashing import hash32
from tithe.hashtron.languages.candidates import Candidates, Pairs
from tithe.hashtron.languages.contexts import ORDERS, Contexts
from tithe.hashtron.languages.samples import UNALIGNED, Part
from tithe.hashtron.network import Network
from tithe.hashtron.topology import Layer, Topology

__all__ = ["NEURONS", "TOPOLOGY", "Settings", "features", "questions", "scores"]

NEURONS, _THRESHOLDS = 15, 8

TOPOLOGY = Topology((Layer(NEURONS, combiner=MajorityPool(NEURONS, 1, 1, capwidth=NEURONS)), Layer(_THRESHOLDS)))
"""Of every language."""

_YES = (1 << _THRESHOLDS) - 1
_WHOLE = (1 << 32) - 1  # of a hash
_TOGETHER = 1 << 16  # pairs that are scored at once


@dataclass(frozen=True, slots=True)
class Settings:
    """How a language is trained. They were chosen on words split off from the training words of eight languages.

    Attributes:
        seed: of the split into words to train on and held-out ones, and of the salts.
        held_out: the share of words that is held out.
        sweeps: how often each neuron is trained.
        policy: of the pipeline. The capacity law gives a smaller gap and fewer right letters.
        least: how often letters must have been seen side by side to be a context.
        most: candidates of a letter.
    """

    seed: int = 0
    held_out: float = 0.2
    sweeps: int = 2
    policy: str | Mapping[str, Any] = field(default_factory=lambda: {"name": "constant", "premodulo": 1 << 14})
    least: int = 3
    most: int = 16


def questions(contexts: Contexts, candidates: Candidates, part: Part) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The samples of the network: the letters of aligned words, with each of their candidates where there are several.

    Returns:
        Features (n, ``NEURONS``), and targets int64 (n,): all bits 1 for the right candidate, 0 for a wrong one.
        O(n · ``NEURONS``).
    """
    pairs = candidates.of(part.windows[:, part.windows.shape[1] // 2])
    asked = ((pairs.choices > 1) & (part.labels != UNALIGNED))[pairs.rows]
    chosen = Pairs(pairs.rows[asked], pairs.labels[asked], pairs.ranks[asked], pairs.choices)
    right = part.labels[chosen.rows] == chosen.labels
    return features(contexts, chosen, part.windows), right * np.int64(_YES)


def features(contexts: Contexts, pairs: Pairs, windows: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What the network reads of letters with candidates, uint32 (pairs, ``NEURONS``). O(pairs · ``NEURONS``)."""
    keys = contexts.keys(windows)
    hashed = [hash32(column[pairs.rows], pairs.labels, _WHOLE) for column in keys.T]
    return np.column_stack([hashed[neuron % len(ORDERS)] for neuron in range(NEURONS)])


def scores(network: Network, contexts: Contexts, pairs: Pairs, windows: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many hidden neurons are for each candidate, int64 (pairs,). O(pairs · ``NEURONS``)."""
    read = features(contexts, pairs, windows)
    blocks = [read[start : start + _TOGETHER] for start in range(0, len(read), _TOGETHER)]
    found = [network.trace(block).bits[0].sum(0, dtype=np.int64) for block in blocks]
    return np.concatenate([np.empty(0, np.int64), *found])
