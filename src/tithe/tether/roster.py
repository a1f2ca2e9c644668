"""The members of a population, and what is remembered of each: its losses, its beginning, its last batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.tether.forming import copy_tensors
from tithe.tether.members import Batch, Loss, Members, tensors_of
from tithe.tether.optimizer_states import misfit
from tithe.tether.trees import copied
from tithe.tether.trials import loss_on, output_layer
from tithe.tether.watch import Watch

__all__ = ["Roster"]

_PARTS = ("tensors", "optimizer", "watch", "probes")


class Roster:
    """Members that step together, each under watch.

    Args:
        members: that take steps.
        loss: of outputs and targets.
        shared: names of the tensors that take part in merges.
        probes: batches of a member that are kept to try other weights on.

    Attributes:
        members: likewise.
        models: theirs.
        shared: likewise.
        outer: those of the shared tensors that belong to an output layer.
        watches: one for each member.
        probes: its last batches, for each member.
    """

    def __init__(self, members: Members, loss: Loss, shared: Sequence[str], probes: int) -> None:
        self.members, self.models, self.shared = members, members.models, tuple(shared)
        self._loss, self._kept = loss, max(probes, 1)
        outputs = {output_layer(model) for model in self.models}
        self.outer = {name for name in shared if any(name.startswith(f"{out}." if out else "") for out in outputs)}
        self.probes: list[list[Any]] = [[] for _ in self.models]
        self.watches = [Watch() for _ in self.models]
        for member in range(len(self.models)):
            self.begin_probe(member)

    def step(self, batches: Sequence[Batch]) -> list[float | None]:
        """One step of each member that has a batch, which is kept; the losses before it."""
        for member, batch in enumerate(batches):
            if batch is not None:
                self.probes[member] = [*self.probes[member], batch][-self._kept :]
                if math.isnan(self.watches[member].first):
                    self.watches[member].first = self.loss_of(member)
        losses = self.members.step(batches)
        for watch, loss in zip(self.watches, losses, strict=True):
            watch.add(loss)
        return losses

    def begin_probe(self, member: int) -> None:
        """From now on a member trains alone, and its gain counts from here."""
        self.watches[member].restart()
        self.watches[member].before = self.state(member, clone=True)

    def state(self, member: int, *, clone: bool = False) -> dict[str, Tensor]:
        """The tensors of a member that take part, as they are or copied."""
        tensors = tensors_of(self.models[member])
        return {name: tensors[name].clone() if clone else tensors[name] for name in self.shared}

    def moments(self, member: int) -> dict[str, Tensor]:
        """What the optimiser of a member remembers of these, as they are."""
        return {n: t for n, t in self.members.moments(member).items() if n.partition("/")[0] in self.shared}

    def loss_of(self, member: int, on: int | None = None) -> float:
        """The loss of a member on the batches that another one saw last, by default it itself."""
        return loss_on(self.models[member], self._loss, self.probes[member if on is None else on])

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the members go on, as it is; see ``Population.state_dict``."""
        members = [
            {
                "tensors": tensors_of(model),
                "optimizer": self.members.optimizer_state(member),
                "watch": self.watches[member].state_dict(),
                "probes": self.probes[member],
            }
            for member, model in enumerate(self.models)
        ]
        return {"members": members, "vectorised": self.members.vectorised}

    def load_state_dict(self, state: Mapping[str, Any], names: Sequence[str]) -> None:
        """Go on from what ``state_dict`` gave.

        Args:
            state: is copied.
            names: of the members, for messages.

        Raises ``InvalidValueError`` where it is of other members; nothing is changed then. O(entries).
        """
        if len(state["members"]) != len(names):
            raise InvalidValueError(f"the state is of {len(state['members'])} members, expected {len(names)}")
        for member, (name, found) in enumerate(zip(names, state["members"], strict=True)):
            if why := self._misfit(member, found):
                raise InvalidValueError(f"the state does not fit member {name!r}: {why}; nothing was loaded")
        optimizers = [copied(found["optimizer"], "optimizer") for found in state["members"]]
        rest = []
        for model, found in zip(self.models, state["members"], strict=True):
            device = next(model.parameters()).device
            watch = Watch.of(copied(found["watch"], "watch", device))
            rest.append((watch, copied(found["probes"], "probes", device)))
        self.members.load_optimizer_states(optimizers, state["vectorised"])
        for model, found in zip(self.models, state["members"], strict=True):
            copy_tensors(found["tensors"], [model], found["tensors"])
        self.watches, self.probes = [watch for watch, _ in rest], [probes for _, probes in rest]

    def _misfit(self, member: int, state: Mapping[str, Any]) -> str:
        """Why a state cannot be that of a member; empty where it can."""
        if lacking := [part for part in _PARTS if part not in state]:
            return f"it lacks {', '.join(lacking)}"
        whole = tensors_of(self.models[member])
        for where, expected in (("tensors", whole), ("before", {name: whole[name] for name in self.shared})):
            given = state["tensors"] if where == "tensors" else state["watch"]["before"]
            if odd := sorted(given.keys() ^ expected.keys()):
                return f"{odd[0]} is in {'it' if odd[0] in given else 'the member'} only"
            for name, tensor in expected.items():
                if _form(given[name]) != _form(tensor):
                    return f"{name} is {_form(given[name])} there and {_form(tensor)} here"
        return misfit(state["optimizer"], self.members.optimizer_state(member))


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")
