"""From encoded samples to tables: draw tuples, choose a temperature, learn, vote."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.designs import Design
from tithe.hashtron.encoders import ColumnBits, Encoder
from tithe.hashtron.encoders.relevance import chances, relevance
from tithe.hashtron.samples import Samples, folds, some
from tithe.hashtron.temperature import Loss, lowest
from tithe.hashtron.tuples.selection import purest
from tithe.hashtron.tuples.tables import Tables
from tithe.hashtron.tuples.training import Schedule, blank, fit

__all__ = ["Start", "draw", "fitting_temperature", "learn", "scale", "votes"]

_CHUNK = 1024  # samples that are encoded at once to vote
_JUDGED = 3000  # samples by which tuples are selected
_PART, _LEAST, _EPOCHS = 5, 128, 6  # small models: a fifth of the tuples, but not fewer, and so many epochs
_FOLDS, _MOST = 3, 4000  # parts, and samples, by which a temperature is chosen
_TEMPERATURES = tuple(1.5 * 2**k for k in range(6))
_FEW, _USUAL = 12, 6.0  # samples too few to choose by, and what is taken then


class Start(NamedTuple):
    """Tables that have learned nothing, for an encoder that makes no bit that they do not read.

    Attributes:
        encoder: of the bits that are read.
        tables: whose tuples are places among them.
        packed: turns samples of the encoder before into samples of this one.
    """

    encoder: Encoder
    tables: Tables
    packed: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

    def samples(self, samples: Samples) -> Samples:
        """Samples of the encoder before, for this one."""
        return samples._replace(packed=self.packed(samples.packed))


def draw(encoder: Encoder, design: Design, samples: Samples, classes: int, random: np.random.Generator) -> Start:
    """Tables for the purest of random tuples, of columns likelier the more they say about the target."""
    likely = None
    if isinstance(encoder, ColumnBits):
        found = relevance(encoder, samples.packed, samples.y, samples.weight)
        likely = chances(encoder, found, design.bits_bytes)
    tuples = encoder.draw(design.tuples * design.candidates, design.width, random, likely)
    salts = random.integers(2**32, size=len(tuples), dtype=np.uint32)
    log_size, sharing = min(design.log_size, tuples.shape[1]), encoder.sharing
    if design.candidates > 1:
        rows, weight = some(samples.weight, _JUDGED, random)
        judge, places, packed = _narrowed(encoder, tuples)
        middle = places + (sharing.down // 2 * sharing.stride + sharing.across // 2)
        blocks = judge.blocks(packed(samples.packed[rows]))
        kept = purest(
            middle, salts, log_size, design.tuples, blocks, samples.y[rows], weight, classes, in_turn=likely is not None
        )
        tuples, salts = tuples[kept], salts[kept]
    narrow, tuples, packed = _narrowed(encoder, tuples)
    return Start(narrow, blank(tuples, salts, log_size, classes, sharing), packed)


def learn(
    encoder: Encoder,
    samples: Samples,
    tables: Tables,
    schedule: Schedule,
    random: np.random.Generator,
    *,
    report: Callable[[int, Tables], bool] | None = None,
    latent: NDArray[np.float32] | None = None,
) -> Tables:
    """Tables that have learned from samples; ``report`` and ``latent`` as in ``training.fit``."""

    def blocks(rows: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
        return encoder.blocks(samples.packed[rows], seed=seed)

    seed = int(random.integers(2**62))
    return fit(blocks, samples.y, samples.weight, tables, schedule, seed, report, latent)


def fitting_temperature(
    encoder: Encoder,
    design: Design,
    samples: Samples,
    classes: int,
    schedule: Schedule,
    loss: Loss,
    random: np.random.Generator,
) -> float:
    """The temperature that suits samples, higher for noise and few samples, lower for clear classes.

    From 1.5 on it is doubled as long as the loss on left-out thirds of about 4000 samples falls, for small models that
    learn by ``schedule`` but for it. With a share of the tuples, votes are that many fewer, so they learn at a
    temperature that is the lower by its root. At most 18 small fits.
    """
    if len(samples.y) < _FEW or samples.y.min() == samples.y.max():
        return _USUAL
    count = min(design.tuples, max(_LEAST, design.tuples // _PART))
    small, part = replace(design, tuples=count), math.sqrt(count / design.tuples)
    trials = []
    for rows, left_out in folds(samples, _FOLDS, _MOST, random):
        if not len(rows) or not len(left_out):
            return _USUAL
        seen, held = samples.take(rows), samples.take(left_out)
        start = draw(encoder, small, seen, classes, random)
        trials.append((start, start.samples(seen), start.samples(held)))

    def total(temperature: float) -> float:
        cooler = replace(schedule, epochs=min(schedule.epochs, _EPOCHS), temperature=temperature * part)
        lost = 0.0
        for start, seen, held in trials:
            tables = learn(start.encoder, seen, start.tables, cooler, random)
            found = votes(start.encoder, tables, held.packed)
            lost += loss(found, held.y, held.weight, scale(cooler, tables)) * float(held.weight.sum())
        return lost

    return lowest(total, _TEMPERATURES)


def votes(encoder: Encoder, tables: Tables, packed: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Votes (n, classes) for encoded samples; O(n · tuples · windows)."""
    chunks = [packed[start : start + _CHUNK] for start in range(0, len(packed), _CHUNK)]
    return np.concatenate([tables.votes(encoder.blocks(chunk), len(chunk)) for chunk in chunks])


def scale(schedule: Schedule, tables: Tables) -> float:
    """By what votes are divided before the softmax."""
    return schedule.temperature * math.sqrt(len(tables.tuples) * tables.sharing.places)


def _narrowed(
    encoder: Encoder, tuples: NDArray[np.int32]
) -> tuple[Encoder, NDArray[np.int32], Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]:
    """An encoder of those bits of columns that tuples read, the tuples among these, and samples turned into its."""
    if not isinstance(encoder, ColumnBits):
        return encoder, tuples, lambda packed: packed
    read = np.unique(tuples).astype(np.int64)
    if len(read) == encoder.length:
        return encoder, tuples, lambda packed: packed
    places = np.searchsorted(read, tuples).astype(np.int32)
    return encoder.only(read), places, lambda packed: encoder.repacked(packed, read)
