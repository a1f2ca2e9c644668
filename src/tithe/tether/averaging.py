"""One state out of several: averages, weighted and spherical, of weights and of what an optimiser remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tithe.errors import InvalidValueError

__all__ = ["Average", "average"]

Average = Literal["average", "spherical"]


@torch.no_grad()
def average(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None, how: Average = "average"
) -> dict[str, Tensor]:
    """The average of some models' tensors.

    Only models that began alike, or were aligned, lie in one valley: the average of others is worse than each.

    Args:
        states: tensors by name, the same names and shapes in each; those that are no floating-point or complex numbers
            (counts) come from the first.
        weights: of each state, not negative; equal by default. States of weight 0 are not looked at, NaN or not.
        how: ``"average"`` entry by entry; ``"spherical"``: the direction of the mean with the mean norm, tensor by
            tensor, so that weights do not shrink where models disagree. Where they cancel out, it stays the mean.

    Returns:
        New tensors of the first one's dtypes; sums are in float32 at least. Raises ``InvalidValueError`` where names,
        shapes or weights do not fit. O(models · entries). Source: MISSION T4; Wortsman et al. 2022 (soups), Shoemake
        1985 (two states of one norm and equal weights: the middle of a spherical interpolation).

    >>> average([{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}])["w"]
    tensor([0.5000, 0.5000])
    >>> average([{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}], how="spherical")["w"]
    tensor([0.7071, 0.7071])
    """
    if how not in get_args(Average):
        raise InvalidValueError(f"how is {how!r}; use one of {', '.join(map(repr, get_args(Average)))}")
    shares = _shares(len(states), weights)
    _check(states)
    counted = [(share, state) for share, state in zip(shares, states, strict=True) if share]
    found = {}
    for name, first in states[0].items():
        if _counts(first):
            found[name] = first.clone()
            continue
        wide = torch.promote_types(first.dtype, torch.float32)
        mean = torch.zeros_like(first, dtype=wide)
        for share, state in counted:
            mean += share * state[name].to(first.device, wide)
        if how == "spherical":
            size = sum(share * _norm(state[name]) for share, state in counted)
            norm = _norm(mean)
            mean *= torch.where(norm > 1e-6 * size, size / norm, 1.0)  # below, the direction is but rounding
        found[name] = mean.to(first.dtype)
    return found


def _norm(x: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float64))
    return found


def _counts(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex())


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    total = sum(given)
    if not count or len(given) != count or min(given) < 0 or not 0 < total < float("inf"):
        wanted = "give one or more states, and a finite weight of at least 0 for each, not all 0"
        raise InvalidValueError(f"weights are {given} for {count} states; {wanted}")
    return [weight / total for weight in given]


def _check(states: Sequence[Mapping[str, Tensor]]) -> None:
    first = states[0]
    for number, state in enumerate(states):
        if state.keys() != first.keys():
            other = ", ".join(sorted(state.keys() ^ first.keys()))
            raise InvalidValueError(f"state {number} has other tensors than the first: {other}")
        for name, tensor in state.items():
            if tensor.shape != first[name].shape:
                shapes = f"{tuple(tensor.shape)} and {tuple(first[name].shape)}"
                raise InvalidValueError(f"{name} has the shapes {shapes} in state {number} and in the first")
            if _counts(tensor) != _counts(first[name]) or tensor.is_complex() != first[name].is_complex():
                dtypes = f"{tensor.dtype} and {first[name].dtype}"
                raise InvalidValueError(f"{name} has the dtypes {dtypes} in state {number} and in the first")
