"""What members need to form a population: tensors in common, one beginning, and a way to step together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from tithe.errors import InvalidValueError
from tithe.tether.compatibility import matched
from tithe.tether.members import Loss, MakeOptimizer, Members, Separate, Stacked, tensors_of

__all__ = ["copy_tensors", "first_difference", "formed", "shared_tensors"]


def shared_tensors(models: Sequence[nn.Module]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names that all members have in one shape, and the others with the reason.

    Raises ``InvalidValueError`` where there are none. O(models · tensors).

    >>> shared_tensors([nn.Linear(2, 1), nn.Linear(3, 1)])
    (('bias',), {'weight': 'shapes (1, 2) and (1, 3)'})
    """
    first = tensors_of(models[0])
    left_out: dict[str, str] = {}
    names = list(first)
    for model in models[1:]:
        found = matched(first, tensors_of(model))
        left_out |= found.left_out
        names = [name for name in names if name in found.names]
    if not names:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InvalidValueError(f"the members have no tensor in common by name and shape ({why})")
    return tuple(names), left_out


def first_difference(models: Sequence[nn.Module], names: Sequence[str]) -> str:
    """The first of some tensors that is not the same in all models; empty where there is none. O(entries).

    >>> first_difference([nn.Linear(2, 1), nn.Linear(2, 1)], ["weight"])
    'weight'
    """
    first = tensors_of(models[0])
    for model in models[1:]:
        other = tensors_of(model)
        for name in names:
            if not torch.equal(first[name].cpu(), other[name].cpu()):
                return name
    return ""


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], models: Iterable[nn.Module], names: Iterable[str]) -> None:
    """Write some tensors into models. O(models · entries).

    >>> model = nn.Linear(2, 1)
    >>> copy_tensors({"weight": torch.ones(1, 2)}, [model], ["weight"])
    >>> model.weight.tolist()
    [[1.0, 1.0]]
    """
    for model in models:
        target = tensors_of(model)
        for name in names:
            target[name].copy_(source[name])


def formed(models: Sequence[nn.Module], loss: Loss, make: MakeOptimizer, vectorised: bool | None) -> Members:
    """The members stacked, so that they step together, where they can be; else one by one.

    Raises ``InvalidValueError`` where ``vectorised`` is asked for and cannot be. O(parameters).
    """
    if vectorised is False:
        return Separate(models, loss, make)
    if vectorised or not Stacked.unfit(models):
        try:
            return Stacked(models, loss, make)
        except InvalidValueError:
            if vectorised:
                raise
    return Separate(models, loss, make)
