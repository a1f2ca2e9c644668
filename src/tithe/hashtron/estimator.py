"""What the classifier and the regressor share: learning whole or not at all, voting, explaining, saving."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from tithe.errors import InvalidValueError, ModelFileError
from tithe.hashtron.encoders import Encoder, encoder_from_dict
from tithe.hashtron.fits import Data, Fit, fit_model, fit_more, fit_nothing
from tithe.hashtron.learning import votes
from tithe.hashtron.network import Network
from tithe.hashtron.options import Options, checked
from tithe.hashtron.reading import read
from tithe.hashtron.saving import packed_tables, plain_params, read_model, unpacked_tables, write_model
from tithe.hashtron.tuples.as_network import addresses, as_network
from tithe.hashtron.tuples.tables import Tables
from tithe.meter import Meter
from tithe.parallel import threads
from tithe.receipt import Cost, Receipt

__all__ = ["TupleTableEstimator"]

_FEW = 30  # samples of a first batch by which little can be fixed for good


class TupleTableEstimator(ABC, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The common part of ``HashtronClassifier`` and ``HashtronRegressor``, which give targets as numbers from 0 on."""

    missing: str
    n_jobs: int | None
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

    def to_network(self) -> Network:
        """The model as a ``Network`` of hashtrons: each a program of at most one hash, and a filter.

        It reads ``features(X)`` and answers with the place of the class with the most votes: in ``classes_``, or among
        the ``values_`` of a regressor, which itself predicts the expected one. O(tuples · classes · cells).
        """
        check_is_fitted(self)
        return as_network(self.tables_)

    def features(self, X: ArrayLike) -> NDArray[np.uint32]:
        """What the hashtrons of ``to_network`` read, (n, hashtrons); four bytes each, so give it some hundred rows."""
        packed = self._packed(X)
        return addresses(self.tables_, self.encoder_.blocks(packed), len(packed))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fitted model to one file, without pickle; the same model gives the same bytes.

        The receipt, ``n_jobs`` and ``verbose`` are not saved, nor are the numbers behind the signs by which
        ``partial_fit`` learns: after loading it goes on from the signs alone, to another model than without.

        Args:
            path: of the file.

        Returns:
            The path. Raises ``NotFittedError`` before ``fit``, ``InvalidDTypeError`` where a parameter or class is
            neither number, truth nor string, ``OSError`` as the file system does. O(size).
        """
        check_is_fitted(self)
        tables, params = self.tables_, self.get_params(deep=False)
        model = {
            "estimator": type(self).__name__,
            "params": plain_params({name: _listed(value) for name, value in params.items()}),
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
            raise ModelFileError(
                f"{path} holds a {str(model.get('estimator'))[:80]}, not a {cls.__name__}: load it as that"
            )
        try:
            new = cls(**{k: tuple(v) if k == "image_shape" and v else v for k, v in model["params"].items()})
            checked(new.get_params(deep=False))
            encoder = encoder_from_dict(model["encoder"])
            tables = unpacked_tables(encoder, model["cells"], model["classes"], **arrays)
            new._adopt(Fit(encoder, tables, float(model["temperature"]), model["n_iter"]))
            new.n_features_in_ = model["features"]
            if model["feature_names"]:
                new.feature_names_in_ = np.array(model["feature_names"], object)
            new._targets_from_dict(model)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path} holds no whole model ({type(error).__name__}: {error})") from error
        return new

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "level"
        tags.input_tags.three_d_array = True
        return tags

    @abstractmethod
    def _targets_to_dict(self) -> dict[str, Any]:
        """What a file holds of the targets."""

    @abstractmethod
    def _targets_from_dict(self, data: dict[str, Any]) -> None:
        """Take it over."""

    def _options(self) -> Options:
        return checked(self.get_params(deep=False))

    def _read(self, X: Any, y: Any = "no_validation", *, reset: bool = False, **checks: Any) -> tuple[Any, Any]:
        """X as rows or images, and y."""
        shape = self._options().image_shape if reset else getattr(self.encoder_, "shape", None)
        return read(self, X, y, shape, reset=reset, **checks)

    def _whole(self, learn: Callable[[Self], None]) -> Self:
        """Let a copy learn, and become it: where an error or an interrupt ends that, nothing has changed."""
        new = copy(self)
        with Meter() as meter, _threads(self._options().n_jobs):
            learn(new)
        new.receipt_ = Receipt(f"hashtrons ({len(new.tables_.tuples)} tuples)", spent=meter.cost, plain=Cost())
        self.__dict__ = new.__dict__
        return self

    def _fit(self, data: Data) -> None:
        self._adopt(fit_model(data, self._options(), _generator(self.random_state)))

    def _fit_more(self, data: Data) -> None:
        """One pass over samples, for tables that are there, or for new ones."""
        options = self._options()
        if options.early_stopping or options.calibrate:
            raise InvalidValueError(
                "early_stopping and calibrate hold samples out, which partial_fit cannot: set both to False, or use fit"
            )
        if not hasattr(self, "tables_"):
            if len(data.y) < _FEW:
                warnings.warn(
                    f"the first batch of partial_fit has {len(data.y)} samples, and fixes levels, categories and "
                    "neurons for good: give it some hundred",
                    stacklevel=6,
                )
            before = fit_nothing(data, options, random := _generator(self.random_state, 0))
        else:
            before = Fit(self.encoder_, self.tables_, self.temperature_, self.n_iter_, self._latent)
            random = _generator(self.random_state, self.n_iter_)
        self._adopt(fit_more(before, data, options, random))

    def _adopt(self, fit: Fit) -> None:
        self.encoder_, self.tables_, self.temperature_ = fit.encoder, fit.tables, fit.temperature
        self.n_iter_, self._latent = fit.epochs, fit.latent

    def _packed(self, X: Any) -> NDArray[np.uint8]:
        check_is_fitted(self)
        return self.encoder_.packed(self._read(X)[0])

    def _votes(self, X: Any) -> NDArray[np.int32]:
        """Votes (n, classes) for X as a caller gives it."""
        packed = self._packed(X)
        with _threads(self._options().n_jobs):
            return votes(self.encoder_, self.tables_, packed)


def _listed(value: Any) -> Any:
    """What is iterable as a list, for a file."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else value


def _generator(random_state: Any, more: int = 0) -> np.random.Generator:
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.default_rng([check_random_state(random_state).randint(2**31 - 1), more])


def _threads(n_jobs: int | None) -> AbstractContextManager[None]:
    """Within the block, ``n_jobs`` threads; below 0, all cores but for −1 − ``n_jobs`` of them."""
    if n_jobs is None:
        return nullcontext()
    return threads(n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs))
