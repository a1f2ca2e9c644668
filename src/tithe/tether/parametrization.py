"""Tethers: a tensor on a weight, whose product with it is what the layer computes with; the weight itself stays."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError

__all__ = ["Tether", "attach", "detach", "tethers"]

Theta = Callable[[Tensor, Tensor], Tensor]
Init = Literal["ones", "uniform"] | float | Callable[[str, Tensor], Tensor] | Mapping[str, Tensor]
Choice = Sequence[str] | Callable[[str, Tensor], bool] | None


class Tether(nn.Module):
    """One tether: W ↦ θ(W, T), by default W ∘ T. ``attach`` puts it on a weight.

    Attributes:
        tether: T, of the shape of W; a buffer, or a parameter where it is trained.
    """

    tether: Tensor

    def __init__(self, tether: Tensor, *, trainable: bool = False, theta: Theta = torch.mul) -> None:
        super().__init__()
        self._theta = theta
        if trainable:
            self.tether = nn.Parameter(tether)
        else:
            self.register_buffer("tether", tether)

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weight; ``weight`` is not changed."""
        return self._theta(weight, self.tether)


def attach(
    model: nn.Module,
    *,
    init: Init = "ones",
    layers: Choice = None,
    trainable: bool = False,
    theta: Theta = torch.mul,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Put tethers on weights of a model; from then on its layers compute with θ(W, T).

    Weights that are shared by several modules share their tether. The tethers are in the state dict, beside the
    weights: ``fc.parametrizations.weight.original`` and ``fc.parametrizations.weight.0.tether``. Weights that another
    parametrization makes, such as a spectral norm, are left alone.

    Args:
        model: any module; it is changed in place, and ``detach`` makes it plain again.
        init: ``"ones"`` changes nothing yet; ``"uniform"`` on [0, 1) is the source's; a number; a function of the name
            and the weight; or tensors by name.
        layers: names of weights or of modules, with wildcards (``["encoder.*", "head.weight"]``), or a function of the
            name and the weight; by default all floating-point parameters of two and more axes. Vectors are taken where
            they are named in full, or by the function.
        trainable: whether the tethers are parameters.
        theta: (W, T) to the effective weight, of the shape and dtype of W.
        generator: for ``"uniform"``; ``None`` takes torch's own.

    Returns:
        The tethers by the name of their weight. Raises ``InvalidValueError`` where nothing is chosen, a name fits
        nothing, or a tether or what theta makes does not fit, ``InvalidDTypeError`` for tethers of no real numbers,
        and ``InvalidStateError`` where the model has tethers already or weights without a shape yet; the model is then
        as it was. O(weights). Source: MISSION T1.

    >>> model = nn.Sequential(nn.Linear(3, 2))
    >>> attach(model, init=0.5)["0.weight"].shape
    torch.Size([2, 3])
    >>> _ = detach(model)
    >>> tethers(model)
    {}
    """
    if found := tethers(model):
        raise InvalidStateError(f"{', '.join(found)} have tethers already; call detach first")
    weights = _weights(model)
    made = {}
    for name in _chosen(weights, layers):
        also = [n for n, weight in weights.items() if weight is weights[name]]
        made[name] = _initial(init, also, weights[name], generator)
        _check(theta, name, weights[name].detach(), made[name])
    shared = {weights[name]: Tether(tensor, trainable=trainable, theta=theta) for name, tensor in made.items()}
    try:
        for module in list(model.modules()):
            _register(module, shared)
    except BaseException:
        _remove(list(_tethered(model)), bake=False)
        raise
    return tethers(model)


def detach(model: nn.Module) -> nn.Module:
    """Bake the tethers in: weights become θ(W, T), and the model is plain again; its outputs stay the same.

    Returns:
        The same model, whose state dict loads into a copy that never had tethers. A model without any stays as it is.
        Raises ``InvalidStateError`` where a weight has other parametrizations beside its tether. O(weights).

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = attach(model, init=0.5)
    >>> before = model(torch.ones(2))
    >>> torch.equal(detach(model)(torch.ones(2)), before), type(model)
    (True, <class 'torch.nn.modules.linear.Linear'>)
    """
    found = list(_tethered(model))
    for module, name, _ in found:
        if len(module.parametrizations[name]) > 1:  # type: ignore[index]
            raise InvalidStateError(f"{name} has other parametrizations beside the tether; remove these first")
    _remove(found, bake=True)
    return model


def tethers(model: nn.Module) -> dict[str, Tensor]:
    """The tethers of a model by the name of their weight, as they are: writing to one changes the model. O(modules).

    >>> tethers(nn.Linear(2, 2))
    {}
    """
    names = {module: name for name, module in model.named_modules(remove_duplicate=True)}
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for module, name, tether in _tethered(model):
        if id(tether) not in seen:
            found[f"{names[module]}.{name}".lstrip(".")] = tether.tether
            seen.add(id(tether))
    return found


def _tethered(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tether]]:
    for module in model.modules():
        if parametrize.is_parametrized(module):
            parametrizations = module.parametrizations
            assert isinstance(parametrizations, nn.ModuleDict)
            for name, listed in parametrizations.items():
                for one in listed:  # type: ignore[attr-defined]
                    if isinstance(one, Tether):
                        yield module, name, one


def _register(module: nn.Module, shared: Mapping[Tensor, Tether]) -> None:
    if isinstance(module, parametrize.ParametrizationList):
        return
    order = list(module._parameters)  # a parametrization moves weights behind the others; ``_remove`` puts them back
    for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
        if parameter in shared:
            _own_class(module)
            parametrize.register_parametrization(module, name, shared[parameter], unsafe=True)  # was checked already
            module.parametrizations.order = order  # type: ignore[union-attr]
            if isinstance(module, nn.RNNBase) and _let_go not in module._forward_hooks.values():
                module.register_forward_hook(_let_go)


def _remove(found: Sequence[tuple[nn.Module, str, Tether]], *, bake: bool) -> None:
    baked: set[int] = set()
    for module, name, tether in found:
        order = module.parametrizations.order  # type: ignore[union-attr]
        first = id(tether) not in baked  # a shared weight is baked once
        _own_class(module)
        parametrize.remove_parametrizations(module, name, leave_parametrized=bake and first)
        baked.add(id(tether))
        for key in order:  # type: ignore[union-attr]
            if key in module._parameters:
                module._parameters[key] = module._parameters.pop(key)
        if isinstance(module, nn.RNNBase):
            for key in [key for key, hook in module._forward_hooks.items() if hook is _let_go]:
                del module._forward_hooks[key]
            module._init_flat_weights()


def _own_class(module: nn.Module) -> None:
    """A deep copy shares the class that torch made for its original, and what is done to it would be done to both."""
    if parametrize.is_parametrized(module):
        kind = type(module)
        own = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, kind.__bases__, own)


def _let_go(module: nn.Module, _inputs: object, _outputs: object) -> None:
    """Recurrent modules keep the weights of their last forward pass; with its graph they could not be copied."""
    assert isinstance(module, nn.RNNBase)
    module._flat_weights = [weight if weight is None else weight.detach() for weight in module._flat_weights]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point parameters under all their names, but for those that belong to other parametrizations."""
    made = {p for m in model.modules() if isinstance(m, parametrize.ParametrizationList) for p in m.parameters()}
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.UninitializedParameter):
            raise InvalidStateError(f"{name} has no shape yet; call the model once before tethers are put on")
        if parameter not in made and parameter.is_floating_point():
            found[name] = parameter
    return found


