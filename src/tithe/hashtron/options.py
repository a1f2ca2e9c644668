"""What a user may choose, checked before anything is learned."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from tithe.errors import InvalidValueError
from tithe.hashtron.designs import allowed
from tithe.hashtron.tuples.warps import warps_named

__all__ = ["Options", "checked"]

_WIDEST = 16  # bits of a tuple


@dataclass(frozen=True)
class Options:
    """The arguments of ``HashtronClassifier``, some of which ``HashtronRegressor`` has not."""

    preset: str | int
    image_shape: tuple[int, int] | None
    deskew: bool
    augment: bool | str
    epochs: int | None
    tuple_bits: int | None
    temperature: float | None
    categorical: list[int | str] | None
    text: list[int | str] | None
    missing: Literal["error", "level"]
    early_stopping: bool
    validation_fraction: float
    n_jobs: int | None
    verbose: int
    loss: str = "softmax"
    calibrate: bool = False


def checked(parameters: Mapping[str, Any]) -> Options:
    """The options among the parameters of an estimator; ``InvalidValueError`` where one cannot be, which is named."""
    known = {field.name for field in fields(Options)}
    found = {name: value for name, value in parameters.items() if name in known}
    allowed(found["preset"])
    for name in ("deskew", "early_stopping", "calibrate"):
        if name in found:
            _need(isinstance(found[name], bool | np.bool_), name, found[name], "True or False")
    if isinstance(found["augment"], np.bool_):
        found["augment"] = bool(found["augment"])
    warps_named(found["augment"])
    for name, most in (("epochs", 10**6), ("tuple_bits", _WIDEST)):
        valid = found[name] is None or (_whole(found[name]) and 1 <= found[name] <= most)
        _need(valid, name, found[name], f"a whole number from 1 to {most}, or None")
    heat = found["temperature"]
    _need(heat is None or (_real(heat) and 0 < heat < math.inf), "temperature", heat, "a positive number, or None")
    share = found["validation_fraction"]
    _need(_real(share) and 0 < share < 1, "validation_fraction", share, "a number between 0 and 1, for instance 0.1")
    _need(found["missing"] in ("error", "level"), "missing", found["missing"], "'error' or 'level'")
    _need(found.get("loss", "softmax") in ("softmax", "hinge"), "loss", found.get("loss"), "'softmax' or 'hinge'")
    jobs = found["n_jobs"]
    _need(jobs is None or (_whole(jobs) and jobs), "n_jobs", jobs, "a number of threads, -1 for all cores, or None")
    _need(isinstance(found["verbose"], numbers.Real | np.bool_), "verbose", found["verbose"], "0 or 1")
    found["image_shape"] = _shape(found["image_shape"])
    found |= {name: _columns(name, found[name]) for name in ("categorical", "text")}
    return Options(**found)


def _need(valid: Any, name: str, value: Any, expected: str) -> None:
    if not valid:
        raise InvalidValueError(f"{name} is {repr(value)[:80]}; use {expected}")


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _shape(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = list(value) if isinstance(value, tuple | list | np.ndarray) else []
    valid = len(pair) == 2 and all(_whole(edge) and edge >= 1 for edge in pair)
    _need(valid, "image_shape", value, "a height and a width in pixels, for instance (28, 28), or None")
    return int(pair[0]), int(pair[1])


def _columns(name: str, value: Any) -> list[int | str] | None:
    if value is None:
        return None
    listed: list[Any] = list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [None]
    listed = [entry.item() if isinstance(entry, np.generic) else entry for entry in listed]
    valid = all(isinstance(entry, str) or _whole(entry) for entry in listed)
    _need(valid, name, value, "a list of column numbers and names, or None")
    return listed
