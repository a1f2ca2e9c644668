"""Calls that ``torch.compile`` leaves as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

__all__ = ["opaque"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def opaque(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``function``, run as plain Python where it is called from compiled code: the graph ends before and begins after.

    The compiler is not imported before it is at work. O(1).

    >>> opaque(len)([1, 2])
    2
    """

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if torch.compiler.is_compiling():
            uncompiled: Callable[_P, _R] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return uncompiled(*args, **kwargs)
        return function(*args, **kwargs)

    return call