def _chosen(weights: Mapping[str, Tensor], layers: Choice) -> list[str]:
    """Names of the chosen weights, one for each weight, in the order of the model."""
    wide = {name: weight for name, weight in weights.items() if weight.ndim > 1}
    if isinstance(layers, str):
        layers = [layers]
    if layers is None:
        chosen = set(wide)
    elif callable(layers):
        chosen = {name for name, weight in weights.items() if layers(name, weight)}
    else:
        by_name = {p: {p} if p in weights else {n for n in wide if _fits(n, p)} for p in layers}
        if missing := [pattern for pattern, names in by_name.items() if not names]:
            raise InvalidValueError(f"no weight is called {', '.join(map(repr, missing))}; there are {_listed(wide)}")
        chosen = {name for names in by_name.values() for name in names}
    if not chosen:
        raise InvalidValueError(f"no weight was chosen; of two and more axes there are {_listed(wide)}")
    parameters = {weights[name] for name in chosen}
    first: dict[Tensor, str] = {}
    for name, weight in weights.items():
        first.setdefault(weight, name)
    return [name for weight, name in first.items() if weight in parameters]


def _fits(name: str, pattern: str) -> bool:
    by_wildcard = any(fnmatch.fnmatchcase(name, p) for p in (pattern, f"{pattern}.*"))
    return by_wildcard or name.startswith(f"{pattern}.")  # a module's name may hold brackets


def _initial(init: Init, names: Sequence[str], weight: Tensor, generator: torch.Generator | None) -> Tensor:
    name, like = names[0], weight.detach()
    if isinstance(init, str):
        if init not in ("ones", "uniform"):
            raise InvalidValueError(f"init is {init!r}; use 'ones', 'uniform', a number, a function or tensors by name")
        if init == "ones":
            return torch.ones_like(like)
        drawn = torch.rand(like.shape, generator=generator, device=generator.device if generator else None)
        return drawn.to(like)
    made: object = init(name, like.clone()) if callable(init) else init
    if isinstance(init, Mapping):
        known = [n for n in names if n in init]
        if not known:
            raise InvalidValueError(f"init has no tether for {name}; it has {_listed(init)}")
        made = init[known[0]]
    if isinstance(made, Real):
        made = torch.full(like.shape, float(made), dtype=torch.float64)
    if not isinstance(made, Tensor) or made.is_complex():
        kind = made.dtype if isinstance(made, Tensor) else type(made).__name__
        raise InvalidDTypeError(f"the tether of {name} is of {kind}; use a tensor of real numbers, or a number")
    if made.shape != like.shape:
        raise InvalidValueError(f"the tether of {name} has shape {tuple(made.shape)}; use {tuple(like.shape)}")
    made = made.detach().clone().to(like)
    if not (made.is_meta or made.isfinite().all()):
        raise InvalidValueError(f"the tether of {name} has entries that are no finite {made.dtype}; use finite ones")
    return made


def _check(theta: Theta, name: str, weight: Tensor, tether: Tensor) -> None:
    """Theta on a copy: what it makes must fit, and neither operand may change, else every forward would."""
    operands = weight.clone(), tether.clone()
    made: object = theta(*operands)
    if not isinstance(made, Tensor):
        raise InvalidDTypeError(f"theta makes a {type(made).__name__} of {name}; it must make a tensor")
    if made.shape != weight.shape or made.dtype != weight.dtype:
        here, there = (f"{tuple(x.shape)} of {x.dtype}" for x in (made, weight))
        raise InvalidValueError(f"theta makes {here} of {name}, which is {there}; both must be the same")
    same = (torch.allclose(x, y, 0, 0, equal_nan=True) for x, y in zip(operands, (weight, tether), strict=True))
    if not (weight.is_meta or all(same)):
        raise InvalidValueError(f"theta changes {name} or its tether in place; use a function without side effects")


def _listed(weights: Mapping[str, Tensor]) -> str:
    return ", ".join(weights) or "none"
