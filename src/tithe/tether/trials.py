"""What the weights of one model do on the data of another: losses, and whether both have learned the same features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tithe.tether.compatibility import compatibility
from tithe.tether.members import Loss, tensors_of
from tithe.tether.modes import evaluating

__all__ = ["agreement_of_features", "features", "loss_on", "output_layer"]

_LEAST_SAMPLES = 4  # that a comparison of features needs


@torch.no_grad()
def loss_on(model: nn.Module, loss: Loss, batches: Sequence[Any]) -> float:
    """The mean loss over some batches (inputs, targets), in evaluation mode; NaN without any. O(forward passes).

    >>> model = nn.Linear(1, 1)
    >>> loss_on(model, nn.functional.mse_loss, [])
    nan
    """
    if not batches:
        return math.nan
    with evaluating(model):
        return sum(float(loss(model(x), y)) for x, y in batches) / len(batches)


def output_layer(model: nn.Module) -> str:
    """The name of the last module with a weight of two and more axes, empty for the model itself. O(modules).

    >>> output_layer(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(-1)))
    '2'
    """
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    return names[-1].rpartition(".")[0].partition(".parametrizations")[0].partition("parametrizations")[0]


@torch.no_grad()
def features(model: nn.Module, tensors: Mapping[str, Tensor], batches: Sequence[Any]) -> Tensor:
    """What the output layer sees, with other weights and buffers than the model's own.

    Args:
        model: is not changed.
        tensors: some of its parameters and buffers by name; the others are its own.
        batches: (inputs, targets).

    Returns:
        (samples, features). O(forward passes).

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> features(model, {"0.weight": torch.ones(1, 1), "0.bias": torch.zeros(1)}, [(torch.ones(2, 1), None)])
    tensor([[1.],
            [1.]])
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].flatten(1))

    hook = model.get_submodule(output_layer(model)).register_forward_pre_hook(keep)
    try:
        with evaluating(model):
            for x, _ in batches:
                functional_call(model, {**tensors_of(model), **tensors}, (x,))
    finally:
        hook.remove()
    return torch.cat(seen)


def agreement_of_features(
    models: Sequence[nn.Module], before: Sequence[Mapping[str, Tensor]], data: Sequence[Sequence[Any]]
) -> Tensor:
    """Whether models have learned the same features: CKA of what changed in them since some earlier weights.

    Two models that learn one task under different labels change their features alike, those that see other inputs do
    not; weights and their updates do not tell the two cases apart.

    Args:
        models: of one architecture, or at least with inputs of one kind.
        before: for each, the tensors by name as they were.
        data: for each, batches (inputs, targets) of its own.

    Returns:
        Symmetric, (M, M), 1 on the diagonal; −∞ where there are too few samples or inputs do not fit.
        O(M² forward passes).
    """
    count = len(models)
    found = torch.eye(count)
    for j in range(count):
        changes = [_change(models[i], before[i], data[j]) for i in range(count)]
        for i in range(count):
            if i != j:
                one, other = changes[i], changes[j]
                known = one is not None and other is not None and len(one) >= _LEAST_SAMPLES
                found[i, j] = compatibility(one, other, "cka") if known else -math.inf  # type: ignore[arg-type]
    return (found + found.T) / 2


def _change(model: nn.Module, before: Mapping[str, Tensor], batches: Sequence[Any]) -> Tensor | None:
    try:
        return features(model, {}, batches) - features(model, before, batches) if batches else None
    except RuntimeError:  # shapes of another kind of input
        return None
