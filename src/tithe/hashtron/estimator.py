"""What the classifier and the regressor share: reading samples, learning from them, voting, saving."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tithe.errors import InvalidValueError, ModelFileError
from tithe.hashtron.designs import Design, design_columns, design_image, levels_within
from tithe.hashtron.encoders import ColumnBits, Encoder, ImageEncoder, encoder_from_dict
from tithe.hashtron.learning import Samples, draw, fitting_temperature, learn, scale, votes
from tithe.hashtron.progress import progress
from tithe.hashtron.samples import as_images, held_out, holds_strings, in_canonical_order, repeated
from tithe.hashtron.saving import packed_tables, plain, read_model, unpacked_tables, write_model
from tithe.hashtron.tuples.tables import Tables
from tithe.hashtron.tuples.training import Schedule
from tithe.hashtron.tuples.warps import warps_named
from tithe.meter import Meter
from tithe.receipt import Cost, Receipt

__all__ = ["TupleTableEstimator"]

_CHUNK = 1024  # samples that are encoded at once to predict
_PATIENCE = 4  # epochs without a better one after which early stopping stops
_KNOWN = 0.25  # latent numbers behind the signs of a model that goes on learning
_PARTIAL_RATE = 0.03
_WIDEST = 16  # bits of a tuple


class TupleTableEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The common part of ``HashtronClassifier`` and ``HashtronRegressor``, which give targets as numbers from 0 on."""

    # What ``__init__`` of both sets:
    preset: str | int
    image_shape: tuple[int, int] | None
    deskew: bool
    augment: bool | str
    epochs: int | None
    tuple_bits: int | None
    temperature: float | None
    categorical: Any
    text: Any
    missing: Any
    early_stopping: bool
    validation_fraction: float
    n_jobs: int | None
    verbose: int
    random_state: Any

    encoder_: Encoder
    tables_: Tables
    temperature_: float
    receipt_: Receipt
    n_iter_: int
    n_features_in_: int
    _latent: NDArray[np.float32] | None = None  # behind the signs, while ``partial_fit`` goes on

    @property
    def model_bytes_(self) -> int:
        """What has to be kept to predict: a bit for each cell and class, the tuples, and what the encoder needs."""
        check_is_fitted(self)
        return self.tables_.bytes + self.encoder_.bytes

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fitted model to one file, without pickle; the same model gives the same bytes.

        Args:
            path: of the file.

        Returns:
            The path. Raises ``NotFittedError`` before ``fit``, ``InvalidDTypeError`` where a parameter or class is
            neither number, truth nor string, ``OSError`` as the file system does. The receipt is not saved. O(size).
        """
        check_is_fitted(self)
        tables = self.tables_
        model = {
            "estimator": type(self).__name__,
            "params": {name: plain(name, value) for name, value in self.get_params(deep=False).items()},
            "encoder": self.encoder_.to_dict(),
            "cells": tables.signs.shape[1],
            "classes": tables.classes,
            "temperature": self.temperature_,
            "n_iter": self.n_iter_,
            "features": self.n_features_in_,
            "feature_names": getattr(self, "feature_names_in_", np.empty(0)).tolist(),
            **self._targets_to_dict(),
        }
        return write_model(path, model, packed_tables(tables))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model that ``save`` wrote; it predicts the same.

        Args:
            path: of the file.

        Returns:
            A fitted estimator. Raises ``ModelFileError`` where the file is truncated, changed, of another format or
            holds another estimator; ``OSError`` as the file system does. O(size); nothing in it is executed.
        """
        model, arrays = read_model(path)
        if model.get("estimator") != cls.__name__:
            raise ModelFileError(f"{path} holds a {model.get('estimator')}, not a {cls.__name__}: load it as that")
        try:
            new = cls(**{k: tuple(v) if k == "image_shape" and v else v for k, v in model["params"].items()})
            new.encoder_ = encoder_from_dict(model["encoder"])
            new.tables_ = unpacked_tables(new.encoder_, model["cells"], model["classes"], **arrays)
            new.temperature_, new.n_iter_, new.n_features_in_ = model["temperature"], model["n_iter"], model["features"]
            if model["feature_names"]:
                new.feature_names_in_ = np.array(model["feature_names"], object)
            new._targets_from_dict(model)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path} holds no whole model ({type(error).__name__}: {error})") from error
        return new

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "level"
        tags.input_tags.three_d_array = True
        return tags

    def _targets_to_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def _targets_from_dict(self, data: dict[str, Any]) -> None:
        raise NotImplementedError

    def _loss(self, votes: NDArray[np.int32], y: NDArray[np.int64], temperature: float) -> float:
        """What early stopping and the choice of a temperature make small."""
        raise NotImplementedError

    def _calibrate(self, votes: NDArray[np.int32], y: NDArray[np.int64]) -> None:
        """Told of the votes for what was held out."""

    def _read(self, X: Any, y: Any = "no_validation", *, reset: bool = False, **checks: Any) -> tuple[Any, Any, Any]:
        """X as (n, columns), images flat; y; and the shape of an image, or None."""
        if isinstance(X, list | tuple):
            X = np.array(X, object) if holds_strings(X) else np.asarray(X)
        shape = self.image_shape if reset else getattr(self.encoder_, "shape", None)
        if getattr(X, "ndim", 2) == 3 and (reset or shape is not None):
            X = np.asarray(X)
            if shape is not None and tuple(shape) != X.shape[1:]:
                raise InvalidValueError(f"X holds images of {X.shape[1:]} pixels (height, width), expected {shape}")
            shape, X = X.shape[1:], X.reshape(len(X), -1)
        read = validate_data(self, X, y, reset=reset, dtype=None, ensure_all_finite="allow-nan", **checks)
        X, y = read if isinstance(read, tuple) else (read, None)
        return (X, y, None) if shape is None else (as_images(X, tuple(shape)), y, shape)

    def _check_options(self) -> None:
        """Options that are looked at nowhere else."""
        for name, value, top in (("epochs", self.epochs, 10**6), ("tuple_bits", self.tuple_bits, _WIDEST)):
            if value is not None and not (isinstance(value, numbers.Integral) and 1 <= value <= top):
                raise InvalidValueError(f"{name} is {value!r}; use a whole number from 1 to {top}, or None")
        if self.temperature is not None and not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise InvalidValueError(f"temperature is {self.temperature!r}; use a positive number, or None to choose")

    def _fit(self, X: Any, y: NDArray[np.int64], classes: int, weight: Any, shape: Any, loss: str) -> None:
        """Learn targets 0..``classes`` − 1 from X as ``_read`` gives it."""
        with Meter() as meter, _threads(self.n_jobs):
            random = _generator(self.random_state)
            samples, design = self._prepare(X, y, weight, classes, shape)
            held = np.zeros(len(samples.y), np.bool_)
            calibrate = getattr(self, "calibrate", False)
            if self.early_stopping or calibrate:
                held = held_out(samples.y, self.validation_fraction, random)
            seen = samples.take(~held)
            schedule = self._schedule(design, seen, classes, loss, random)
            tables = draw(self.encoder_, design, seen, classes, random)
            self.temperature_, self.n_iter_ = scale(schedule, tables), schedule.epochs
            self.tables_ = self._learn(seen, samples.take(held), tables, schedule, random)
            if calibrate:
                self._calibrate(votes(self.encoder_, self.tables_, samples.packed[held]), samples.y[held])
            self._latent = None
        self.receipt_ = Receipt(f"hashtrons ({design.tuples} tuples)", spent=meter.cost, plain=Cost())

    def _fit_more(
        self, X: Any, y: NDArray[np.int64], classes: int, weight: Any, shape: Any, loss: str, *, first: bool
    ) -> None:
        """One pass over samples, for tables that are there, or with ``first`` for new ones."""
        with Meter() as meter, _threads(self.n_jobs):
            random = _generator(self.random_state, 0 if first else self.n_iter_)
            if first:
                samples, design = self._prepare(X, y, weight, classes, shape)
                schedule = self._schedule(design, samples, classes, loss, random)
                self.tables_, self.n_iter_ = draw(self.encoder_, design, samples, classes, random), 0
                self.temperature_ = scale(schedule, self.tables_)
                self._latent = np.zeros(self.tables_.signs.shape, np.float32)
            else:
                rows, weights = repeated(weight)
                samples = Samples(self.encoder_.packed(X[rows]), y[rows], weights)
            if self._latent is None:
                self._latent = self.tables_.signs.astype(np.float32) * np.float32(_KNOWN)
            temperature = self.temperature_ / scale(Schedule(temperature=1), self.tables_)
            schedule = Schedule(epochs=1, rate=_PARTIAL_RATE, loss=loss, temperature=temperature)
            self.tables_ = learn(self.encoder_, samples, self.tables_, schedule, random, latent=self._latent)
            self.n_iter_ += 1
        self.receipt_ = Receipt(f"hashtrons (batch {self.n_iter_})", spent=meter.cost, plain=Cost())

    def _prepare(
        self, X: Any, y: NDArray[np.int64], weight: NDArray[np.float64], classes: int, shape: Any
    ) -> tuple[Samples, Design]:
        """Fit the encoder, and put the encoded samples in an order that does not depend on how they came."""
        rows, weights = repeated(weight)
        if len(rows) != len(X) or (np.diff(rows) != 1).any():
            X, y = X[rows], y[rows]
        if shape is not None:
            self.encoder_ = ImageEncoder.fit(X, warps=warps_named(self.augment), deskew=self.deskew)
            design = design_image(self.preset, classes, self.encoder_.bytes, self.tuple_bits)
        else:
            columns = ColumnBits.fit(
                X, levels=levels_within(self.preset, X.shape[1]), categorical=self.categorical, text=self.text,
                missing=self.missing, feature_names=getattr(self, "feature_names_in_", None),
            )  # fmt: skip
            self.encoder_ = columns
            design = design_columns(self.preset, classes, len(X), columns.length, columns.bytes, self.tuple_bits)
        if self.epochs is not None:
            design = replace(design, epochs=self.epochs)
        packed = self.encoder_.packed(X)
        order = in_canonical_order(packed, y, weights)
        return Samples(packed, y, weights).take(order), design

    def _schedule(
        self, design: Design, samples: Samples, classes: int, loss: str, random: np.random.Generator
    ) -> Schedule:
        schedule, temperature = Schedule(epochs=design.epochs, loss=loss), self.temperature
        if temperature is None and isinstance(self.encoder_, ImageEncoder):
            return schedule
        if temperature is None:
            temperature = fitting_temperature(self.encoder_, design, samples, classes, schedule, self._loss, random)
        return replace(schedule, temperature=temperature)

    def _learn(
        self, seen: Samples, held: Samples, tables: Tables, schedule: Schedule, random: np.random.Generator
    ) -> Tables:
        best: tuple[float, int, Tables] = (math.inf, 0, tables)

        def report(epoch: int, now: Tables) -> bool:
            nonlocal best
            if not self.early_stopping:
                tell(epoch, "")
                return False
            loss = self._loss(votes(self.encoder_, now, held.packed), held.y, self.temperature_)
            tell(epoch, f"validation loss {loss:.4f}")
            if loss < best[0]:
                best = loss, epoch, replace(now, signs=now.signs.copy())
            self.n_iter_ = epoch
            return epoch - best[1] >= _PATIENCE

        with progress("learning", schedule.epochs, bool(self.verbose)) as tell:
            learned = learn(self.encoder_, seen, tables, schedule, random, report=report)
        return best[2] if self.early_stopping else learned

    def _votes(self, X: Any) -> NDArray[np.int32]:
        """Votes (n, classes) for X as a caller gives it."""
        check_is_fitted(self)
        X = self._read(X)[0]
        out = np.empty((len(X), self.tables_.classes), np.int32)
        with _threads(self.n_jobs):
            for start in range(0, len(X), _CHUNK):
                rows = slice(start, start + _CHUNK)
                out[rows] = votes(self.encoder_, self.tables_, self.encoder_.packed(X[rows]))
        return out


def _generator(random_state: Any, more: int = 0) -> np.random.Generator:
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.default_rng([check_random_state(random_state).randint(2**31 - 1), more])


@contextmanager
def _threads(n_jobs: int | None) -> Iterator[None]:
    """Within the block, ``n_jobs`` threads: torch's number, which all of Tithe goes by."""
    if n_jobs is None:
        yield
        return
    if n_jobs == 0:
        raise InvalidValueError("n_jobs is 0; use a number of threads, -1 for all cores, or None to leave it to torch")
    before = torch.get_num_threads()
    torch.set_num_threads(n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)
