"""Tasks on real images for a scheduler, for claims L1 to L4 and for benchmarks/lattice.py.

``shared``: short statistics, many of which read the same block of images, as one writes them down: for each statistic,
all blocks. Each passes over its block once and does little else: what can be saved is the way from memory, so that work
which computes more for each byte saves less. ``training``: many small models, each of which learns from one of a few
blocks. ``independent``: spectra of images that no other task reads, the negative control.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.data import load
from tithe.errors import DataUnavailableError
from tithe.lattice import Task
from tithe.lattice.scores import sample

__all__ = [
    "INDEPENDENT",
    "SHARED",
    "TRAINING",
    "WORK",
    "Work",
    "coherence_of",
    "images",
    "independent",
    "shared",
    "training",
]

SHARED, TRAINING, INDEPENDENT = "shared blocks", "small models", "independent"
_SHARED = 2 << 20  # bytes of a shared block: together they are more than a cache holds, one is not
_BLOCK = 768 * 1024  # bytes that a small model learns from
_STEPS = 10  # of descent for a small model
_SPECTRUM = 3 << 20  # bytes of images of which an independent task takes the spectrum

Array = NDArray[Any]


@dataclass(frozen=True)
class Work:
    """Tasks in the order in which they are submitted, and the blocks of images that they read."""

    name: str
    tasks: list[Task]
    blocks: list[Array]

    @cached_property
    def coherences(self) -> dict[int, float]:
        """Of the sample of each block that a ``Lattice`` would look at, by the block's identity."""
        return {id(block): coherence_of(sample(block)) for block in self.blocks}

    def known(self, part: Array) -> float:
        """A score that costs nothing: that of the block, of which ``part`` is the sample."""
        return self.coherences[id(part if part.base is None else part.base)]


@cache
def images() -> tuple[str, Array, Array]:
    """The name of a set of images, the images as float32 in [0, 1], and labels; small digits if there is nothing else.

    >>> images()[1].dtype.name
    'float32'
    """
    for name in ("fashion-mnist", "mnist"):
        try:
            data = load(name)
        except DataUnavailableError:
            continue
        break
    else:
        name, data = "digits", load("digits")
    return name, data.train_x.astype(np.float32) / data.train_x.max(), data.train_y.astype(np.int64)


def coherence_of(block: Any) -> float:
    """The mean coherence of images, (…, height, width), along both axes: what the audit gives ``Lattice`` as a score.

    >>> coherence_of(np.ones((2, 8, 8), np.float32))
    1.0
    """
    import torch

    from tithe.resolvent import coherence

    return float(coherence(torch.as_tensor(block), (-2, -1)).mean())


def shared(count: int = 40, rounds: int = 2) -> Work:
    """Six statistics, ``rounds`` times each, of ``count`` blocks of 2 MiB that hold images of one class each."""
    _, x, y = images()
    held = _blocks(x, np.argsort(y, kind="stable"), count, _SHARED)
    statistics = (_spectrum_of_mean, _brightest, _darkest, _energy, _profile, _rhythm)
    tasks = [Task(fn, block, number, data=block) for number in range(rounds) for fn in statistics for block in held]
    return Work(SHARED, tasks, held)


def training(count: int = 6, settings: int = 8) -> Work:
    """Softmax regressions on ``count`` blocks of 768 KiB, for each block one at each of so many rates."""
    _, x, y = images()
    order = np.arange(len(x))
    held, labels = (_blocks(part, order, count, _BLOCK // x[0].nbytes * part[0].nbytes) for part in (x, y))
    pairs = list(zip(held, labels, strict=True))
    tasks = [Task(_train, block, y, 0.5 * 2.0**-number, data=block) for number in range(settings) for block, y in pairs]
    return Work(TRAINING, tasks, held)


def independent(count: int = 16) -> Work:
    """Power spectra of ``count`` blocks, 5 ms and more each, none of which another task reads."""
    x = images()[1]
    held = _blocks(x, np.arange(len(x)), count, _SPECTRUM)
    return Work(INDEPENDENT, [Task(_spectra, block, data=block) for block in held], held)


WORK = {SHARED: shared, TRAINING: training, INDEPENDENT: independent}


def _blocks(x: Array, order: Array, count: int, size: int) -> list[Array]:
    """So many blocks of about ``size`` bytes, spread over an order; one that is too short is gone through again."""
    each = max(1, size // x[0].nbytes)
    starts = np.arange(count) * len(x) // count
    return [x[np.take(order, range(start, start + each), mode="wrap")] for start in starts]


def _spectrum_of_mean(block: Array, number: int) -> Any:
    """The power at each wave of the mean image."""
    return np.abs(np.fft.rfft2(block[number:].mean(0))) ** 2


def _brightest(block: Array, number: int) -> Any:
    """The largest value at each pixel."""
    return block[number:].max(0)


def _darkest(block: Array, number: int) -> Any:
    """The smallest value at each pixel."""
    return block[number:].min(0)


def _energy(block: Array, number: int) -> Any:
    """The sum of the squares."""
    values = block[number:].ravel()
    return np.dot(values, values)


def _profile(block: Array, number: int) -> Any:
    """The mean brightness of each row of the images."""
    return block[number:].mean((0, 2))


def _rhythm(block: Array, number: int) -> Any:
    """The power spectrum of the images' brightness, in the order in which they come."""
    return np.abs(np.fft.rfft(block[number:].sum((1, 2)))) ** 2


def _train(block: Array, labels: Array, rate: float) -> float:
    """Fit a softmax regression by descent; the share of the block that it gets right."""
    x = block.reshape(len(block), -1)
    weights = np.zeros((x.shape[1], 10), np.float32)
    wanted = np.eye(10, dtype=np.float32)[labels]
    for _ in range(_STEPS):
        scores = x @ weights
        odds = np.exp(scores - scores.max(1, keepdims=True))
        weights -= rate * (x.T @ (odds / odds.sum(1, keepdims=True) - wanted)) / len(x)
    return float(((x @ weights).argmax(1) == labels).mean())


def _spectra(block: Array) -> Any:
    """The mean power spectrum of images."""
    return (np.abs(np.fft.rfft2(block)) ** 2).mean(0)
