"""From encoded samples to tables: draw tuples, choose a temperature, learn, vote."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.designs import Design
from tithe.hashtron.encoders import Encoder
from tithe.hashtron.temperature import Loss, best_temperature
from tithe.hashtron.tuples.selection import purest
from tithe.hashtron.tuples.tables import Tables
from tithe.hashtron.tuples.training import Schedule, blank, fit

__all__ = ["Samples", "draw", "fitting_temperature", "learn", "scale", "votes"]

_CHUNK = 1024  # samples that are encoded at once to vote
_JUDGED = 3000  # samples by which tuples are selected
_PART, _LEAST, _EPOCHS = 5, 128, 6  # small models: a fifth of the tuples, but not fewer, and so many epochs


class Samples(NamedTuple):
    """Encoded samples (n, …), their targets int64 (n,) and weights float32 (n,)."""

    packed: NDArray[np.uint8]
    y: NDArray[np.int64]
    weight: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Samples:
        """Some of them."""
        return Samples(self.packed[rows], self.y[rows], self.weight[rows])


def draw(encoder: Encoder, design: Design, samples: Samples, classes: int, random: np.random.Generator) -> Tables:
    """Tables that have learned nothing, for the purest of random tuples."""
    tuples = encoder.draw(design.tuples * design.candidates, design.width, random)
    salts = random.integers(2**32, size=len(tuples), dtype=np.uint32)
    log_size, sharing = min(design.log_size, tuples.shape[1]), encoder.sharing
    if design.candidates > 1:
        rows = random.permutation(len(samples.y))[:_JUDGED]
        middle = tuples + (sharing.down // 2 * sharing.stride + sharing.across // 2)
        blocks = encoder.blocks(samples.packed[rows])
        kept = purest(middle, salts, log_size, design.tuples, blocks, samples.y[rows], classes)
        tuples, salts = tuples[kept], salts[kept]
    return blank(tuples, salts, log_size, classes, sharing)


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
    """The temperature with which the loss is least, found with small models that learn by ``schedule`` but for it.

    With a share of the tuples, votes are that many fewer, so they learn at a temperature that is the lower by its root.
    """
    count = min(design.tuples, max(_LEAST, design.tuples // _PART))
    small = replace(design, tuples=count)
    part = math.sqrt(count / design.tuples)

    def voted(
        rows: NDArray[np.int64], left_out: NDArray[np.int64], temperature: float
    ) -> tuple[NDArray[np.int32], float]:
        seen = samples.take(rows)
        cooler = replace(schedule, epochs=min(schedule.epochs, _EPOCHS), temperature=temperature * part)
        tables = learn(encoder, seen, draw(encoder, small, seen, classes, random), cooler, random)
        return votes(encoder, tables, samples.packed[left_out]), scale(cooler, tables)

    return best_temperature(samples.y, voted, loss, random)


def votes(encoder: Encoder, tables: Tables, packed: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Votes (n, classes) for encoded samples; O(n · tuples · windows)."""
    chunks = [packed[start : start + _CHUNK] for start in range(0, len(packed), _CHUNK)]
    return np.concatenate([tables.votes(encoder.blocks(chunk), len(chunk)) for chunk in chunks])


def scale(schedule: Schedule, tables: Tables) -> float:
    """By what votes are divided before the softmax."""
    return schedule.temperature * math.sqrt(len(tables.tuples) * tables.sharing.places)
