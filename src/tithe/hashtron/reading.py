"""X as a caller gives it, as rows or images: arrays, frames, tensors, lists that mix numbers and strings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["read"]


def read(
    estimator: Any, X: Any, y: Any, shape: tuple[int, int] | None, *, reset: bool, **checks: Any
) -> tuple[NDArray[Any], Any]:
    """X as rows (n, columns) or images (n, H, W), and y; scikit-learn checks both.

    Args:
        estimator: whose ``n_features_in_`` and ``feature_names_in_`` are set with ``reset``, and else compared.
        X: (n, columns), or images (n, H, W).
        y: targets, ``None``, or ``"no_validation"``.
        shape: (H, W), where the rows of X are images.
        reset: whether X is to learn from.
        checks: what else ``validate_data`` is told.

    Raises ``ValueError`` for shapes and values that cannot be used, ``TypeError`` for types.
    """
    if isinstance(X, list | tuple):
        X = np.array(X, object) if _holds_strings(X) else np.asarray(X)
    if getattr(X, "ndim", 2) == 3 and (reset or shape is not None):
        X = np.asarray(X)
        if shape is not None and shape != X.shape[1:]:
            raise InvalidValueError(f"X holds images of {X.shape[1:]} pixels (height, width), expected {shape}")
        shape, X = X.shape[1:], X.reshape(len(X), -1)
    if getattr(getattr(X, "dtype", None), "kind", None) in ("m", "M"):
        raise InvalidDTypeError(f"X holds {X.dtype}, dates or times: convert it to numbers, say days")
    found = validate_data(estimator, X, y, reset=reset, dtype=None, ensure_all_finite="allow-nan", **checks)
    X, y = found if isinstance(found, tuple) else (found, None)
    return (X if shape is None else _as_images(X, shape)), y


def _as_images(X: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    height, width = shape
    if X.shape[1] != height * width:
        raise InvalidValueError(f"image_shape {shape} needs {height * width} columns, X has {X.shape[1]}")
    if X.dtype.kind not in "buif":
        try:
            X = X.astype(np.float64)
        except (OverflowError, TypeError, ValueError) as error:
            raise InvalidDTypeError(f"X holds {X.dtype}, not grey values: give images of numbers") from error
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        raise InvalidValueError("X holds NaN or infinity; the pixels of an image cannot be missing: fill them in")
    return X.reshape(-1, height, width)


def _holds_strings(X: Any) -> bool:
    """Whether rows in lists hold strings, which NumPy would make of the numbers beside them, too."""
    return any(isinstance(value, str) for row in X if isinstance(row, list | tuple) for value in row)
