"""Hidden nodes of one model put in the order of another's, so that the average of both is a model again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.chains import Hidden, hidden_layers
from tithe.tether.scene import moments

__all__ = ["align"]

_ENOUGH = 1e-12  # of the weights' norms: a gain below this is rounding
Weights = dict[str, Tensor]  # of the chain, in float64, by name


@torch.no_grad()
def align(
    model: nn.Module,
    reference: nn.Module,
    *,
    iterations: int = 50,
    generator: torch.Generator | None = None,
    optimizer: Optimizer | None = None,
) -> nn.Module:
    """Permute the hidden nodes of a model in place so that its weights match a reference best; the function stays.

    Weight matching: one layer after the other gets the permutation that is best while the others stay, until nothing
    is gained. This is done from the order that the model has and from one found layer by layer from the input on; the
    better end is taken. A permuted copy is put back exactly, as long as no two nodes have the same incoming weights.
    Other models come to a local optimum, and averages are the better the wider the layers are. The statistics of
    BatchNorm must be measured anew in an average.

    Args:
        model: a chain that ``hidden_layers`` can follow: Linear and convolutions, with activations, BatchNorm, pooling,
            dropout and ``Flatten`` between. Parameters stay the objects that they are.
        reference: one of the same layers, on any device; it is not changed.
        iterations: sweeps over the layers at most.
        generator: draws the order of the layers in each sweep; ``None`` goes from the input to the output.
        optimizer: of the model; what it remembers of each weight is permuted, too, as gradients are.

    Returns:
        The same model. Raises ``InvalidValueError`` that names the module which cannot be followed or is not the
        reference's, ``InvalidStateError`` where something is parametrized; the model is then as it was.
        O(sweeps · Σ nodes · (weights of the layer and its reader + nodes²)). Source: Ainsworth et al. 2022,
        arXiv:2209.04836 (Git Re-Basin, weight matching); MISSION T2.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> other = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> order = torch.tensor([2, 0, 1])
    >>> _ = other.load_state_dict({"0.weight": model[0].weight[order], "0.bias": model[0].bias[order],
    ...                            "2.weight": model[2].weight[:, order], "2.bias": model[2].bias})
    >>> torch.equal(align(other, model)[0].weight, model[0].weight)
    True
    """
    if iterations < 1:
        raise InvalidValueError(f"iterations is {iterations}; use at least 1 sweep")
    chain, there = _chains(model, reference, optimizer)
    own, wanted = _weights(chain), _weights(there)
    for name, weight in (*own.items(), *wanted.items()):
        if not bool(weight.isfinite().all()):
            raise InvalidValueError(
                f"{name.replace('/', '.')} has entries that are NaN or infinite; they match nothing"
            )
    starts = [own, {name: weight.clone() for name, weight in own.items()}]
    # What only looks back is exact for a permuted copy, where what looks ahead first sees permuted readers.
    forward = _sweep(chain, starts[1], wanted, range(len(chain)), ahead=False)[0]
    found = [_climb(chain, starts[0], wanted, _identity(chain), iterations, generator)]
    found.append(_climb(chain, starts[1], wanted, forward, iterations, generator))
    better = _score(starts[1], wanted) > _score(starts[0], wanted)
    for hidden, order in zip(chain, found[better], strict=True):
        _permute(hidden, order, optimizer)
    return model


def _chains(
    model: nn.Module, reference: nn.Module, optimizer: Optimizer | None
) -> tuple[tuple[Hidden, ...], tuple[Hidden, ...]]:
    """The hidden layers of both models, if they are alike and can be permuted."""
    chain, other = hidden_layers(model), hidden_layers(reference)
    if [hidden.name for hidden in chain] != [hidden.name for hidden in other]:
        names = [", ".join(hidden.name for hidden in layers) or "none" for layers in (chain, other)]
        raise InvalidValueError(f"hidden layers are {names[0]} and in the reference {names[1]}; align models alike")
    tensors = dict(reference.named_parameters()) | dict(reference.named_buffers())
    for hidden, there in zip(chain, other, strict=True):
        for name, module in ((hidden.name, hidden.layer), (hidden.reader_name, hidden.reader)):
            if parametrize.is_parametrized(module):
                raise InvalidStateError(f"{name} has tethers; detach them, align, and attach them again")
        if not isinstance(hidden.layer, nn.Linear) and hidden.layer.groups != 1:
            raise InvalidValueError(f"{hidden.name} has {hidden.layer.groups} groups; only layers with one are aligned")
        if len(hidden.norms) != len(there.norms) or hidden.reader_name != there.reader_name:
            raise InvalidValueError(f"{hidden.name} is followed by other modules in the reference; align models alike")
    for name, parameter in model.named_parameters():
        if name in tensors and tensors[name].shape != parameter.shape:
            shapes = f"{tuple(parameter.shape)} and in the reference {tuple(tensors[name].shape)}"
            raise InvalidValueError(f"{name} has shape {shapes}; align models alike")
        state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
        for key, value in state.items():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != parameter.shape:
                raise InvalidValueError(
                    f"the optimiser's {key} of {name} has shape {tuple(value.shape)}, which cannot be permuted; use an "
                    "optimiser that remembers entry by entry, or make a new one afterwards and pass none"
                )
    return chain, other


def _sides(hidden: Hidden, weights: Weights) -> list[tuple[Tensor, bool]]:
    """What belongs to the nodes, nodes first, and whether it lies ahead of them."""
    back = [weights[name] for name in weights if name.startswith(f"{hidden.name}/")]
    outgoing = hidden.outgoing(weights[f"{hidden.reader_name}/weight"]).transpose(0, 1)
    return [(tensor, False) for tensor in back] + [(outgoing, True)]


def _weights(chain: Sequence[Hidden]) -> Weights:
    """Copies of all parameters of a chain, those of a BatchNorm under the name of the layer before it."""
    found = {}
    for hidden in chain:
        for number, norm in enumerate(hidden.norms):
            for name, parameter in norm.named_parameters(recurse=False):
                found[f"{hidden.name}/norm{number}.{name}"] = _copy(parameter)
        for layer, module in ((hidden.name, hidden.layer), (hidden.reader_name, hidden.reader)):
            for name in ("weight", "bias"):
                if getattr(module, name) is not None:
                    found[f"{layer}/{name}"] = _copy(getattr(module, name))
    return found


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64, copy=True)


def _identity(chain: Sequence[Hidden]) -> list[Tensor]:
    return [torch.arange(hidden.nodes) for hidden in chain]


def _climb(
    chain: Sequence[Hidden],
    own: Weights,
    wanted: Weights,
    orders: list[Tensor],
    iterations: int,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Sweep until nothing is gained; ``own`` is permuted along."""
    for _ in range(iterations):
        at: Sequence[int] = range(len(chain))
        if generator is not None:
            at = torch.randperm(len(chain), generator=generator, device=generator.device).tolist()
        more, gained = _sweep(chain, own, wanted, at)
        orders = [order[then] for order, then in zip(orders, more, strict=True)]
        if not gained:
            break
    return orders


