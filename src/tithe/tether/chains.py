"""Which layers feed which: hidden layers of a model, each with the one layer that reads its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from tithe.errors import InvalidValueError
from tithe.tether.parametrization import Tether

__all__ = ["Hidden", "Layer", "Norm", "hidden_layers", "weight_of"]

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What acts on each node by itself, and so lets it through as the same node.
_NODEWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Identity,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_FUNCTIONS = {
    torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.relu6, functional.leaky_relu, functional.elu,
    functional.selu, functional.gelu, functional.silu, functional.mish, functional.tanh, functional.sigmoid,
    functional.softplus, functional.hardtanh, functional.hardswish, functional.dropout, functional.dropout2d,
    functional.max_pool1d, functional.max_pool2d, functional.avg_pool1d, functional.avg_pool2d,
    functional.adaptive_avg_pool2d,
}  # fmt: skip
_METHODS = {"relu", "relu_", "tanh", "sigmoid", "contiguous"}


@dataclass(frozen=True)
class Hidden:
    """A hidden layer: its nodes (features or channels), and who reads them.

    Attributes:
        name: of the layer whose outputs are the nodes.
        layer: the layer.
        norms: BatchNorm modules between, whose entries belong to the nodes.
        reader_name: name of the layer that reads the nodes.
        reader: that layer; a node has one or more of its inputs.
    """

    name: str
    layer: Layer
    norms: tuple[Norm, ...]
    reader_name: str
    reader: Layer

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(weight_of(self.layer))

    def outgoing(self, weight: Tensor) -> Tensor:
        """A view of a tensor shaped as the reader's weight: (outputs, nodes, inputs of a node, ...)."""
        return torch.unflatten(weight, 1, (self.nodes, -1))

    def activity(self, h: Tensor) -> Tensor:
        """Mean h and mean |h| of each node, (2, nodes), of an input of the reader."""
        if isinstance(self.reader, nn.Linear):
            spread, axes = h.reshape(-1, self.nodes, h.shape[-1] // self.nodes), [0, 2]
        else:
            channel = h.ndim - self.reader.weight.ndim + 1  # without a batch axis, it is the first
            spread, axes = h, [axis for axis in range(h.ndim) if axis != channel]
        dtype = torch.promote_types(h.dtype, torch.float32)
        return torch.stack([spread.mean(axes, dtype=dtype), spread.abs().mean(axes, dtype=dtype)])


def hidden_layers(model: nn.Module, names: Sequence[str] | None = None) -> tuple[Hidden, ...]:
    """Follow the nodes of each hidden layer to the layer that reads them.

    Layers are ``Linear`` and ``Conv1d`` to ``Conv3d``; between them may be activations, BatchNorm, pooling, dropout and
    ``Flatten``, as modules or functions. The forward pass is traced by torch.fx, so the order of definition is of no
    matter. The layers whose outputs leave the model have no reader and are not hidden.

    Args:
        model: a module without control flow on its inputs.
        names: of hidden layers to follow; ``None`` takes all, and then all must be followable.

    Returns:
        The hidden layers in the order in which they run. Raises ``InvalidValueError`` that names the module which
        cannot be followed (a sum of two branches, a LayerNorm, a softmax, ...) or the name which is no layer's.
        O(modules). Source: MISSION T7.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    >>> [(hidden.name, hidden.nodes, hidden.reader_name) for hidden in hidden_layers(model)]
    [('0', 4, '4')]
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # whatever a forward pass raises when it is given proxies
        raise InvalidValueError(
            f"{type(model).__name__} cannot be traced ({error}); use one without control flow on its inputs"
        ) from error
    calls = [node for node in graph.nodes if node.op == "call_module" and isinstance(modules[node.target], _LAYERS)]
    if names is not None and (missing := set(names) - {node.target for node in calls}):
        listed = ", ".join(node.target for node in calls) or "none"
        raise InvalidValueError(f"no layer is called {', '.join(map(repr, sorted(missing)))}; there are {listed}")
    uses = Counter(id(modules[node.target]) for node in calls)
    owners = Counter(id(p) for module in set(modules.values()) for p in module.parameters(recurse=False))
    found = []
    for node in calls:
        if names is not None and node.target not in names:
            continue
        hidden = _follow(node, modules)
        if hidden is None:
            if names is not None:
                raise InvalidValueError(f"{node.target} is no hidden layer: what it puts out leaves the model")
            continue
        for name, module in ((hidden.name, hidden.layer), (hidden.reader_name, hidden.reader)):
            if uses[id(module)] > 1 or any(owners[id(p)] > 1 for p in module.parameters()):
                raise InvalidValueError(f"{name} is used in several places, so its nodes have several readers")
        found.append(hidden)
    return tuple(found)


def weight_of(module: nn.Module, name: str = "weight") -> nn.Parameter:
    """The parameter that is stored for a weight, below a tether if there is one.

    Raises ``InvalidValueError`` where another parametrization, such as a weight norm, is on it.

    >>> weight_of(nn.Linear(2, 3)).shape
    torch.Size([3, 2])
    """
    if not parametrize.is_parametrized(module, name):
        found = getattr(module, name)
        assert isinstance(found, nn.Parameter)
        return found
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    kinds = {type(one) for one in parametrizations[name].children()}
    if kinds != {Tether}:
        made = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidValueError(f"the {name} of {type(module).__name__} is made by {made}; remove this first")
    original = parametrizations[name].original
    assert isinstance(original, nn.Parameter)
    return original


def _follow(node: fx.Node, modules: dict[str, nn.Module]) -> Hidden | None:
    """The hidden layer that begins at a call, or None where it is an output."""
    name = str(node.target)
    layer = modules[name]
    assert isinstance(layer, _LAYERS)
    weight_of(layer)
    norms: list[Norm] = []
    flattened = False
    while True:
        users = list(node.users)
        if len(users) != 1:
            who = ", ".join(_called(user) for user in users) or "nobody"
            raise InvalidValueError(f"{name} cannot be followed: {_called(node)} is read by {who}, not by one module")
        node = users[0]
        if node.op == "output":
            return None
        module = modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, _LAYERS):
            _check(name, layer, str(node.target), module, flattened)
            return Hidden(name, layer, tuple(norms), str(node.target), module)
        if isinstance(module, _NORMS) and module.num_features == len(weight_of(layer)) and not flattened:
            norms.append(module)
        elif _flattens(node, module):
            flattened = True
        elif not (isinstance(module, _NODEWISE) or (module is None and _nodewise(node))):
            kind = type(module).__name__ if module is not None else node.op.replace("_", " ")
            raise InvalidValueError(
                f"{name} cannot be followed through {_called(node)} ({kind}); between layers there may be activations, "
                "BatchNorm, pooling, dropout and Flatten, or name the layers to follow"
            )


def _check(name: str, layer: Layer, reader_name: str, reader: Layer, flattened: bool) -> None:
    nodes, inputs = len(weight_of(layer)), weight_of(reader).shape[1]
    if not isinstance(reader, nn.Linear) and reader.groups != 1:
        raise InvalidValueError(f"{name} cannot be followed into {reader_name}, which has {reader.groups} groups")
    alike = isinstance(layer, nn.Linear) == isinstance(reader, nn.Linear) and inputs == nodes
    flat = isinstance(reader, nn.Linear) and not isinstance(layer, nn.Linear) and flattened and inputs % nodes == 0
    if not (alike or flat):
        raise InvalidValueError(
            f"{name} has {nodes} nodes and {reader_name} reads {inputs}; put a Flatten between a convolution and a "
            "Linear, and as many inputs as outputs between others"
        )


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1 and module.end_dim == -1
    by_function = node.op == "call_function" and node.target is torch.flatten
    by_method = node.op == "call_method" and node.target == "flatten"
    return (by_function or by_method) and (node.args[1:] == (1,) or node.kwargs == {"start_dim": 1})


def _nodewise(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _FUNCTIONS
    return node.op == "call_method" and node.target in _METHODS


def _called(node: fx.Node) -> str:
    return str(node.target) if node.op in ("call_module", "call_method") else node.name
