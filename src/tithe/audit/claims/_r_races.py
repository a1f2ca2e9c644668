"""The measurement of R10 and R11: small networks race to a target accuracy on images of clothes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tithe import data
from tithe.audit.claim import Mode, Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.audit.training.recipes import recipe
from tithe.audit.training.study import Plan, Result, Tuned, compete, tune
from tithe.data.records import Labelled
from tithe.errors import DataUnavailableError
from tithe.parallel import threads

__all__ = ["measure"]

_BASELINES = ("constant rate", "cosine")
_RATES, _HORIZONS = (0.001, 0.002, 0.004, 0.008), (400, 450, 500, 600, 700, 900, 1400)
_PLANS = {
    "full": Plan("mlp", 0.86, 1400, _RATES, _HORIZONS),
    "quick": Plan("mlp", 0.85, 600, _RATES, (300, 400, 600), every=20),
}
_TEST_IMAGES = 2_500
# The rates that ``python -m benchmarks.training`` chose on held-out training images: a quick audit takes them over.
_CHOSEN = {
    "constant rate": Tuned(0.002),
    "cosine": Tuned(0.004, 300),
    "penalty (R1)": Tuned(0.001),
    "damped gradients (R2)": Tuned(0.001),
    "whitened gradients": Tuned(0.002),
    "averaged": Tuned(0.002),
    "front end": Tuned(0.002),
    "PCA front end, averaged": Tuned(0.008),
    "full stack": Tuned(0.008),
}


def measure(run: Run, names: Sequence[str]) -> Evidence:
    """The baselines and the recipes named, on the same seeds; one row each."""
    run.need(_available(run.mode), "the Fashion-MNIST images, which are not on this machine and could not be fetched")
    plan, seeds = _PLANS[run.mode], tuple(10 + seed for seed in run.seeds(run.pick(quick=5, full=12)))
    found, notes = [], []
    names = [*_BASELINES, *names]
    for index, name in enumerate(names):
        if index > 3 and run.left() < 0:
            notes.append(f"{name} was left out, for want of time.")
            continue
        run.progress(index / len(names), f"trains {len(seeds)} networks: {name}")
        found.append(_raced(name, run.mode, seeds, run.device))
    constant, cosine = found[:2]
    rows = [_row(result, constant, cosine) for result in found]
    columns = (
        Column("recipe", "recipe"), Column("steps", "steps", ".0f"),
        Column("saved_constant", "fewer than constant", "+.0%", low="saved_constant_low", high="saved_constant_high"),
        Column("saved_cosine", "fewer than cosine", "+.0%", low="saved_cosine_low", high="saved_cosine_high"),
        Column("work_saved", "multiply–adds saved", "+.0%", low="work_saved_low", high="work_saved_high"),
        Column("accuracy", "accuracy at the end", ".2%"),
    )  # fmt: skip
    race = f"784 → 128 → 64 → 10 on Fashion-MNIST to {plan.target:.0%}, Adam, batches of 64, {len(seeds)} seeds"
    if run.mode == "quick":
        notes.append(
            "Rates are those that benchmarks/training.py chose on held-out training images; a cosine's horizon is, for "
            f"each seed, the shortest of {', '.join(map(str, plan.horizons))} steps that arrives; accuracy is "
            f"read from {_TEST_IMAGES:,} test images every {plan.every} steps."
        )
    return Evidence({"races": Table(race, rows, columns)}, [_plot(rows)], {"race": race}, notes)


@functools.cache
def _images(mode: Mode) -> Labelled:
    images = data.load("fashion-mnist")
    if mode == "full":
        return images
    return images._replace(test_x=images.test_x[:_TEST_IMAGES], test_y=images.test_y[:_TEST_IMAGES])


def _available(mode: Mode) -> bool:
    try:
        _images(mode)
    except DataUnavailableError:
        return False
    return True


@functools.cache  # two claims share the baselines
def _raced(name: str, mode: Mode, seeds: tuple[int, ...], device: str) -> Result:
    one, plan, images = recipe(name, "mlp"), _PLANS[mode], _images(mode)
    with threads(1):  # operations this small gain nothing from a second one, and lose much to a busy neighbour
        tuned = _CHOSEN[name] if mode == "quick" else tune(one, plan, images, range(3), device)
        return compete(one, plan, tuned, images, seeds, device)


def _row(result: Result, constant: Result, cosine: Result) -> Row:
    arrived = np.isfinite(result.steps)
    row: dict[str, Any] = {
        "recipe": result.recipe, "steps": float(result.steps.mean()), "arrived": int(arrived.sum()),
        "of": len(arrived), "accuracy": float(result.accuracy.mean()),
        "accuracy_lost": float((cosine.accuracy - result.accuracy).mean()),
        "inference_saved": 1 - result.inference / cosine.inference,
    }  # fmt: skip
    for name, ours, theirs in (
        ("saved_constant", result.steps, constant.steps),
        ("saved_cosine", result.steps, cosine.steps),
        ("work_saved", result.multiply_adds, cosine.multiply_adds),
    ):
        both = arrived & np.isfinite(theirs)
        saved = interval((1 - ours[both] / theirs[both]).tolist()) if both.any() else None
        for end, value in zip(("", "_low", "_high"), saved or (None, None, None), strict=True):
            row[name + end] = value
    return row


def _plot(rows: list[Row]) -> Plot:
    series = [
        Series(row["recipe"], [row["steps"]], [1 - row["work_saved"]],
               role="baseline" if row["recipe"] in _BASELINES else "measured")
        for row in rows if row["arrived"] == row["of"] and row["work_saved"] is not None
    ]  # fmt: skip
    return Plot("Work to the target", Axis("steps"), Axis("multiply–adds over those of cosine", spec=".0%"), series)