def _sweep(
    chain: Sequence[Hidden], own: Weights, wanted: Weights, at: Sequence[int], *, ahead: bool = True
) -> tuple[list[Tensor], bool]:
    """Give each layer its best permutation in turn: new orders of the nodes, and whether anything was gained."""
    orders, gained = _identity(chain), False
    for index in at:
        hidden = chain[index]
        sides = zip(_sides(hidden, own), _sides(hidden, wanted), strict=True)
        pairs = [(a.reshape(len(a), -1), b.reshape(len(b), -1)) for (a, far), (b, _) in sides if ahead or not far]
        likeness = sum((b @ a.T for a, b in pairs), torch.zeros(hidden.nodes, hidden.nodes, dtype=torch.float64))
        order = torch.from_numpy(linear_sum_assignment(likeness.numpy(), maximize=True)[1])
        gain = float(likeness.gather(1, order[:, None]).sum() - likeness.trace())
        if gain > _ENOUGH * sum(float(a.norm() * b.norm()) for a, b in pairs):
            for tensor, _ in _sides(hidden, own):
                tensor.copy_(tensor[order])
            orders[index], gained = order, True
    return orders, gained


def _score(own: Weights, wanted: Weights) -> float:
    return sum(float((own[name] * wanted[name]).sum()) for name in own)


def _permute(hidden: Hidden, order: Tensor, optimizer: Optimizer | None) -> None:
    def by_node(tensor: Tensor) -> Tensor:
        return tensor[order.to(tensor.device)]

    def by_input(tensor: Tensor) -> Tensor:
        return hidden.outgoing(tensor)[:, order.to(tensor.device)].flatten(1, 2)

    turned: list[tuple[Tensor, Callable[[Tensor], Tensor]]] = [(hidden.reader.weight, by_input)]
    for module in (hidden.layer, *hidden.norms):
        turned += [(tensor, by_node) for tensor in (*module.parameters(), *module.buffers()) if tensor.ndim]
    for tensor, permuted in turned:
        for one in _following(tensor, optimizer):
            one.copy_(permuted(one))


def _following(tensor: Tensor, optimizer: Optimizer | None) -> Iterator[Tensor]:
    """A tensor and all that follows it entry by entry."""
    yield tensor
    if tensor.grad is not None:
        yield tensor.grad
    yield from moments(optimizer, tensor)
