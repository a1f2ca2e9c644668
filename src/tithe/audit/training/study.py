"""Rates and horizons chosen on held-out training images, alike for every recipe; then other seeds, on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tithe.audit.training.race import Curve, Entry, run
from tithe.audit.training.recipes import Field, Net, Recipe, field, gradient_change, penalty
from tithe.data.records import Labelled

__all__ = ["Plan", "Result", "Tuned", "compete", "tune"]

_HELD_OUT, _SPLIT_SEED = 5_000, 5


@dataclass(frozen=True)
class Plan:
    """What is asked of all recipes.

    Attributes:
        net: which network.
        target: accuracy to reach, fixed beforehand.
        steps: at most.
        rates: to choose from.
        horizons: of a cosine, to choose from, ascending.
        every: steps between readings.
        samples: training images at most; with few, one sees them many times, and can leave some out.
    """

    net: Net
    target: float
    steps: int
    rates: tuple[float, ...]
    horizons: tuple[int, ...]
    every: int = 10
    samples: int | None = None


@dataclass(frozen=True)
class Tuned:
    """What a recipe was given: the choice with the fewest steps to the target, and how many those were."""

    rate: float
    horizon: int = 0
    decay: float = 0.0
    steps: float = float("inf")


@dataclass(frozen=True)
class Result:
    """What a recipe needed, one number for each seed.

    Attributes:
        recipe: its name.
        tuned: what it was given.
        steps: to the target.
        multiply_adds: to the target.
        accuracy: after as many steps as the longest horizon.
        inference: multiply–adds for one sample, the front end's included.
    """

    recipe: str
    tuned: Tuned
    steps: NDArray[np.float64]
    multiply_adds: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    inference: int


def tune(one: Recipe, plan: Plan, data: Labelled, seeds: Sequence[int], device: str) -> Tuned:
    """The rate (and horizon, and weight decay) with the fewest mean steps to the target on held-out training images.

    Where no choice takes all seeds there, the one that comes nearest to it in accuracy.

    Args:
        one: the recipe.
        plan: target and choices.
        data: images; the test part is not looked at.
        seeds: of the networks.
        device: of torch.
    """
    train, held_out = split(data, plan.samples)
    place = field(one, plan.net, train, held_out, device)
    horizons = plan.horizons if one.cosine else (0,)
    choices = [Tuned(rate, h, decay) for rate in plan.rates for h in horizons for decay in one.decays]
    entries = [Entry(seed, c.rate, c.horizon, c.decay) for c in choices for seed in seeds]
    curve = _run(one, plan, place, entries, plan.steps)
    steps = curve.steps_to(plan.target).reshape(len(choices), len(seeds)).mean(1)
    best = int(steps.argmin()) if np.isfinite(steps).any() else int(
        curve.accuracy.max(0).reshape(len(choices), len(seeds)).mean(1).argmax()
    )  # fmt: skip
    return replace(choices[best], steps=float(steps[best]))


def compete(one: Recipe, plan: Plan, tuned: Tuned, data: Labelled, seeds: Sequence[int], device: str) -> Result:
    """Train with what was chosen, on the same images, and read the test set.

    A cosine that ends before the target was reached is run again with the next longer horizon, and only that run is
    counted: more than a user gets, who cannot know the horizon beforehand.

    Args:
        one: the recipe.
        plan: target and choices.
        tuned: from ``tune``.
        data: images.
        seeds: other ones than those of ``tune``.
        device: of torch.
    """
    train, _ = split(data, plan.samples)
    place = field(one, plan.net, train, (data.test_x, data.test_y), device)
    horizons = [h for h in plan.horizons if h >= tuned.horizon] if one.cosine else [0]
    entries = [Entry(seed, tuned.rate, h, tuned.decay) for h in horizons for seed in seeds]
    curve = _run(one, plan, place, entries, plan.steps)
    steps = curve.steps_to(plan.target).reshape(len(horizons), len(seeds))
    first = np.isfinite(steps).argmax(0)
    taken = steps[first, np.arange(len(seeds))]
    last = curve.accuracy[-1].reshape(len(horizons), len(seeds))[-1]
    return Result(one.name, tuned, taken, taken * 64 * place.training_multiply_adds, last, place.multiply_adds)


def split(
    data: Labelled, samples: int | None = None
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """The training images without 5,000 (or a fifth, if that is less), at most so many, and those left out."""
    order = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(_SPLIT_SEED)).numpy()
    count = min(_HELD_OUT, len(order) // 5)
    held_out, kept = order[:count], order[count:][:samples]
    return (data.train_x[kept], data.train_y[kept]), (data.train_x[held_out], data.train_y[held_out])


def _run(one: Recipe, plan: Plan, place: Field, entries: Sequence[Entry], steps: int) -> Curve:
    return run(
        place.inputs, place.make, entries, steps, every=plan.every, tau=one.tau, choice=one.choice,
        on_gradients=gradient_change(one, plan.net, place.grid), penalty=penalty(one),
    )  # fmt: skip
