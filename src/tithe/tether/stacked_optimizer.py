"""One optimiser for a stack of models, each of which it remembers as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidValueError
from tithe.tether.optimizer_states import native_state

__all__ = ["StackedOptimizer"]

# Their steps treat every entry alike, whatever tensor it lies in, so that one of them can serve a stack of models.
_ENTRY_BY_ENTRY = {
    getattr(torch.optim, name)
    for name in (
        "ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
    )
}  # fmt: skip
_OF_ALL_ENTRIES = {"step", "mu", "eta", "mu_product"}  # what these remember of a parameter as a whole


class StackedOptimizer:
    """Steps of stacks, (models, ...), by an optimiser that was made for the first model.

    Models that do not take part in a step stay as they are, with all that is remembered of them. From then on their
    numbers of steps differ, and the optimiser steps row by row until they are the same again.

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
        self._rows: list[dict[str, Tensor]] | None = None  # parameters of each model, where numbers of steps differ
        named: dict[Tensor, Tensor] = {p: stacks[name] for name, p in model.named_parameters()}
        for group in optimizer.param_groups:
            group["params"] = [named[parameter] for parameter in group["params"]]
        begun = {
            named[p]: {
                key: value.expand(count, *p.shape).clone() if _has_entries(key, value, p) else value
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
        """One step of some models. O(entries), in one call of the optimiser."""
        everyone = len(members) == self._count
        if self._rows is None and not everyone:
            self._rows = self._split()
        elif self._rows is not None and everyone and self._agree(self._rows):
            self._join(self._rows)
        if self._rows is None:
            self._optimizer.step()
        else:
            self._step_rows([self._rows[member] for member in members], members)

    def moments(self, member: int) -> dict[str, Tensor]:
        """What is remembered of the entries of a model's parameters; to be written to before the next step."""
        known, found = self._optimizer.state, {}
        for name, stack in self._stacks.items():
            parameter = stack if self._rows is None else self._rows[member][name]
            for key, value in known.get(parameter, {}).items():
                if (
                    _has_entries(key, value, parameter) and stack.ndim > 1
                ):  # separate optimisers cannot tell of a scalar
                    found[f"{name}/{key}"] = value[member] if self._rows is None else value
        return found

    def state_of(self, member: int) -> dict[str, Any]:
        """What ``named_state`` would give of the optimiser of a model that is alone; no copy. O(parameters)."""
        state: dict[Tensor, Any] = self._optimizer.state
        known = {}
        for name, stack in self._stacks.items():
            held = state.get(stack if self._rows is None else self._rows[member][name], {})
            joined = {key for key, value in held.items() if self._rows is None and _has_entries(key, value, stack)}
            known[name] = {key: value[member] if key in joined else value for key, value in held.items()}
        names = {stack: name for name, stack in self._stacks.items()}
        groups = [{**group, "params": [names[p] for p in group["params"]]} for group in self._optimizer.param_groups]
        kind = type(self._optimizer).__name__
        return {"kind": kind, "state": {name: held for name, held in known.items() if held}, "param_groups": groups}

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from what ``state_of`` gave of each model, which is not copied.

        Raises ``InvalidValueError`` where the groups of parameters have other options in some models; nothing is
        changed then. O(entries).
        """
        groups = states[0]["param_groups"]
        if any(state["param_groups"] != groups for state in states):
            raise InvalidValueError("optimisers have other options in some members; use vectorised=False")
        self._rows, self._optimizer.state = None, defaultdict(dict)
        rows = self._split()
        everyone = range(self._count)
        whole = {
            "state": {(i, name): held for i, state in enumerate(states) for name, held in state["state"].items()},
            "param_groups": [{**g, "params": [(i, name) for i in everyone for name in g["params"]]} for g in groups],
        }
        with self._in_groups(rows):
            self._optimizer.load_state_dict(native_state(whole))
        if self._agree(rows):
            self._join(rows)
        else:
            self._rows = rows

    def _split(self) -> list[dict[str, Tensor]]:
        """Rows that look into the stacks, and what is remembered of each."""
        state: dict[Tensor, Any] = self._optimizer.state
        rows: list[dict[str, Tensor]] = [
            {name: nn.Parameter(stack.detach()[member], stack.requires_grad) for name, stack in self._stacks.items()}
            for member in range(self._count)
        ]
        self._optimizer.state = defaultdict(dict)
        for name, stack in self._stacks.items():
            if stack in state:
                for member, row in enumerate(rows):
                    self._optimizer.state[row[name]] = {
                        key: value[member].clone() if _has_entries(key, value, stack) else _copied(value)
                        for key, value in state[stack].items()
                    }
        return rows

    def _agree(self, rows: list[dict[str, Tensor]]) -> bool:
        """Whether models differ in what is remembered of entries only."""
        state = self._optimizer.state
        found = {
            tuple(
                (name, key, None if _has_entries(key, value, parameter) else float(value))
                for name, parameter in row.items()
                for key, value in state.get(parameter, {}).items()
            )
            for row in rows
        }
        return len(found) == 1

    def _join(self, rows: list[dict[str, Tensor]]) -> None:
        state: dict[Tensor, Any] = self._optimizer.state
        self._optimizer.state = defaultdict(dict)
        for name, stack in self._stacks.items():
            first = rows[0][name]
            if first in state:
                self._optimizer.state[stack] = {
                    key: torch.stack([state[r[name]][key] for r in rows]) if _has_entries(key, value, first) else value
                    for key, value in state[first].items()
                }
        self._rows = None

    def _step_rows(self, rows: list[dict[str, Tensor]], members: Sequence[int]) -> None:
        for member, row in zip(members, rows, strict=True):
            for name, stack in self._stacks.items():
                row[name].grad = None if stack.grad is None else stack.grad[member]
        with self._in_groups(rows):
            self._optimizer.step()

    @contextmanager
    def _in_groups(self, rows: list[dict[str, Tensor]]) -> Iterator[None]:
        """For a while, the groups of the optimiser have rows for parameters."""
        groups = [group["params"] for group in self._optimizer.param_groups]
        names = {stack: name for name, stack in self._stacks.items()}
        try:
            for group, stacks in zip(self._optimizer.param_groups, groups, strict=True):
                group["params"] = [row[names[stack]] for row in rows for stack in stacks]
            yield
        finally:
            for group, stacks in zip(self._optimizer.param_groups, groups, strict=True):
                group["params"] = stacks


def _has_entries(key: str, value: Any, parameter: Tensor) -> bool:
    return key not in _OF_ALL_ENTRIES and isinstance(value, Tensor) and value.shape == parameter.shape


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
