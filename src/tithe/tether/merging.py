"""What a decision does to weights: several members become one, one takes over another's, or they are pushed apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tithe.tether.averaging import Average, average

__all__ = ["adopt", "distance", "merge", "repel"]

State = Mapping[str, Tensor]


@torch.no_grad()
def merge(states: Sequence[State], weights: Sequence[float] | None = None, how: Average = "average") -> None:
    """Write the average of what all states have into each of them. O(states · entries).

    >>> a, b = {"w": torch.zeros(2)}, {"w": torch.ones(2), "other": torch.ones(1)}
    >>> merge([a, b])
    >>> a["w"], b["w"]
    (tensor([0.5000, 0.5000]), tensor([0.5000, 0.5000]))
    """
    common = set.intersection(*(set(state) for state in states))
    merged = average([{n: t for n, t in state.items() if n in common} for state in states], weights, how)
    for state in states:
        for name, tensor in merged.items():
            state[name].copy_(tensor)


@torch.no_grad()
def adopt(state: State, teacher: State) -> None:
    """Overwrite a state with another; what that does not have (moments of an optimiser) becomes 0. O(entries).

    >>> pupil = {"w": torch.zeros(2), "w/momentum": torch.ones(2)}
    >>> adopt(pupil, {"w": torch.ones(2)})
    >>> pupil["w"], pupil["w/momentum"]
    (tensor([1., 1.]), tensor([0., 0.]))
    """
    for name, tensor in state.items():
        tensor.copy_(teacher.get(name, torch.zeros_like(tensor)))


@torch.no_grad()
def repel(state: State, others: Sequence[State], share: float, most_distance: float) -> None:
    """Push a state away from the mean of others, by a share of its distance, up to a bounded one.

    Args:
        state: is changed in place.
        others: of the same names; not empty.
        share: of the distance, that is added.
        most_distance: as a share of the state's norm, up to which it is pushed.

    O(states · entries). Source: MISSION T4, which asks for drift and has none.

    >>> state = {"w": torch.tensor([1.0, 0.0])}
    >>> repel(state, [{"w": torch.tensor([0.8, 0.0])}], share=0.5, most_distance=1.0)
    >>> state["w"]
    tensor([1.1000, 0.0000])
    """
    mean = average(others)
    numbers = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    away, size = distance(numbers, mean), distance(numbers, {})
    push = min(share, max(0.0, most_distance * size - away) / away) if away else 0.0
    for name, tensor in numbers.items():
        tensor.add_((tensor - mean[name]) * push)


def distance(a: State, b: State) -> float:
    """The Euclidean distance of two states, over the floating-point tensors of the first; absent ones are 0.

    >>> distance({"w": torch.tensor([3.0, 4.0])}, {})
    5.0
    """
    squares = [
        float((t.float() - (b[n].float() if n in b else 0.0)).square().sum())
        for n, t in a.items() if t.is_floating_point()
    ]  # fmt: skip
    return math.sqrt(sum(squares))
