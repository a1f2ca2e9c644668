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
from tithe.hashtron.fits import Data
from tithe.hashtron.samples import repeated

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
        augment: how images change while the model learns.
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
        receipt_: what ``fit`` spent; nothing was compared with it, so its plain side is empty.
        n_iter_: passes over the samples that the model learned from.

    Sample weights as in ``HashtronClassifier``. O(epochs · n · tuples · classes) to fit. Source: MISSION H.

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
        augment: bool | Literal["handwriting", "shift", "mirror"] = True,
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
        return self._whole(lambda new: new._learn(X, y, sample_weight))

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from one more batch, by one pass over it.

        The first call draws the neurons and fixes levels, categories and the thresholds of the target by its batch:
        give it some hundred samples. A model that was saved and loaded learns on from the bits alone.

        Args:
            X: as for ``fit``.
            y: targets, (n,).
            sample_weight: (n,), 1 for each if ``None``.

        Returns:
            The estimator. Raises as ``fit`` does, and for ``early_stopping``, which needs ``fit``.
        """
        return self._whole(lambda new: new._learn_more(X, y, sample_weight))

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The expected target of each row, (n,)."""
        return self._expected(self._votes(X), self.temperature_)

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> None:
        rows, targets = self._read(X, y, reset=True, y_numeric=True)
        self._fit(self._data(rows, targets.astype(np.float64), sample_weight, first=True))

    def _learn_more(self, X: Any, y: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "tables_")
        rows, targets = self._read(X, y, reset=first, y_numeric=True)
        self._fit_more(self._data(rows, targets.astype(np.float64), sample_weight, first=first))

    def _data(self, rows: NDArray[Any], y: NDArray[np.float64], sample_weight: Any, *, first: bool) -> Data:
        chosen, weight = repeated(_check_sample_weight(sample_weight, rows, dtype=np.float64))
        y = y[chosen]
        if first:
            self.thresholds_, self.values_ = thermometer(y, weight)
        names = getattr(self, "feature_names_in_", None)
        return Data(rows[chosen], _reached(self.thresholds_, y), weight, len(self.values_), self._loss, names)

    def _expected(self, votes: NDArray[np.int32], temperature: float) -> NDArray[np.float64]:
        expected: NDArray[np.float64] = softmax(votes / temperature, axis=1) @ self.values_
        return np.clip(expected, self.values_[0], self.values_[-1])

    def _loss(
        self, votes: NDArray[np.int32], y: NDArray[np.int64], weight: NDArray[np.float32], temperature: float
    ) -> float:
        """Mean square of the error, in units of the largest value."""
        unit = float(np.abs(self.values_).max()) or 1.0
        missed = self._expected(votes, temperature) / unit - self.values_[y] / unit
        return float(np.average(missed**2, weights=weight))

    def _targets_to_dict(self) -> dict[str, Any]:
        return {"values": self.values_.tolist(), "thresholds": self.thresholds_.tolist()}

    def _targets_from_dict(self, data: dict[str, Any]) -> None:
        self.values_ = np.array(data["values"], np.float64)
        self.thresholds_ = np.array(data["thresholds"], np.float64)


def thermometer(y: NDArray[np.float64], weight: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Up to 15 thresholds at quantiles of the weight, and the mean target between them.

    Args:
        y: targets, (n,), finite.
        weight: positive, (n,); they add up to how many samples they are worth.

    >>> thermometer(np.array([1.0, 1.0, 5.0, 7.0]), np.ones(4, np.float32))
    (array([1.]), array([1., 6.]))
    """
    order = np.argsort(y, kind="stable")
    y, shares = y[order], np.cumsum(weight[order], dtype=np.float64)
    count, shares = shares[-1], shares / shares[-1]
    steps = max(2, min(_MOST_STEPS, round(count / _SAMPLES)))
    quantiles = y[np.minimum(np.searchsorted(shares, np.arange(1, steps) / steps), len(y) - 1)]
    thresholds = np.unique(quantiles[quantiles < y[-1]])
    unit = np.ldexp(1.0, int(np.frexp(np.abs(y).max())[1]) - 1)  # sums of the largest targets would overflow
    reached = _reached(thresholds, y)
    totals, sums = (np.bincount(reached, w, len(thresholds) + 1) for w in (weight[order], weight[order] * (y / unit)))
    return thresholds, sums / totals * unit


def _reached(thresholds: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many thresholds are exceeded."""
    return np.searchsorted(thresholds, y, side="left").astype(np.int64)
