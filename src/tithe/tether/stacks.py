"""Models of one architecture whose tensors lie in stacks, along a new first axis."""

from __future__ import annotations

import copy
import functools
import math
import types
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tithe.errors import InvalidStateError

__all__ = ["Stacks", "why_not"]

Tensors = dict[str, Tensor]
_OF_MODULES = frozenset(nn.Module().__dict__) - {"training"}


class Stacks:
    """Parameters and buffers of models in stacks; what the models hold become views of these.

    Args:
        models: those of which ``why_not`` has nothing to say.

    Attributes:
        parameters: by name, (models, ...), each a leaf.
        buffers: likewise.
        base: a copy of the first model without memory, to be called with other tensors.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        first = _tensors(models[0])
        # What is in the memo is not copied, so that the copy has no memory, and tied weights stay tied.
        self.base = copy.deepcopy(models[0], {id(tensor): _empty(tensor) for tensor in first.values()})
        self._base_modules = list(self.base.modules())
        self._modules = [list(model.modules()) for model in models]
        found = [_tensors(model) for model in models]
        stacks = {name: torch.stack([tensors[name].detach() for tensors in found]) for name in first}
        names = {name for name, _ in models[0].named_parameters()}
        self.parameters: Tensors = {n: nn.Parameter(s, first[n].requires_grad) for n, s in stacks.items() if n in names}
        self.buffers: Tensors = {n: s for n, s in stacks.items() if n not in names}
        self._places: list[tuple[dict[str, Any], str, int, Tensor, int, str]] = []
        for number, (model, tensors) in enumerate(zip(models, found, strict=True)):
            for name, tensor in tensors.items():
                tensor.data = stacks[name][number]
                path, _, key = name.rpartition(".")
                module = model.get_submodule(path)
                held: dict[str, Any] = module._parameters if name in names else module._buffers
                stack = self.parameters[name] if name in names else self.buffers[name]
                self._places.append((held, key, tensor.data_ptr(), stack, number, name))

    def check(self) -> None:
        """Raise ``InvalidStateError`` where a model looks elsewhere by now; freeze what all models have frozen."""
        frozen_or_not = False
        for held, key, pointer, stack, number, name in self._places:  # at every step: no more work than this
            tensor = held.get(key)
            if tensor is None or tensor.data_ptr() != pointer:
                raise InvalidStateError(
                    f"{name} of member {number} was moved or replaced; change it in place, or stack the models anew"
                )
            frozen_or_not = frozen_or_not or tensor.requires_grad is not stack.requires_grad
        if frozen_or_not:
            self._freeze()

    def _freeze(self) -> None:
        trained: dict[str, set[bool]] = defaultdict(set)
        for held, key, _, _, _, name in self._places:
            trained[name].add(held[key].requires_grad)
        for name, stack in self.parameters.items():
            if len(trained[name]) > 1:
                raise InvalidStateError(f"{name} is frozen in some members, not in others; freeze it in all or none")
            stack.requires_grad_(trained[name].pop())

    def modes(self, member: int) -> tuple[bool, ...]:
        """Which modules of a member are in training mode."""
        return tuple([module.training for module in self._modules[member]])  # a list is read faster

    def each(self, members: Sequence[int]) -> Iterator[tuple[Tensors, Tensors]]:
        """Parameters and buffers of one member after the other; what is done to buffers in place stays."""
        rows = {name: stack.unbind() for name, stack in self.parameters.items()}
        for member in members:
            self._set_modes(member)
            yield {name: row[member] for name, row in rows.items()}, {n: s[member] for n, s in self.buffers.items()}

    @contextmanager
    def rows(self, members: Sequence[int], *, whole: bool) -> Iterator[tuple[Tensors, Tensors]]:
        """Parameters and buffers of some members; where not whole, buffers are copies, written back upon success."""
        self._set_modes(members[0])
        if whole:
            yield self.parameters, self.buffers
            return
        at = list(members)
        buffers = {name: stack[at] for name, stack in self.buffers.items()}
        yield {name: stack[at] for name, stack in self.parameters.items()}, buffers
        for name, stack in self.buffers.items():
            stack[at] = buffers[name].detach()

    def _set_modes(self, member: int) -> None:
        for module, training in zip(self._base_modules, self.modes(member), strict=True):
            module.training = training


def why_not(models: Sequence[nn.Module]) -> str:
    """Why models cannot be stacked; empty where they can. O(models · modules).

    >>> why_not([nn.Linear(2, 1), nn.Linear(2, 1)])
    ''
    >>> why_not([nn.Linear(2, 1), nn.Linear(3, 1)])
    'member 1 has another architecture than the first'
    """
    if not models:
        return "there are none"
    first, owners = _tensors(models[0]), dict[int, int]()
    for number, model in enumerate(models):
        here = _tensors(model)
        if here.keys() != first.keys() or repr(model) != repr(models[0]):
            return f"member {number} has another architecture than the first"
        for name, tensor in here.items():
            if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                return f"{name} of member {number} has no shape yet"
            if _form(tensor) != _form(first[name]):
                return f"{name} of member {number} has another shape, dtype or device than in the first"
            if tensor.requires_grad != first[name].requires_grad:
                return f"{name} is frozen in some members, not in others"
            if owners.setdefault(id(tensor), number) != number:
                return f"members {owners[id(tensor)]} and {number} share {name}"
        for a, b in zip(models[0].modules(), model.modules(), strict=True):
            if different := _different(a, b):
                kind = parametrize.type_before_parametrizations(a).__name__
                return f"{different} of a {kind} is not the same in member {number} as in the first"
    return ""


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor.detach(), device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _different(a: nn.Module, b: nn.Module) -> str:
    """The first attribute that two modules do not have in common, other than modules and tensors they own."""
    if parametrize.type_before_parametrizations(a) is not parametrize.type_before_parametrizations(b):
        return "the class"
    here, there = ({name: x for name, x in m.__dict__.items() if name not in _OF_MODULES} for m in (a, b))
    if odd := here.keys() ^ there.keys():
        return min(odd)
    for name, x in here.items():
        y = there[name]
        same = torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else _same(x, y)
        if not same:
            return name
    return ""


def _same(x: Any, y: Any) -> bool:
    """Whether two values that forward may look at are the same, as far as can be told."""
    if x is y or isinstance(x, Tensor | weakref.ref):
        return True
    if type(x) is not type(y):
        return False
    if isinstance(x, types.FunctionType):
        cells = [[cell.cell_contents for cell in f.__closure__ or ()] for f in (x, y)]
        return x.__code__ == y.__code__ and _same(x.__defaults__, y.__defaults__) and _same(*cells)
    if isinstance(x, functools.partial):
        return _same([x.func, x.args, x.keywords], [y.func, y.args, y.keywords])
    if isinstance(x, Mapping):
        return x.keys() == y.keys() and all(_same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple):
        return len(x) == len(y) and all(map(_same, x, y))
    if isinstance(x, float) and math.isnan(x):
        return math.isnan(y)
    if "__eq__" not in {key for kind in type(x).__mro__[:-1] for key in vars(kind)}:
        return True
    try:
        return bool(x == y)
    except (RuntimeError, ValueError):  # arrays do not say whether they are equal as a whole
        return True
