"""What differs between two states of a population, tensor by tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tithe.tether.bookmarks import States

__all__ = ["Change", "Difference", "difference"]


@dataclass(frozen=True)
class Change:
    """How far a tensor is from what it was.

    Attributes:
        relative: norm of the difference by the norm of the first; ∞ where only the first is 0, 0 where both are.
        largest: difference of an entry.
    """

    relative: float
    largest: float


@dataclass(frozen=True)
class Difference:
    """What differs between two bookmarks.

    Attributes:
        changes: of each tensor that both have in one shape, by name, by member.
        shapes: in the first and in the second, of those whose shapes differ, by name, by member.
        only_first: names of tensors that the second has not, by member; a member that is missing has an entry.
        only_second: names of tensors that the first has not, likewise.
    """

    changes: dict[str, dict[str, Change]]
    shapes: dict[str, dict[str, tuple[tuple[int, ...], tuple[int, ...]]]]
    only_first: dict[str, tuple[str, ...]]
    only_second: dict[str, tuple[str, ...]]


def difference(first: States, second: States) -> Difference:
    """What differs between two states, member by member and tensor by tensor, in float64.

    Args:
        first: tensors by name, by member.
        second: likewise.

    Returns:
        The difference; NaN where a tensor has one. O(entries).

    >>> difference({"a": {"w": torch.ones(4), "v": torch.ones(1)}}, {"a": {"w": torch.zeros(4)}, "b": {}})
    Difference(changes={'a': {'w': Change(relative=1.0, largest=1.0)}}, shapes={}, only_first={'a': ('v',)},
    only_second={'b': ()})
    """
    changes: dict[str, dict[str, Change]] = {member: {} for member in first if member in second}
    shapes: dict[str, dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    for member, found in changes.items():
        for name, x in first[member].items():
            y = second[member].get(name)
            if y is not None and x.shape == y.shape:
                found[name] = _change(x, y)
            elif y is not None:
                shapes.setdefault(member, {})[name] = (tuple(x.shape), tuple(y.shape))
    return Difference(changes, shapes, _only(first, second), _only(second, first))


def _only(first: States, second: States) -> dict[str, tuple[str, ...]]:
    missing = {m: tuple(name for name in state if name not in second.get(m, {})) for m, state in first.items()}
    return {member: names for member, names in missing.items() if names or member not in second}


def _change(first: Tensor, second: Tensor) -> Change:
    difference = _subtracted(second, first).abs().flatten()
    size, norm = float(_wide(first).norm()), float(difference.norm())
    relative = norm / size if size else (math.inf if norm else norm)
    return Change(relative, float(difference.max()) if len(difference) else 0.0)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).flatten()


def _subtracted(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == b.dtype == torch.int64:  # float64 alone would not tell large neighbours apart
        high, low = (a >> 32) - (b >> 32), (a & 0xFFFFFFFF) - (b & 0xFFFFFFFF)
        return high.double() * 2**32 + low.double()
    return _wide(a) - _wide(b)
