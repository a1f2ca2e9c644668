"""One optimiser for a stack of models, each of which it remembers as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidValueError

__all__ = ["StackedOptimizer"]

# Their steps treat every entry alike, whatever tensor it lies in, so that one of them can serve a stack of models.
_ENTRY_BY_ENTRY = {
    getattr(torch.optim, name)
    for name in (
        "ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
    )
}  # fmt: skip
_ENTRIES = "entries"  # stands for what is remembered of each entry of a parameter; it lies in the stacks
# What is remembered of a parameter as a whole, such as the number of steps, by its name and key.
Memory = dict[str, dict[str, Any]]


class StackedOptimizer:
    """Steps of stacks, (models, ...), by an optimiser that was made for the first model.

    Models that do not take part in a step stay as they are, with all that is remembered of them: they have their own
    numbers of steps. Those of one number step together.

    Args:
        optimizer: of the parameters of a model, as a user would make it, groups and all.
        model: that model.
        stacks: of parameters by name.
        count: of models.

    Raises ``InvalidValueError`` for an optimiser that looks at tensors as a whole, or has other parameters.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module, stacks: Mapping[str, Tensor], count: int) -> None:
        if why := self.unfit(optimizer, model):
            raise InvalidValueError(why)
        self._optimizer, self._stacks, self._count = optimizer, dict(stacks), count
        self._memory: list[Memory] | None = None  # of each model, where they differ
        named: dict[Tensor, Tensor] = {p: stacks[name] for name, p in model.named_parameters()}
        for group in optimizer.param_groups:
            group["params"] = [named[parameter] for parameter in group["params"]]
        begun = {
            named[p]: {
                key: value.expand(count, *p.shape).clone() if key != "step" and _has_entries(value, p) else value
                for key, value in state.items()
            }
            for p, state in optimizer.state.items()
        }
        optimizer.state = defaultdict(dict, begun)

    @staticmethod
    def unfit(optimizer: Optimizer, model: nn.Module) -> str:
        """Why an optimiser cannot step stacks; empty where it can."""
        if type(optimizer) not in _ENTRY_BY_ENTRY:
            known = ", ".join(sorted(kind.__name__ for kind in _ENTRY_BY_ENTRY))
            return f"{type(optimizer).__name__} may not treat all entries of a weight alike, as {known} do"
        known_ones = set(model.parameters())
        if not all(p in known_ones for group in optimizer.param_groups for p in group["params"]):
            return "the optimiser has parameters that are not the model's"
        return ""

    def zero_grad(self) -> None:
        """Forget the gradients of the stacks."""
        for stack in self._stacks.values():
            stack.grad = None

    def step(self, members: Sequence[int]) -> None:
        """One step of some models. O(entries), and an optimiser's overhead for each number of steps."""
        everyone = len(members) == self._count
        if self._memory is not None or not everyone:
            memory = self._memory or [self._remembered(self._stacks)] * self._count
            groups: dict[object, list[int]] = {}
            keys = {id(one): _key(one) for one in memory}
            for member in members:
                groups.setdefault(keys[id(memory[member])], []).append(member)
            if not everyone or len(groups) > 1:
                self._memory = list(memory)
                for group in groups.values():
                    found = self._step_some(group, memory[group[0]])
                    for member in group:
                        self._memory[member] = found
                return
            self._recall(memory[0])
        self._optimizer.step()

    def moments(self, member: int) -> dict[str, Tensor]:
        """What is remembered of each entry of a model's parameters; writing to it changes that."""
        found = {}
        for name, stack in self._stacks.items():
            known = self._optimizer.state.get(stack, {}) if self._memory is None else self._memory[member].get(name, {})
            for key in known:
                value = self._optimizer.state[stack][key]
                if _has_entries(value, stack) and stack.ndim > 1:  # of a scalar, separate optimisers cannot tell
                    found[f"{name}/{key}"] = value[member]
        return found

    def _remembered(self, parameters: Mapping[str, Tensor]) -> Memory:
        state = self._optimizer.state
        return {
            name: {key: _ENTRIES if _has_entries(value, p) else value for key, value in state[p].items()}
            for name, p in parameters.items()
            if p in state
        }

    def _recall(self, memory: Memory) -> None:
        """All models are of one number of steps again."""
        for name, state in memory.items():
            for key, value in state.items():
                if value is not _ENTRIES:
                    self._optimizer.state[self._stacks[name]][key] = _copied(value)
        self._memory = None

    @torch.no_grad()
    def _step_some(self, members: list[int], memory: Memory) -> Memory:
        """A step of copies of some rows, which are written back."""
        whole, groups = self._optimizer.state, [group["params"] for group in self._optimizer.param_groups]
        parts = {name: nn.Parameter(stack[members], stack.requires_grad) for name, stack in self._stacks.items()}
        by_stack = {stack: parts[name] for name, stack in self._stacks.items()}
        states: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for name, state in memory.items():
            stack = self._stacks[name]
            for key, value in state.items():
                states[parts[name]][key] = whole[stack][key][members] if value is _ENTRIES else _copied(value)
        for stack, part in by_stack.items():
            part.grad = None if stack.grad is None else stack.grad[members]
        try:
            self._optimizer.state = states  # type: ignore[assignment]
            for group, stacks in zip(self._optimizer.param_groups, groups, strict=True):
                group["params"] = [by_stack[stack] for stack in stacks]
            self._optimizer.step()
            found = self._remembered(parts)
        finally:
            self._optimizer.state = whole
            for group, stacks in zip(self._optimizer.param_groups, groups, strict=True):
                group["params"] = stacks
        for name, stack in self._stacks.items():
            stack[members] = parts[name]
            for key, value in states.get(parts[name], {}).items():
                if _has_entries(value, parts[name]):
                    whole[stack].setdefault(key, value.new_zeros(stack.shape))[members] = value
                else:
                    whole[stack].setdefault(key, value)
        return found


def _has_entries(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _key(memory: Memory) -> tuple[object, ...]:
    """Equal for models that can step together."""
    return tuple(
        (name, key, value if value is _ENTRIES else float(value))
        for name, state in memory.items()
        for key, value in state.items()
    )
