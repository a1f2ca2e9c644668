"""States of optimisers with parameters by name, so that it can be told whether one fits another model's."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["misfit", "named_state", "native_state"]


def named_state(optimizer: Optimizer, names: Mapping[Tensor, str]) -> dict[str, Any]:
    """The state dict of an optimiser, with names for the numbers of its parameters, and its kind; as it is, no copy.

    Args:
        optimizer: any.
        names: of its parameters; others are called by their number.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> state = named_state(torch.optim.SGD([weight], lr=0.1), {weight: "w"})
    >>> state["kind"], state["param_groups"][0]["params"]
    ('SGD', ['w'])
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    order = [names.get(parameter, f"#{number}") for number, parameter in enumerate(parameters)]
    native = optimizer.state_dict()
    return {
        **native,
        "kind": type(optimizer).__name__,
        "state": {order[key] if isinstance(key, int) else key: value for key, value in native["state"].items()},
        "param_groups": [{**g, "params": [order[number] for number in g["params"]]} for g in native["param_groups"]],
    }


def native_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Optimizer.load_state_dict`` takes, from what ``named_state`` gave; names may be anything hashable."""
    order: list[Hashable] = [name for group in state["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(order)}
    return {
        **{key: value for key, value in state.items() if key != "kind"},
        "state": {numbers.get(name, name): value for name, value in state["state"].items()},
        "param_groups": [{**g, "params": [numbers[name] for name in g["params"]]} for g in state["param_groups"]],
    }


def misfit(given: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Why an optimiser cannot go on from a state of another; empty where it can. O(parameters).

    >>> kind = {"kind": "SGD", "state": {}, "param_groups": [{"params": ["w"]}]}
    >>> misfit(kind, kind), misfit({**kind, "kind": "Adam"}, kind)
    ('', 'its optimiser is Adam, here it is SGD')
    """
    if lacking := [key for key in ("kind", "state", "param_groups") if key not in given]:
        return f"its optimiser lacks {', '.join(lacking)}"
    if given["kind"] != own["kind"]:
        return f"its optimiser is {given['kind']}, here it is {own['kind']}"
    groups, expected = ([list(group["params"]) for group in state["param_groups"]] for state in (given, own))
    return "" if groups == expected else f"its optimiser has the parameters {groups}, here it has {expected}"
