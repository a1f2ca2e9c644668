"""A scikit-learn classifier made of one-bit hash neurons, for tables of columns and for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.encoders import ImageEncoder
from tithe.hashtron.estimator import TupleTableEstimator
from tithe.hashtron.explanation import Explanation, folded, reasons
from tithe.hashtron.fits import Data
from tithe.hashtron.samples import repeated
from tithe.hashtron.temperature import log_loss

__all__ = ["HashtronClassifier"]


class HashtronClassifier(ClassifierMixin, TupleTableEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classifies by the votes of thousands of neurons of one bit a cell: small models, fast fits, integer inference.

    Each neuron looks at a few bits of a sample (numbers become thermometers, categories single bits, images bright
    spots and edges), finds a cell of its table by them, and votes with the bit there for or against each class. Tables
    learn from the errors of the vote, through the signs of the numbers behind the bits.

    Args:
        preset: bytes of the model at most: ``"tiny"`` 16 KiB, ``"small"`` 64 KiB, ``"best"`` 1 MiB, or a number of KiB.
            Where there are so many classes that neurons have no room in it, ``fit`` says how much is needed.
        image_shape: (H, W) of the images in the rows of X, if they are images; X of (n, H, W) needs none.
        deskew: whether slanted images are set upright first; for handwriting.
        augment: how images change while the model learns: True or ``"handwriting"`` shifts, turns, scales and bends
            them a little, ``"shift"`` only moves them by a pixel, ``"mirror"`` mirrors half of them, too.
        epochs: passes over the samples; ``None`` chooses by preset and number of samples.
        tuple_bits: bits that a neuron looks at, 1 to 16 (images: 10): how many columns can act together. ``None``
            chooses by number of samples.
        temperature: how sure a few more votes make the model while it learns: high for noisy samples, low for clear
            ones. ``None`` chooses for columns by the log loss on left-out samples, and takes 1 for images. The hinge
            learns the same with any; there it only divides the votes, best with ``calibrate``.
        loss: ``"softmax"``, or ``"hinge"``, which learns by whole steps from errors and close calls only.
        categorical: columns of categories, by number or name; columns of strings are in any case.
        text: columns of texts, by number or name, which are read as byte runs of length 1 to 3.
        missing: ``"error"``, or ``"level"``: a missing value (NaN, None) is a value of its own.
        calibrate: whether the temperature of the probabilities is fitted to held-out samples.
        early_stopping: whether to hold out samples, and keep what was best on them.
        validation_fraction: of the samples that these two hold out.
        n_jobs: threads; -1 for all cores, ``None`` for ``torch.get_num_threads()``. Results do not depend on it.
        verbose: whether to show progress on the standard error.
        random_state: seed, ``RandomState`` or ``Generator``; the same seed gives the same model.

    Attributes:
        classes_: the classes, (classes,), sorted; of float64 where y is of a longer type.
        n_features_in_: columns, or pixels.
        feature_names_in_: names of the columns, where X has names that are all strings.
        encoder_: how samples become bits, ``ColumnBits`` or ``ImageEncoder``.
        tables_: the neurons.
        temperature_: by which votes are divided before the softmax.
        model_bytes_: what has to be kept to predict.
        receipt_: what ``fit`` spent; nothing was compared with it, so its plain side is empty.
        n_iter_: passes over the samples that the model learned from.

    The model depends on what the samples are and not on their order. Whole sample weights are repetitions, if they are
    4 or less on average; weight 0 is absence, and the scale of other weights is of no importance. A category that was
    not seen in ``fit`` has no bit set; where a column has more than 32, their names are hashed, unseen ones as well.
    Where ``fit`` fails, the model stays what it was. O(epochs · n · tuples · classes) to fit.
    Source: MISSION H; the tally through the sign, this project.

    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = HashtronClassifier(random_state=0).fit(X[::2], y[::2])
    >>> bool(model.score(X[1::2], y[1::2]) > 0.94), model.model_bytes_ <= 64 * 1024
    (True, True)
    """

    classes_: NDArray[Any]

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
        loss: Literal["softmax", "hinge"] = "softmax",
        categorical: Sequence[int | str] | None = None,
        text: Sequence[int | str] | None = None,
        missing: Literal["error", "level"] = "error",
        calibrate: bool = False,
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
        self.loss = loss
        self.categorical = categorical
        self.text = text
        self.missing = missing
        self.calibrate = calibrate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn.

        Args:
            X: rows of numbers, truths, strings: an array, a DataFrame or lists, (n, columns); or images, (n, H, W).
            y: classes, (n,).
            sample_weight: (n,), 1 for each if ``None``.

        Returns:
            The estimator. Raises ``ValueError`` for shapes, options and values that cannot be used, ``TypeError`` for
            values that are neither number nor string.
        """
        return self._whole(lambda new: new._learn(X, y, sample_weight))

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn from one more batch, by one pass over it.

        The first call draws the neurons and fixes levels and categories by its batch: give it some hundred samples; it
        warns of fewer than 30. A model that was saved and loaded learns on from the bits alone, the numbers behind
        them are not saved; so it differs from one that was not.

        Args:
            X: as for ``fit``.
            y: classes, (n,).
            classes: all that there will be; needed in the first call, unless ``fit`` came before.
            sample_weight: (n,), 1 for each if ``None``.

        Returns:
            The estimator. Raises as ``fit`` does, and for ``early_stopping`` and ``calibrate``, which need ``fit``.
        """
        return self._whole(lambda new: new._learn_more(X, y, classes, sample_weight))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class with the most votes for each row, (n,)."""
        votes = self._votes(X)
        return np.asarray(self.classes_[votes.argmax(1)])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (n, classes): the softmax of votes / ``temperature_``, at which the model learned."""
        votes = self._votes(X)
        probabilities: NDArray[np.float64] = softmax(votes / self.temperature_, axis=1)
        return probabilities

    def explain(self, x: ArrayLike, target: Any = None) -> Explanation:
        """Which tuples of inputs voted for and against a class, with a picture of where for an image.

        Args:
            x: one sample: (columns,), or an image (H, W).
            target: the class to explain; by default the one that is predicted.

        Returns:
            The explanation; ``print`` it or ``plot()`` it. Raises ``InvalidValueError`` for a class that is none.
        """
        packed = self._packed([x])
        block = self.encoder_.blocks(packed)
        votes = self.tables_.votes(block, 1)[0]
        labels = self.classes_.tolist()
        answer = labels[int(votes.argmax())] if target is None else target
        found = np.flatnonzero(self.classes_ == answer)
        if not len(found):
            raise InvalidValueError(f"target is {target!r}; the classes are {labels}")
        place = int(found[0])
        why, places = reasons(self.tables_, block[0], place, self.encoder_.names())
        counts = dict(zip(labels, votes.tolist(), strict=True))
        if not isinstance(self.encoder_, ImageEncoder):
            return Explanation(labels[place], counts, why)
        seen = self.encoder_.seen
        heat = folded(places.reshape(-1, *seen.grid).sum(0), seen.frame)
        return Explanation(labels[place], counts, why, heat, packed[0])

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> None:
        rows, targets = self._read(X, y, reset=True)
        check_classification_targets(targets)
        self.classes_, codes = np.unique(targets, return_inverse=True)
        self._fit(self._data(rows, codes, sample_weight))

    def _learn_more(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "tables_")
        rows, targets = self._read(X, y, reset=first)
        check_classification_targets(targets)
        if first:
            if classes is None:
                raise InvalidValueError("the first call of partial_fit needs classes: all that there will be")
            self.classes_ = np.unique(np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise InvalidValueError(f"classes are {classes}; in the first call they were {self.classes_}")
        if unknown := set(np.unique(targets).tolist()) - set(self.classes_.tolist()):
            raise InvalidValueError(f"y holds {sorted(unknown)}, which the first call did not name among the classes")
        self._fit_more(self._data(rows, np.searchsorted(self.classes_, targets), sample_weight))

    def _data(self, rows: NDArray[Any], codes: NDArray[np.int64], sample_weight: Any) -> Data:
        if self.classes_.dtype == np.longdouble:
            self.classes_ = self.classes_.astype(np.float64)
        chosen, weight = repeated(_check_sample_weight(sample_weight, rows, dtype=np.float64))
        names = getattr(self, "feature_names_in_", None)
        return Data(rows[chosen], codes[chosen].astype(np.int64), weight, len(self.classes_), log_loss, names)

    def _targets_to_dict(self) -> dict[str, Any]:
        if self.classes_.dtype.kind not in "biufUO" or not all(
            isinstance(c, bool | int | float | str) for c in self.classes_.tolist()
        ):
            raise InvalidDTypeError(f"classes are {self.classes_}; only numbers, truths and strings can be saved")
        return {"labels": self.classes_.tolist(), "dtype": self.classes_.dtype.str}

    def _targets_from_dict(self, data: dict[str, Any]) -> None:
        self.classes_ = np.array(data["labels"], data["dtype"])
