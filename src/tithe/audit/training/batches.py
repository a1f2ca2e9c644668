"""Which samples the networks of a race see next: all in random order, or as one of the samplers says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.resolvent import CoherenceBatchSampler, SelectiveSampler

__all__ = ["BATCH", "Batches", "Choice", "batches"]

BATCH = 64
Choice = Literal["shuffled", "skipping", "selective", "alike", "mixed"]
Batches = Callable[[Tensor | None], tuple[Tensor, Tensor | None]]

_SKIPPED = 0.3  # of the samples, about as many as selection leaves out
_DROP = 0.5  # the default of SelectiveSampler


def batches(choice: Choice, seeds: Sequence[int], coherences: Tensor, steps: int) -> Batches:
    """The batches of each network, epoch after epoch; short ones are left out.

    Args:
        choice: ``"shuffled"``; ``"skipping"``: of every epoch a random share is left out; ``"selective"``: a
            ``SelectiveSampler`` for each network; ``"alike"`` or ``"mixed"``: a ``CoherenceBatchSampler``.
        seeds: of the networks; without feedback, the same seed has the same batches.
        coherences: of the samples, (n,).
        steps: how long the training lasts, to know the last epochs.

    Returns:
        A function that is given the losses of the batch before, (networks, 64) or None at first, and returns the next
        rows, (networks, 64) int64 on the CPU, with the weights of their losses, if they have any.

    >>> following = batches("shuffled", [0, 1, 0], torch.zeros(100), steps=10)
    >>> rows, weights = following(None)
    >>> rows.shape, torch.equal(rows[0], rows[2]), weights
    (torch.Size([3, 64]), True, None)
    """
    if choice not in get_args(Choice):
        raise InvalidValueError(f"choice is {choice!r}; use one of {', '.join(map(repr, get_args(Choice)))}")
    samples = len(coherences)
    if choice == "selective":
        return _selective(seeds, samples, math.ceil(steps * BATCH / samples))
    streams = {seed: _stream(choice, seed, coherences) for seed in set(seeds)}

    def following(losses: Tensor | None) -> tuple[Tensor, Tensor | None]:
        rows = {seed: next(stream) for seed, stream in streams.items()}
        return torch.stack([rows[seed] for seed in seeds]), None

    return following


def _stream(choice: Choice, seed: int, coherences: Tensor) -> Iterator[Tensor]:
    """Batches without end of one seed."""
    samples = len(coherences)
    if choice in ("alike", "mixed"):
        sampler = CoherenceBatchSampler(coherences, BATCH, order=choice, seed=seed, drop_last=True)
        while True:
            yield from map(torch.tensor, sampler)
    generator = torch.Generator().manual_seed(seed)
    taken = samples if choice == "shuffled" else round(samples * (1 - _SKIPPED))
    while True:
        yield from torch.randperm(samples, generator=generator)[: taken // BATCH * BATCH].reshape(-1, BATCH)


def _selective(seeds: Sequence[int], samples: int, epochs: int) -> Batches:
    samplers = [SelectiveSampler(samples, epochs, drop=_DROP, seed=seed) for seed in seeds]
    streams = [_whole(sampler) for sampler in samplers]
    before: list[Tensor] = []

    def following(losses: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if losses is not None:
            for sampler, rows, found in zip(samplers, before, losses.cpu(), strict=True):
                sampler.update(rows, found)
        before[:] = [next(stream) for stream in streams]
        weights = [sampler.weights(rows) for sampler, rows in zip(samplers, before, strict=True)]
        return torch.stack(before), torch.stack(weights)

    return following


def _whole(sampler: SelectiveSampler) -> Iterator[Tensor]:
    while True:
        indices = iter(sampler)
        while len(batch := list(itertools.islice(indices, BATCH))) == BATCH:
            yield torch.tensor(batch)
