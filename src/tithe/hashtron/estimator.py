"""What the classifier and the regressor share: reading samples, drawing and training tables, voting, saving."""

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

from tithe.errors import InvalidDTypeError, InvalidValueError, ModelFileError
from tithe.hashtron.designs import Design, design_columns, design_image, levels_within
from tithe.hashtron.encoders import ColumnBits, Encoder, ImageEncoder, encoder_from_dict
from tithe.hashtron.progress import progress
from tithe.hashtron.samples import held_out, in_canonical_order, repeated
from tithe.hashtron.saving import read_model, write_model
from tithe.hashtron.tuples.selection import purest
from tithe.hashtron.tuples.tables import Tables
from tithe.hashtron.tuples.training import Schedule, blank, fit
from tithe.hashtron.tuples.warps import Warps
from tithe.meter import Meter
from tithe.receipt import Cost, Receipt

__all__ = ["TupleTableEstimator"]

_CHUNK = 1024  # samples that are encoded at once to predict
_JUDGED = 3000  # samples by which tuples are selected
_PATIENCE = 4  # epochs without a better one after which early stopping stops
_KNOWN = 0.25  # latent numbers behind the signs of a model that goes on learning
_PARTIAL_RATE = 0.03
_WIDEST = 16  # bits of a tuple


class TupleTableEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The common part of ``HashtronClassifier`` and ``HashtronRegressor``, which give targets as numbers from 0 on."""

    # What ``__init__`` of both sets:
    preset: str
    image_shape: tuple[int, int] | None
    deskew: bool
    augment: bool
    epochs: int | None
    tuple_bits: int | None
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
            "params": {name: _plain(name, value) for name, value in self.get_params(deep=False).items()},
            "encoder": self.encoder_.to_dict(),
            "cells": tables.signs.shape[1],
            "classes": tables.classes,
            "temperature": self.temperature_,
            "n_iter": self.n_iter_,
            "features": self.n_features_in_,
            "feature_names": getattr(self, "feature_names_in_", np.empty(0)).tolist(),
            **self._targets_to_dict(),
        }
        signs = np.packbits(tables.signs[:, :, : tables.classes] > 0)
        return write_model(path, model, {"tuples": tables.tuples, "salts": tables.salts, "signs": signs})

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
            new.tables_ = _unpacked(new.encoder_, model["cells"], model["classes"], **arrays)
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

    def _loss(self, votes: NDArray[np.int32], y: NDArray[np.int64]) -> float:
        """What early stopping makes small."""
        raise NotImplementedError

    def _calibrate(self, votes: NDArray[np.int32], y: NDArray[np.int64]) -> None:
        """Told of the votes for what was held out."""

    def _read(self, X: Any, y: Any = "no_validation", *, reset: bool = False, **checks: Any) -> tuple[Any, Any, Any]:
        """X as (n, columns), images flat; y; and the shape of an image, or None."""
        if isinstance(X, list | tuple):
            X = np.array(X, object) if _holds_strings(X) else np.asarray(X)
        shape = self.image_shape if reset else getattr(self.encoder_, "shape", None)
        if getattr(X, "ndim", 2) == 3 and (reset or shape is not None):
            X = np.asarray(X)
            if shape is not None and tuple(shape) != X.shape[1:]:
                raise InvalidValueError(f"X holds images of {X.shape[1:]} pixels (height, width), expected {shape}")
            shape, X = X.shape[1:], X.reshape(len(X), -1)
        read = validate_data(self, X, y, reset=reset, dtype=None, ensure_all_finite="allow-nan", **checks)
        X, y = read if isinstance(read, tuple) else (read, None)
        return (X, y, None) if shape is None else (_images(X, tuple(shape)), y, shape)

    def _check_options(self) -> None:
        """Options that are looked at nowhere else."""
        for name, value, top in (("epochs", self.epochs, 10**6), ("tuple_bits", self.tuple_bits, _WIDEST)):
            if value is not None and not (isinstance(value, numbers.Integral) and 1 <= value <= top):
                raise InvalidValueError(f"{name} is {value!r}; use a whole number from 1 to {top}, or None")

    def _fit(self, X: Any, y: NDArray[np.int64], classes: int, weight: Any, shape: Any, loss: str) -> None:
        """Learn targets 0..``classes`` − 1 from X as ``_read`` gives it."""
        with Meter() as meter, _threads(self.n_jobs):
            random = _generator(self.random_state)
            rows, weights = repeated(weight)
            X, y = (X, y) if len(rows) == len(X) and (np.diff(rows) == 1).all() else (X[rows], y[rows])
            packed, y, weights, design = self._prepare(X, y, weights, classes, shape)
            held = np.zeros(len(y), np.bool_)
            if self.early_stopping or getattr(self, "calibrate", False):
                held = held_out(y, self.validation_fraction, random)
            blank_tables = _draw(self.encoder_, design, packed[~held], y[~held], classes, random)
            self._train(blank_tables, packed, y, weights, held, Schedule(epochs=design.epochs, loss=loss), random)
            if getattr(self, "calibrate", False):
                self._calibrate(_votes(self.encoder_, self.tables_, packed[held]), y[held])
        self.receipt_ = Receipt(f"hashtrons ({design.tuples} tuples)", spent=meter.cost, plain=Cost())

    def _prepare(
        self, X: Any, y: NDArray[np.int64], weights: NDArray[np.float32], classes: int, shape: Any
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32], Design]:
        """Fit the encoder, and put the encoded samples in an order that does not depend on how they came."""
        if shape is not None:
            self.encoder_ = ImageEncoder.fit(X, warps=Warps() if self.augment else None, deskew=self.deskew)
            design = design_image(self.preset, classes, self.tuple_bits)
        else:
            levels = levels_within(self.preset, X.shape[1])
            columns = ColumnBits.fit(
                X, levels=levels, categorical=self.categorical, text=self.text, missing=self.missing,
                feature_names=getattr(self, "feature_names_in_", None),
            )  # fmt: skip
            width = None if self.tuple_bits is None else min(self.tuple_bits, columns.length)
            self.encoder_ = columns
            design = design_columns(self.preset, classes, len(X), columns.bytes, width)
        if self.epochs is not None:
            design = replace(design, epochs=self.epochs)
        packed = self.encoder_.packed(X)
        order = in_canonical_order(packed, y, weights)
        return packed[order], y[order], weights[order], design

    def _train(
        self,
        tables: Tables,
        packed: NDArray[np.uint8],
        y: NDArray[np.int64],
        weights: NDArray[np.float32],
        held: NDArray[np.bool_],
        schedule: Schedule,
        random: np.random.Generator,
    ) -> None:
        encoder, rows = self.encoder_, np.flatnonzero(~held)
        best: tuple[float, int, Tables] = (math.inf, 0, tables)
        self.n_iter_, self.temperature_ = schedule.epochs, _temperature(schedule, tables)

        def report(epoch: int, now: Tables) -> bool:
            nonlocal best
            if not self.early_stopping:
                tell(epoch, "")
                return False
            loss = self._loss(_votes(encoder, now, packed[held]), y[held])
            tell(epoch, f"validation loss {loss:.4f}")
            if loss < best[0]:
                best = loss, epoch, replace(now, signs=now.signs.copy())
            self.n_iter_ = epoch
            return epoch - best[1] >= _PATIENCE

        with progress("learning", schedule.epochs, bool(self.verbose)) as tell:
            learned = fit(
                lambda chosen, seed: encoder.blocks(packed[rows[chosen]], seed=seed),
                y[rows], weights[rows], tables, schedule, int(random.integers(2**62)), report,
            )  # fmt: skip
        self.tables_ = best[2] if self.early_stopping else learned
        self._latent = None

    def _fit_more(
        self, X: Any, y: NDArray[np.int64], classes: int, weight: Any, shape: Any, loss: str, *, first: bool
    ) -> None:
        """One pass over samples, for tables that are there, or with ``first`` for new ones."""
        with Meter() as meter, _threads(self.n_jobs):
            random = _generator(self.random_state, 0 if first else self.n_iter_)
            rows, weights = repeated(weight)
            X, y = X[rows], y[rows]
            if first:
                packed, y, weights, design = self._prepare(X, y, weights, classes, shape)
                self.tables_, self.n_iter_ = _draw(self.encoder_, design, packed, y, classes, random), 0
                self._latent = np.zeros(self.tables_.signs.shape, np.float32)
            else:
                packed = self.encoder_.packed(X)
            if self._latent is None:
                self._latent = self.tables_.signs.astype(np.float32) * np.float32(_KNOWN)
            schedule = Schedule(epochs=1, rate=_PARTIAL_RATE, loss=loss)
            self.tables_ = fit(
                lambda chosen, seed: self.encoder_.blocks(packed[chosen], seed=seed),
                y, weights, self.tables_, schedule, int(random.integers(2**62)), latent=self._latent,
            )  # fmt: skip
            self.n_iter_ += 1
            self.temperature_ = _temperature(schedule, self.tables_)
        self.receipt_ = Receipt(f"hashtrons (batch {self.n_iter_})", spent=meter.cost, plain=Cost())

    def _votes(self, X: Any) -> NDArray[np.int32]:
        """Votes (n, classes) for X as a caller gives it."""
        check_is_fitted(self)
        X = self._read(X)[0]
        votes = np.empty((len(X), self.tables_.classes), np.int32)
        with _threads(self.n_jobs):
            for start in range(0, len(X), _CHUNK):
                rows = slice(start, start + _CHUNK)
                votes[rows] = _votes(self.encoder_, self.tables_, self.encoder_.packed(X[rows]))
        return votes


def _votes(encoder: Encoder, tables: Tables, packed: NDArray[np.uint8]) -> NDArray[np.int32]:
    chunks = [packed[start : start + _CHUNK] for start in range(0, len(packed), _CHUNK)]
    return np.concatenate([tables.votes(encoder.blocks(chunk), len(chunk)) for chunk in chunks])


def _temperature(schedule: Schedule, tables: Tables) -> float:
    return schedule.temperature * math.sqrt(len(tables.tuples) * tables.sharing.places)


def _draw(
    encoder: Encoder, design: Design, packed: NDArray[np.uint8], y: NDArray[np.int64], classes: int, random: Any
) -> Tables:
    """Tables that have learned nothing; some of their tuples are random, the others the purest of many."""
    chosen = round(design.tuples * design.chosen)
    count = design.tuples - chosen + chosen * design.candidates
    tuples = encoder.draw(count, design.width, random)
    salts = random.integers(2**32, size=count, dtype=np.uint32)
    log_size, sharing = min(design.log_size, tuples.shape[1]), encoder.sharing
    if chosen and design.candidates > 1:
        free = design.tuples - chosen
        rows = random.permutation(len(y))[:_JUDGED]
        middle = tuples[free:] + (sharing.down // 2 * sharing.stride + sharing.across // 2)
        kept = purest(middle, salts[free:], log_size, chosen, encoder.blocks(packed[rows]), y[rows], classes)
        kept = np.concatenate((np.arange(free), free + kept))
        tuples, salts = tuples[kept], salts[kept]
    return blank(tuples, salts, log_size, classes, sharing)


def _unpacked(
    encoder: Encoder, cells: int, classes: int, *, tuples: NDArray[Any], salts: NDArray[Any], signs: NDArray[Any]
) -> Tables:
    """Tables from what a file holds; ``ValueError`` where it would make the kernels read beside the arrays."""
    count, width = tuples.shape
    log_size, sharing = cells.bit_length() - 1, encoder.sharing
    last = encoder.length - 1 - (sharing.down - 1) * sharing.stride
    whole = (
        tuples.dtype == np.int32 and salts.dtype == np.uint32 and signs.dtype == np.uint8
        and tuples.min() >= 0 and tuples.max() <= last and salts.shape == (count,)
        and 1 <= width <= _WIDEST and 0 <= log_size <= width and cells == 1 << log_size
        and classes >= 1 and signs.shape == (-(-count * cells * classes // 8),)
    )  # fmt: skip
    if not whole:
        raise ValueError("its arrays do not fit together")
    tables = blank(tuples, salts, log_size, classes, sharing)
    bits = np.unpackbits(signs, count=count * cells * classes).reshape(count, cells, classes)
    tables.signs[:, :, :classes] = bits.astype(np.int8) * 2 - 1
    return tables


def _images(X: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Images (n, H, W) from rows."""
    height, width = shape
    if X.shape[1] != height * width:
        raise InvalidValueError(f"image_shape {shape} needs {height * width} columns, X has {X.shape[1]}")
    if X.dtype.kind not in "buif":
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidDTypeError(f"X holds {X.dtype}, not grey values: give images of numbers") from error
    if X.dtype.kind == "f" and np.isnan(X).any():
        raise InvalidValueError("X holds NaN; the pixels of an image cannot be missing: fill them in")
    return X.reshape(-1, height, width)


def _holds_strings(X: Any) -> bool:
    """Whether rows in lists hold strings, which NumPy would make of the numbers beside them, too."""
    return any(isinstance(value, str) for row in X if isinstance(row, list | tuple) for value in row)


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


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON has it; a generator of random numbers as None."""
    if isinstance(value, np.ndarray | tuple | list):
        return [_plain(name, entry) for entry in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if name == "random_state":
        return None
    raise InvalidDTypeError(f"{name} is {value!r}; only numbers, truths, strings and lists of them can be saved")
