"""A scikit-learn regressor made of one-bit hash neurons: the target is a thermometer, its expected value predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_sample_weight

from tithe.hashtron.estimator import TupleTableEstimator

__all__ = ["HashtronRegressor"]

_MOST_STEPS = 16  # of the thermometer
_SAMPLES = 8  # for each of them, at least


class HashtronRegressor(RegressorMixin, TupleTableEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts quantities by the votes of neurons of one bit a cell, for tables of columns and for images.

    A target is read from a thermometer with up to 15 thresholds at quantiles. How many it reaches is the class for
    which neurons vote, as in ``HashtronClassifier``; the prediction is the expected value, with the mean target of
    each class for its value. So predictions lie between the smallest and the largest of these means.

    Args:
        preset: as in ``HashtronClassifier``, as the others.
        image_shape: (H, W) of the images in the rows of X, if they are images.
        deskew: whether slanted images are set upright first.
        augment: whether images are deformed a little while the model learns.
        epochs: passes over the samples.
        tuple_bits: bits that a neuron looks at.
        temperature: how sure a few more votes make the model while it learns.
        categorical: columns of categories, by number or name.
        text: columns of texts, by number or name.
        missing: ``"error"``, or ``"level"``.
        early_stopping: whether to hold out samples, and keep what was best on them.
        validation_fraction: of the samples that are held out.
        n_jobs: threads.
        verbose: whether to show progress on the standard error.
        random_state: the same seed gives the same model.

    Attributes:
        values_: mean target of each class, (classes,), ascending.
        thresholds_: between the classes, (classes − 1,).
        n_features_in_: columns, or pixels.
        feature_names_in_: names of the columns, where X has names that are all strings.
        encoder_: how samples become bits.
        tables_: the neurons.
        temperature_: by which votes are divided before the softmax.
        model_bytes_: what has to be kept to predict.
        receipt_: what ``fit`` spent.
        n_iter_: passes over the samples that the model learned from.

    O(epochs · n · tuples · classes) to fit. Source: MISSION H.

    >>> X = np.linspace(0, 1, 400)[:, None]
    >>> model = HashtronRegressor(random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.95)
    True
    """

    values_: NDArray[np.float64]
    thresholds_: NDArray[np.float64]

    def __init__(
        self,
        preset: Literal["tiny", "small", "best"] | int = "small",
        *,
        image_shape: tuple[int, int] | None = None,
        deskew: bool = False,
        augment: bool = True,
        epochs: int | None = None,
        tuple_bits: int | None = None,
        temperature: float | None = None,
        categorical: Sequence[int | str] | None = None,
        text: Sequence[int | str] | None = None,
        missing: Literal["error", "level"] = "error",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
    ) -> None:
        self.preset = preset
        self.image_shape = image_shape
        self.deskew = deskew
        self.augment = augment
        self.epochs = epochs
        self.tuple_bits = tuple_bits
        self.temperature = temperature
        self.categorical = categorical
        self.text = text
        self.missing = missing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn.

        Args:
            X: rows of numbers, truths, strings: an array, a DataFrame or lists, (n, columns); or images, (n, H, W).
            y: targets, (n,).
            sample_weight: (n,), 1 for each if ``None``.

        Returns:
            The estimator. Raises ``ValueError`` for shapes, options and values that cannot be used, ``TypeError`` for
            values that are neither number nor string.
        """
        self._check_options()
        rows, targets, shape = self._read(X, y, reset=True, y_numeric=True)
        targets = targets.astype(np.float64)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        self._read_targets(targets, weight)
        self._fit(rows, self._reached(targets), len(self.values_), weight, shape, "softmax")
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from one more batch, by one pass over it.

        The first call draws the neurons and fixes levels, categories and the thresholds of the target by its batch:
        give it some hundred samples.

        Args:
            X: as for ``fit``.
            y: targets, (n,).
            sample_weight: (n,), 1 for each if ``None``.

        Returns:
            The estimator. Raises as ``fit`` does.
        """
        self._check_options()
        first = not hasattr(self, "tables_")
        rows, targets, shape = self._read(X, y, reset=first, y_numeric=True)
        targets = targets.astype(np.float64)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        if first:
            self._read_targets(targets, weight)
        self._fit_more(rows, self._reached(targets), len(self.values_), weight, shape, "softmax", first=first)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The expected target of each row, (n,)."""
        return self._expected(self._votes(X), self.temperature_)

    def _read_targets(self, y: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        """Thresholds at quantiles of the weight, and the mean target between them."""
        order = np.argsort(y, kind="stable")
        order = order[weight[order] > 0]
        y, weight = y[order], weight[order]
        steps = max(2, min(_MOST_STEPS, round(weight.sum() / _SAMPLES))) if len(y) else 1
        shares = np.cumsum(weight) / weight.sum() if len(y) else weight
        quantiles = y[np.minimum(np.searchsorted(shares, np.arange(1, steps) / steps), len(y) - 1)]
        self.thresholds_ = np.unique(quantiles[quantiles < y[-1]]) if len(y) else y
        totals, sums = (np.bincount(self._reached(y), w, len(self.thresholds_) + 1) for w in (weight, weight * y))
        self.values_ = sums / np.maximum(totals, np.finfo(float).tiny)

    def _reached(self, y: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many thresholds are exceeded."""
        return np.searchsorted(self.thresholds_, y, side="left").astype(np.int64)

    def _expected(self, votes: NDArray[np.int32], temperature: float) -> NDArray[np.float64]:
        expected: NDArray[np.float64] = softmax(votes / temperature, axis=1) @ self.values_
        return expected

    def _loss(self, votes: NDArray[np.int32], y: NDArray[np.int64], temperature: float) -> float:
        return float(np.mean((self._expected(votes, temperature) - self.values_[y]) ** 2))

    def _targets_to_dict(self) -> dict[str, Any]:
        return {"values": self.values_.tolist(), "thresholds": self.thresholds_.tolist()}

    def _targets_from_dict(self, data: dict[str, Any]) -> None:
        self.values_, self.thresholds_ = np.array(data["values"]), np.array(data["thresholds"])
