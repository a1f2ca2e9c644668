"""What the JSON of a saved model may hold: every part has its types and ranges, and then the parts must fit together.

What an encoder holds is checked where it is built, in ``encoders``; arrays are checked in ``saving``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from tithe.errors import CorruptFileError

__all__ = ["check_model", "need"]

_MOST_CELLS = 1 << 16  # of a table
_MOST_CLASSES = 1 << 20
_MOST = 1 << 31  # passes, columns, pixels
_EXTREME = 1e200  # temperatures lie between its inverse and it
_DTYPES = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|O|U(\d{1,9}))")  # of classes
_LONGEST = 4096  # characters for which a dtype may have room though no class is as long
_PLAIN = (bool, int, float, str, type(None))


def check_model(model: Any) -> None:
    """Raise ``CorruptFileError`` where a model, as JSON gives it, is none that an estimator saves; O(size).

    A field that is not there is a ``KeyError``.

    >>> check_model([1])
    Traceback (most recent call last):
    tithe.errors.CorruptFileError: it has a list for a model
    """
    need(isinstance(model, dict), f"a {type(model).__name__} for a model")
    for name, least, most in (
        ("cells", 2, _MOST_CELLS), ("classes", 1, _MOST_CLASSES), ("n_iter", 0, _MOST), ("features", 1, _MOST),
    ):  # fmt: skip
        need(_is_whole(model[name], least, most), f"{name} {_shown(model[name])}; {least} to {most} are possible")
    temperature = model["temperature"]
    need(_is_finite(temperature) and 1 / _EXTREME <= temperature <= _EXTREME, f"temperature {_shown(temperature)}")
    need(_are_params(model["params"]), f"params {_shown(model['params'])}")
    names = model["feature_names"]
    need(_are(names, str), f"feature_names {_shown(names)}")
    need("labels" in model or "values" in model, "neither labels nor values for its classes")
    if "labels" in model:
        _check_labels(model["labels"], model["dtype"], model["classes"])
    if "values" in model:
        _check_values(model["values"], model["thresholds"], model["classes"])
    read = _columns(model["encoder"])
    need(read == model["features"], f"{model['features']} features and an encoder of {read}")
    need(len(names) in (0, read), f"{len(names)} feature_names for {read} features")


def need(holds: Any, otherwise: str) -> None:
    """Raise ``CorruptFileError`` unless something holds."""
    if not holds:
        raise CorruptFileError(f"it has {otherwise}")


def _check_labels(labels: Any, dtype: Any, classes: int) -> None:
    """Classes in ascending order, of a dtype that holds each of them as it is, and hardly more."""
    need(
        _are(labels, bool, int, float, str) and len(labels) == classes, f"labels {_shown(labels)} for {classes} classes"
    )
    kind = _DTYPES.fullmatch(dtype) if isinstance(dtype, str) else None
    need(kind, f"classes of dtype {_shown(dtype)}; numbers, truths, strings and objects are possible")
    if kind and kind[1]:
        longest = max(len(str(label)) for label in labels)
        need(int(kind[1]) <= max(_LONGEST, longest), f"classes of dtype {dtype}, of {longest} characters at most")
    held = np.array(labels, dtype).tolist()
    need(held == labels and all(a < b for a, b in pairwise(labels)), f"labels {_shown(labels)}, not ascending {dtype}")


def _check_values(values: Any, thresholds: Any, classes: int) -> None:
    """The mean target of each class, and what lies between them, ascending."""
    for name, found, count in (("values", values, classes), ("thresholds", thresholds, classes - 1)):
        right = _are(found, int, float) and all(map(_is_finite, found)) and len(found) == count
        need(right, f"{name} {_shown(found)} for {classes} classes")
    need(all(a < b for a, b in pairwise(thresholds)), f"thresholds {_shown(thresholds)}, not ascending")


def _columns(encoder: Any) -> int:
    """How many columns, or pixels, an encoder reads."""
    need(isinstance(encoder, Mapping), f"{_shown(encoder)} for an encoder")
    if encoder["kind"] != "image":
        need(isinstance(encoder["columns"], list), f"columns {_shown(encoder['columns'])}")
        return len(encoder["columns"])
    shape = encoder["seen"]["shape"]
    need(_are(shape, int) and len(shape) == 2 and all(_is_whole(edge, 1, _MOST) for edge in shape),
         f"images of shape {_shown(shape)}")  # fmt: skip
    return math.prod(shape)


def _are_params(params: Any) -> bool:
    """Whether these are parameters by name, each plain or a list of plain ones."""
    return isinstance(params, dict) and all(
        isinstance(value, _PLAIN) or _are(value, *_PLAIN) for value in params.values()
    )


def _are(found: Any, *kinds: type) -> bool:
    return isinstance(found, list) and all(type(entry) in kinds for entry in found)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # a NaN is not


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
