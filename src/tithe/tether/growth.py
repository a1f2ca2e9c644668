"""More nodes in a hidden layer, without changing what the model computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.chains import hidden_layers
from tithe.tether.scene import moments, spread

__all__ = ["How", "grow"]

How = Literal["zero", "split"]


@torch.no_grad()
def grow(
    model: nn.Module,
    layer: str,
    count: int,
    optimizer: Optimizer | None = None,
    generator: torch.Generator | None = None,
    *,
    how: How = "zero",
) -> None:
    """Add nodes to a hidden layer in place; the function stays.

    Parameters are replaced by larger ones, and the optimiser is told: its groups hold the new ones, its tensors of a
    parameter's shape grow with zeros (as for ``"split"``, nothing is known of the new entries). Gradients are dropped.

    Args:
        model: one that ``hidden_layers`` can follow at this layer.
        layer: its name.
        count: nodes to add, at least 1.
        optimizer: of the model; other optimisers of it hold the old parameters.
        generator: draws; ``None`` takes torch's own.
        how: ``"zero"`` draws incoming weights with the spread of those that are there, and outgoing ones are zero;
            ``"split"`` copies random nodes and divides their outgoing weights by the number of copies.

    Raises ``InvalidValueError`` for a layer or count that cannot be used, ``InvalidStateError`` where tethers are on
    the layers; the model is then as it was. O(weights of the layer and its reader). Source: MISSION T7; Chen et al.
    2016, arXiv:1511.05641 (Net2Net).

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> before = model(torch.ones(3))
    >>> grow(model, "0", 2)
    >>> model[0].weight.shape, model[2].weight.shape, torch.allclose(model(torch.ones(3)), before)
    (torch.Size([6, 3]), torch.Size([2, 6]), True)
    """
    if count < 1:
        raise InvalidValueError(f"count is {count}; use a number of nodes of at least 1")
    if how not in get_args(How):
        raise InvalidValueError(f"how is {how!r}; use 'zero' or 'split'")
    (hidden,) = hidden_layers(model, [layer])
    if not isinstance(hidden.layer, nn.Linear) and hidden.layer.groups != 1:
        raise InvalidValueError(f"{layer} has {hidden.layer.groups} groups; only layers with one can grow")
    for name, module in ((layer, hidden.layer), (hidden.reader_name, hidden.reader)):
        if parametrize.is_parametrized(module):
            raise InvalidStateError(f"{name} has tethers; detach them, grow, and attach them again")
    nodes = hidden.nodes
    copied = torch.randint(nodes, (count,), generator=generator, device=generator.device if generator else None)
    copied = copied.to(hidden.layer.weight.device)
    copies = torch.ones(nodes).to(copied.device).index_add_(0, copied, torch.ones(count).to(copied.device))
    split = how == "split"

    def rows(old: Tensor, fresh: Tensor) -> Tensor:
        return torch.cat([old, old[copied] if split else fresh])

    def drawn(old: Tensor) -> Tensor:
        kept = spread(old)
        width = kept.std or (1 / math.sqrt(3 * old[0].numel()) if old.ndim > 1 else 0.0)
        uniform = torch.rand(
            (count, *old.shape[1:]), generator=generator, device=generator.device if generator else None
        )
        return ((uniform * 2 - 1) * (math.sqrt(3) * width) + kept.mean).to(old)

    def zeros(old: Tensor) -> Tensor:
        return torch.cat([old, torch.zeros_like(old[:1]).expand(count, *old.shape[1:])])

    def columns(old: Tensor, *, moment: bool) -> Tensor:
        view = hidden.outgoing(old)
        if split and not moment:
            view = view / copies.to(old).view(-1, *[1] * (view.ndim - 2))
        new = (
            view[:, copied]
            if split and not moment
            else torch.zeros_like(view[:, :1].expand(-1, count, *view.shape[2:]))
        )
        return torch.cat([view, new], 1).flatten(1, 2)

    # The reader first: its view by nodes counts those that the layer has now.
    _replace(
        hidden.reader,
        "weight",
        lambda old: columns(old, moment=False),
        lambda old: columns(old, moment=True),
        optimizer,
    )
    _replace(hidden.layer, "weight", lambda old: rows(old, drawn(old)), zeros, optimizer)
    if hidden.layer.bias is not None:
        _replace(hidden.layer, "bias", lambda old: rows(old, drawn(old)), zeros, optimizer)
    for norm in hidden.norms:
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            if getattr(norm, name) is not None:
                fresh = torch.full((count,), value).to(getattr(norm, name))
                _replace(norm, name, lambda old, fresh=fresh: rows(old, fresh), zeros, optimizer)  # type: ignore[misc]
        norm.num_features += count
    if isinstance(hidden.layer, nn.Linear):
        hidden.layer.out_features += count
    else:
        hidden.layer.out_channels += count
    if isinstance(hidden.reader, nn.Linear):
        hidden.reader.in_features = hidden.reader.weight.shape[1]
    else:
        hidden.reader.in_channels += count


def _replace(
    module: nn.Module,
    name: str,
    larger: Callable[[Tensor], Tensor],
    larger_moment: Callable[[Tensor], Tensor],
    optimizer: Optimizer | None,
) -> None:
    """Put a larger tensor in the place of a parameter or buffer, in the optimiser too."""
    old = getattr(module, name)
    new = larger(old.detach()).contiguous()
    if not isinstance(old, nn.Parameter):
        setattr(module, name, new)
        return
    parameter = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, parameter)
    if optimizer is None:
        return
    following = {id(moment) for moment in moments(optimizer, old)}
    for group in optimizer.param_groups:
        group["params"] = [parameter if p is old else p for p in group["params"]]
    if old in optimizer.state:
        state = optimizer.state.pop(old)
        optimizer.state[parameter] = {
            key: larger_moment(x).contiguous() if id(x) in following else x for key, x in state.items()
        }
