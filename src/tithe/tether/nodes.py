"""Tether nodes: how important each node of a network is, and which of each layer are the most important ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tithe.errors import InvalidValueError
from tithe.tether.modes import evaluating

__all__ = ["importance", "layers_with_nodes", "tether_nodes"]

Score = Callable[[str, Tensor, Tensor, Tensor], Tensor]
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


def importance(
    model: nn.Module,
    x: Any,
    y: Any = None,
    loss: Callable[..., Tensor] | None = None,
    how: Literal["gradient", "weight"] | Score = "gradient",
) -> dict[str, Tensor]:
    """One number for each node of each layer: how much it matters to the loss of a batch.

    Nodes are the outputs of a Linear, the channels of a convolution and the rows of an Embedding. The model is run once
    in evaluation mode; its modes, gradients and buffers stay as they are.

    Args:
        model: any module.
        x: a batch of inputs, or a tuple of several; not looked at for ``"weight"``.
        y: targets.
        loss: of outputs and targets (of outputs alone where ``y`` is ``None``), a scalar. By default cross-entropy for
            integer targets, squared error for others, and without targets the mean square of the outputs.
        how: ``"gradient"``: mean |activation × gradient| over samples and positions; ``"weight"``: norm of the incoming
            weights; or a function of name, weight, activation and gradient, both (samples, nodes), to (nodes,). Of an
            Embedding these are its weight and what the lookups' gradients sum up to, transposed: (features, rows).

    Returns:
        Tensors (nodes,) by layer, in the order of definition. A layer that the batch does not reach has zeros. Numbers
        of different layers have different scales. Raises ``InvalidValueError`` where there is no layer or the loss is
        no scalar. O(a forward and a backward pass). Source: MISSION T5; Molchanov et al. 2019, arXiv:1906.10771.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    >>> importance(model, None, how="weight")["0"]
    tensor([5., 1.])
    """
    layers = layers_with_nodes(model)
    if not layers:
        raise InvalidValueError(f"{type(model).__name__} has no Linear, convolution or Embedding")
    if how == "weight":
        return {name: layer.weight.detach().flatten(1).norm(dim=1) for name, layer in layers.items()}
    if isinstance(how, str) and how != "gradient":
        raise InvalidValueError(f"how is {how!r}; use 'gradient', 'weight' or a function")
    found = {}
    for name, (activation, gradient) in _seen(model, layers, x, y, loss).items():
        weight = layers[name].weight.detach()
        if callable(how):
            found[name] = how(name, weight, activation, gradient)
        else:
            found[name] = (activation.float() * gradient.float()).abs().mean(0)
        if found[name].shape != weight.shape[:1]:
            raise InvalidValueError(
                f"how gives shape {tuple(found[name].shape)} for {name!r}, which has {len(weight)} nodes"
            )
    return found


def tether_nodes(importance: Mapping[str, Tensor], share: float = 0.1) -> dict[str, Tensor]:
    """The most important nodes of each layer.

    Args:
        importance: (nodes,) by layer, as ``importance`` gives it; NaN counts as least.
        share: of a layer's nodes, in (0, 1]; at least one is taken, and of equals the first.

    Returns:
        Ascending indices by layer, int64, on the CPU. O(nodes · log nodes). Source: MISSION T5.

    >>> tether_nodes({"fc": torch.tensor([0.1, 0.9, 0.2, 0.8])}, share=0.5)
    {'fc': tensor([1, 3])}
    """
    if not 0 < share <= 1:
        raise InvalidValueError(f"share is {share}; use a part of the nodes in (0, 1]")
    found = {}
    for name, values in importance.items():
        if values.ndim != 1:
            raise InvalidValueError(f"importance of {name} has shape {tuple(values.shape)}; use one number a node")
        numbers = (
            values.detach().cpu().double().nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
        )
        count = max(1, round(share * len(numbers)))
        found[name] = numbers.argsort(descending=True, stable=True)[:count].sort().values
    return found


def layers_with_nodes(model: nn.Module) -> dict[str, Any]:
    """The layers whose outputs (of an Embedding: rows) are nodes, by name; each has a weight with a row a node.

    >>> list(layers_with_nodes(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))))
    ['0', '2']
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)}


def _seen(
    model: nn.Module, layers: Mapping[str, Any], x: Any, y: Any, loss: Callable[..., Tensor] | None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Activations and gradients of each layer, (samples, nodes), of one pass in evaluation mode."""
    calls: list[tuple[str, Tensor, Tensor]] = []
    probes: list[Tensor] = []

    def listen(name: str) -> Callable[..., Tensor]:
        def hear(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            probes.append(torch.zeros_like(output, requires_grad=True))  # gives gradients where weights are frozen, too
            calls.append((name, args[0] if args else kwargs["input"], output.detach()))
            return output + probes[-1]

        return hear

    handles = [layer.register_forward_hook(listen(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with evaluating(model), torch.enable_grad():  # dropout and statistics of BatchNorm have no part in this
            value = _loss(model(*x) if isinstance(x, tuple) else model(x), y, loss)
            gradients = torch.autograd.grad(value, probes, allow_unused=True, materialize_grads=True)
    finally:
        for handle in handles:
            handle.remove()
    heard: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in layers}
    for (name, entered, output), gradient in zip(calls, gradients, strict=True):
        heard[name].append((entered, output, gradient))
    return {name: _by_node(layers[name], parts) for name, parts in heard.items()}


def _loss(outputs: Any, y: Any, loss: Callable[..., Tensor] | None) -> Tensor:
    if loss is not None:
        value = loss(outputs) if y is None else loss(outputs, y)
    elif not isinstance(outputs, Tensor):
        raise InvalidValueError(f"the model puts out a {type(outputs).__name__}; pass a loss of it")
    elif y is None:
        value = outputs.square().mean()
    else:
        value = (functional.mse_loss if y.is_floating_point() else functional.cross_entropy)(outputs, y)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise InvalidValueError("the loss is no scalar tensor that depends on a layer's outputs")
    return value


def _by_node(layer: Any, parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach()
    if not parts:
        return weight.new_zeros(1, len(weight)), weight.new_zeros(1, len(weight))
    if isinstance(layer, nn.Embedding):
        total = torch.zeros_like(weight)
        for entered, _, gradient in parts:
            total.index_add_(0, entered.flatten(), gradient.reshape(-1, weight.shape[1]).to(total))
        return weight.T, total.T
    axis = -1 if isinstance(layer, nn.Linear) else 1 - weight.ndim
    flat = [[tensor.movedim(axis, -1).reshape(-1, len(weight)) for tensor in part[1:]] for part in parts]
    return torch.cat([part[0] for part in flat]), torch.cat([part[1] for part in flat])
