"""Yes-or-no questions on real data for networks of hashtrons, named before anything was measured on them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from tithe import data
from tithe.audit.hashtron_samples import Examples, Maker, Split, images, last_spoken, letters, pair, pronounced, table
from tithe.errors import InvalidValueError
from tithe.hashtron import Layer, Network, Topology
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.threshold import bits_counted, threshold

__all__ = [
    "BALANCED",
    "CLOTHES",
    "COLUMNS",
    "DIGITS",
    "NOISY",
    "TASKS",
    "TOPOLOGY",
    "WIDE",
    "Examples",
    "Split",
    "all_images",
    "majority_network",
    "present",
    "split",
    "topology",
]

BALANCED = False  # votes count alike, as in the reference; so more unseen answers are right where nothing caps the keys

COLUMNS, WIDE = 45, 150
"""Keys of a sample, and hashtrons of the first layer; and how many there are where a network is to be wide."""

_BITS = 15  # that the last hashtron reads, each the majority of as many hashtrons
_IMAGES, _CLOTHES = 2000, 4000
_DIGITS, _FRAME = ("mnist", 4, 9), 4  # four or nine; the frame is always empty


def topology(columns: int) -> Topology:
    """A first layer of so many hashtrons, a multiple of 15, and a last one that hears the majorities of 15 parts.

    >>> topology(45).neurons
    46
    """
    pool = MajorityPool(width=_BITS, height=1, subwidth=columns // _BITS, capwidth=_BITS)
    return Topology((Layer(columns, combiner=pool), Layer(1)))


TOPOLOGY = topology(COLUMNS)


@functools.lru_cache(maxsize=64)
def split(task: str, seed: int, columns: int = COLUMNS) -> Split:
    """The samples of a task, seen through other tuples with every seed; those of the test are always the same.

    Args:
        task: a key of ``TASKS``, ``NOISY``, ``CLOTHES`` or ``DIGITS``.
        seed: not negative.
        columns: keys of a sample.

    Returns:
        The samples. Raises ``InvalidValueError`` for another task, ``DataUnavailableError`` where its data are not
        there. O(samples · ``columns``).

    >>> x, y = split("breast cancer", 0).known
    >>> x.shape, sorted(set(y.tolist()))
    ((398, 45), [0, 1])
    """
    if task not in _NEEDED:
        raise InvalidValueError(f"there is no task {task!r}; use one of {', '.join(_NEEDED)}")
    return (TASKS | NOISY | CLOTHES | DIGITS)[task](np.random.default_rng([seed, *task.encode()]), columns)


def all_images(seed: int) -> Split:
    """Four or nine, with all 11,791 training images of them in MNIST: for what depends on the size of data."""
    return images(*_DIGITS, len(pair(*_DIGITS)[0]), _FRAME)(np.random.default_rng(seed), COLUMNS)


def present(group: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """The tasks of a group, by default ``TASKS``, whose data are on this machine; those of tables always are. O(tasks).

    >>> "breast cancer" in present(), "diabetes" in present(NOISY)
    (True, True)
    """
    return tuple(task for task in (TASKS if group is None else group) if data.available(_NEEDED[task]))


def majority_network(seed: int) -> Network:
    """Random hashtrons, and a last one that says what most of the bits it reads say. O(2^bits it reads).

    >>> majority_network(0).neurons[-1].forward(np.array([0b111111110000000, 0b111111100000000])).tolist()
    [True, False]
    """
    network = Network.random(TOPOLOGY, np.random.default_rng(seed))
    bits = bits_counted(TOPOLOGY)
    return network.replace(COLUMNS, threshold(bits, bits // 2 + 1))


TASKS: dict[str, Maker] = {
    "Italian s": letters("ita", 9, pronounced("s", ("z",), ("s",))),
    "French last letter": letters("fra", 13, last_spoken),
    "English e": letters("eng", 9, pronounced("e", ())),
    "MNIST 4 or 9": images(*_DIGITS, _IMAGES, _FRAME),
    "breast cancer": table("breast_cancer"),
}
"""Is an s voiced? Is the last letter of a word spoken? Is an e silent? Four or nine? Benign or not?"""

NOISY: dict[str, Maker] = {
    "English a": letters("eng", 9, pronounced("a", ("ə",))),
    "Portuguese e": letters("por", 9, pronounced("e", ("ɨ",))),
    "Slovene e": letters("slv", 9, pronounced("e", ("ɛ",))),
    "diabetes": table("diabetes"),
}
"""Questions that the samples answer only in part, such as those on vowels whose stress is not written. They were named
when the others had been measured, and before they were themselves."""

CLOTHES: dict[str, Maker] = {
    "T-shirt or shirt": images("fashion-mnist", 0, 6, _CLOTHES),
    "pullover or coat": images("fashion-mnist", 2, 4, _CLOTHES),
    "pullover or shirt": images("fashion-mnist", 2, 6, _CLOTHES),
    "coat or shirt": images("fashion-mnist", 4, 6, _CLOTHES),
    "T-shirt or dress": images("fashion-mnist", 0, 3, _CLOTHES),
    "dress or shirt": images("fashion-mnist", 3, 6, _CLOTHES),
    "sandal or sneaker": images("fashion-mnist", 5, 7, _CLOTHES),
    "sneaker or boot": images("fashion-mnist", 7, 9, _CLOTHES),
}
"""Clothes that people confuse, too. They were named when the test samples of the other groups had been measured, the
last four when those of the first four had been; before that, validation was looked at, their own test samples never."""

DIGITS: dict[str, Maker] = {
    f"MNIST {no} or {yes}": images("mnist", no, yes, _CLOTHES, _FRAME) for no, yes in ((3, 5), (3, 8), (5, 8), (7, 9))
}
"""Digits that look alike, named when all others had been measured, and before they were, validation included."""

_NEEDED = {
    **dict(zip(TASKS, ("lexicon:ita", "lexicon:fra", "lexicon:eng", "mnist", "breast_cancer"), strict=True)),
    **dict(zip(NOISY, ("lexicon:eng", "lexicon:por", "lexicon:slv", "diabetes"), strict=True)),
    **dict.fromkeys(CLOTHES, "fashion-mnist"),
    **dict.fromkeys(DIGITS, "mnist"),
}
