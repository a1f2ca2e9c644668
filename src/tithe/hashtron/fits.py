"""A whole fit as one function: from rows or images to an encoder, tables and a temperature; nothing is kept beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.designs import LEVELS, Design, design_columns, design_image
from tithe.hashtron.encoders import ColumnBits, Encoder, ImageEncoder
from tithe.hashtron.learning import draw, fitting_temperature, learn, scale, votes
from tithe.hashtron.options import Options
from tithe.hashtron.progress import progress
from tithe.hashtron.samples import Samples, held_out, in_canonical_order
from tithe.hashtron.temperature import Loss, calibrated
from tithe.hashtron.tuples.tables import Tables
from tithe.hashtron.tuples.training import Schedule
from tithe.hashtron.tuples.warps import warps_named

__all__ = ["Data", "Fit", "fit_model", "fit_more", "fit_nothing"]

_PATIENCE = 4  # epochs without a better one after which early stopping stops
_KNOWN = 0.25  # latent numbers behind the signs of a model that goes on learning
_PARTIAL_RATE = 0.03
_USUAL = 6.0  # temperature where it changes nothing that is learned


@dataclass(frozen=True)
class Data:
    """What to learn from.

    Attributes:
        X: rows (n, columns), or images (n, H, W).
        y: targets 0..``classes`` − 1, (n,).
        weight: positive, (n,); they add up to how many samples they are worth.
        classes: how many targets there are.
        loss: of votes, that early stopping and the choice of a temperature make small.
        names: of the columns, if they have some.
    """

    X: NDArray[Any]
    y: NDArray[np.int64]
    weight: NDArray[np.float32]
    classes: int
    loss: Loss
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class Fit:
    """What was learned.

    Attributes:
        encoder: how samples become bits.
        tables: the neurons.
        temperature: by which votes are divided before the softmax.
        epochs: passes over samples.
        latent: numbers behind the signs, from which learning goes on; ``None`` where it was not to.
    """

    encoder: Encoder
    tables: Tables
    temperature: float
    epochs: int
    latent: NDArray[np.float32] | None = None


def fit_model(data: Data, options: Options, random: np.random.Generator) -> Fit:
    """Learn; the order of the samples does not matter. O(epochs · n · tuples · classes)."""
    encoder, samples, design = _prepared(data, options)
    seen, held = samples, None
    if options.early_stopping or options.calibrate:
        out = held_out(samples, options.validation_fraction, random)
        seen, held = samples.take(~out), samples.take(out)
    schedule = _schedule(encoder, design, seen, data, options, random)
    start = draw(encoder, design, seen, data.classes, random)
    seen, held = start.samples(seen), None if held is None else start.samples(held)
    fit = Fit(start.encoder, start.tables, scale(schedule, start.tables), schedule.epochs)
    fit = _learned(fit, seen, held, data.loss, schedule, options, random)
    if options.calibrate and held is not None:
        found = votes(fit.encoder, fit.tables, held.packed)
        fit = replace(fit, temperature=calibrated(found, held.y, held.weight, fit.temperature, data.loss))
    return fit


def fit_nothing(data: Data, options: Options, random: np.random.Generator) -> Fit:
    """All that a fit fixes by its samples, but nothing learned yet: for ``fit_more``."""
    encoder, samples, design = _prepared(data, options)
    schedule = _schedule(encoder, design, samples, data, options, random)
    start = draw(encoder, design, samples, data.classes, random)
    latent = np.zeros(start.tables.signs.shape, np.float32)
    return Fit(start.encoder, start.tables, scale(schedule, start.tables), 0, latent)


def fit_more(fit: Fit, data: Data, options: Options, random: np.random.Generator) -> Fit:
    """One pass over a batch of samples, from where ``fit`` is, which is left as it was."""
    samples = Samples(fit.encoder.packed(data.X), data.y, data.weight)
    if fit.epochs == 0:
        samples = samples.take(in_canonical_order(*samples))
    latent = fit.tables.signs * np.float32(_KNOWN) if fit.latent is None else fit.latent.copy()
    temperature = fit.temperature / scale(Schedule(temperature=1), fit.tables)
    schedule = Schedule(epochs=1, rate=_PARTIAL_RATE, loss=options.loss, temperature=temperature)
    tables = learn(fit.encoder, samples, fit.tables, schedule, random, latent=latent)
    return replace(fit, tables=tables, epochs=fit.epochs + 1, latent=latent)


def _prepared(data: Data, options: Options) -> tuple[Encoder, Samples, Design]:
    """An encoder, and the samples in an order that does not depend on how they came."""
    encoder: Encoder
    if data.X.ndim == 3:
        encoder = ImageEncoder.fit(data.X, warps=warps_named(options.augment), deskew=options.deskew)
        design = design_image(options.preset, data.classes, encoder.length, encoder.bytes, options.tuple_bits)
    else:
        encoder = ColumnBits.fit(
            data.X, weight=data.weight, levels=LEVELS, categorical=options.categorical, text=options.text,
            missing=options.missing, feature_names=data.names,
        )  # fmt: skip
        count, length, spent = float(data.weight.sum(dtype=np.float64)), encoder.length, encoder.bytes
        design = design_columns(options.preset, data.classes, count, length, spent, options.tuple_bits)
    if options.epochs is not None:
        design = replace(design, epochs=options.epochs)
    samples = Samples(encoder.packed(data.X), data.y, data.weight)
    return encoder, samples.take(in_canonical_order(*samples)), design


def _schedule(
    encoder: Encoder, design: Design, samples: Samples, data: Data, options: Options, random: np.random.Generator
) -> Schedule:
    schedule = Schedule(epochs=design.epochs, loss=options.loss)
    if options.temperature is not None:
        return replace(schedule, temperature=float(options.temperature))
    if isinstance(encoder, ImageEncoder):
        return schedule
    if options.loss == "hinge":
        return replace(schedule, temperature=_USUAL)
    found = fitting_temperature(encoder, design, samples, data.classes, schedule, data.loss, random)
    return replace(schedule, temperature=found)


def _learned(
    fit: Fit,
    seen: Samples,
    held: Samples | None,
    loss: Loss,
    schedule: Schedule,
    options: Options,
    random: np.random.Generator,
) -> Fit:
    """After all epochs; or, with early stopping, after that which was best on ``held``."""
    best: tuple[float, Fit] = (math.inf, replace(fit, epochs=0))

    def report(epoch: int, now: Tables) -> bool:
        nonlocal best
        if held is None or not options.early_stopping:
            tell(epoch, "")
            return False
        lost = loss(votes(fit.encoder, now, held.packed), held.y, held.weight, fit.temperature)
        tell(epoch, f"validation loss {lost:.4f}")
        if lost < best[0]:
            best = lost, replace(fit, tables=replace(now, signs=now.signs.copy()), epochs=epoch)
        return epoch - best[1].epochs >= _PATIENCE

    with progress("learning", schedule.epochs, bool(options.verbose)) as tell:
        learned = learn(fit.encoder, seen, fit.tables, schedule, random, report=report)
    return best[1] if options.early_stopping else replace(fit, tables=learned)
