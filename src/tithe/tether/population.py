"""Several models, each with its own data, that merge where they agree and stay apart where they do not."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.decisions import Decision
from tithe.tether.forming import copy_tensors, first_difference, formed, shared_tensors
from tithe.tether.generations import Generations
from tithe.tether.grouping import Grouping
from tithe.tether.journal import Journal, Listener
from tithe.tether.members import Batch, Loss, MakeOptimizer, tensors_of
from tithe.tether.modes import evaluating
from tithe.tether.parametrization import detach
from tithe.tether.policy import MergePolicy
from tithe.tether.roster import Roster
from tithe.tether.trees import copied

__all__ = ["Population"]

_PARTS = ("names", "interval", "steps", "merges", "grouping", "members", "vectorised")  # of a state dict


class Population:
    """Members that train side by side; a ``MergePolicy`` decides who merges with whom.

    Call ``step`` with a batch for each member, as often as you like. The models are trained in place.

    Args:
        models: two or more; of any architectures, though only tensors of the same name and shape take part in merges
            (``left_out`` lists the others). They must begin with the same weights, else averaging ruins them:
            ``start_alike`` copies those of the first, ``tithe.tether.align`` finds a permutation.
        loss: of outputs and targets, a scalar.
        optimizer: makes an optimiser of a member's parameters, such as ``lambda p: torch.optim.SGD(p, lr=0.03)``.
        policy: when to merge, with whom.
        vectorised: all members in one step (``torch.func.vmap``); by default where the models allow it.
        start_alike: whether all members get the first one's weights.
        fixed: groups that are known and stay as they are, so that nobody probes; every member in one of them.
        probes: batches of a member that are kept to try other weights on.
        generations: where the start and every merge are bookmarked; ``None`` keeps none.
        ledger: a ``Ledger`` for losses, compatibilities, groups and merges; ``None`` for none.
        run: which run these belong to.
        names: of the members; their numbers by default.
        epoch: steps of an epoch, for ``policy.most_merges`` and pictures.

    Attributes:
        models: the members.
        steps: that were taken.
        left_out: tensors that take no part in merges, with the reason.

    Raises ``InvalidValueError`` for members that cannot form a population. Source: MISSION T2, T4.

    >>> members = [nn.Linear(2, 1) for _ in range(2)]
    >>> sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    >>> population = Population(members, nn.functional.mse_loss, sgd, start_alike=True)
    >>> losses = population.step([(torch.ones(4, 2), torch.ones(4, 1)), (torch.ones(4, 2), torch.zeros(4, 1))])
    >>> len(losses), population.groups
    (2, [[0], [1]])
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        loss: Loss,
        optimizer: MakeOptimizer,
        policy: MergePolicy | None = None,
        *,
        vectorised: bool | None = None,
        start_alike: bool = False,
        fixed: Sequence[Sequence[int]] | None = None,
        probes: int = 4,
        generations: Generations | None = None,
        ledger: Listener | None = None,
        run: str = "population",
        names: Sequence[str] | None = None,
        epoch: int | None = None,
    ) -> None:
        if len(models) < 2 or len({id(model) for model in models}) < len(models):
            raise InvalidValueError(f"models are {len(models)}; pass two or more different ones")
        self.policy = policy or MergePolicy()
        if self.policy.most_merges is not None and epoch is None:
            raise InvalidValueError("the policy limits merges per epoch; pass epoch=, the steps of one")
        self.names = [str(i) for i in range(len(models))] if names is None else list(names)
        self.shared, self.left_out = shared_tensors(models)
        if start_alike:
            copy_tensors(tensors_of(models[0]), models[1:], self.shared)
        elif different := first_difference(models, self.shared):
            raise InvalidValueError(
                f"members begin with different weights (such as {different}), and averaging those ruins them: "
                "pass start_alike=True, or align them first"
            )
        members = formed(models, loss, optimizer, vectorised)
        self._roster = Roster(members, loss, self.shared, probes)
        self.models = self._roster.models
        self._fixed = fixed
        self._grouping = Grouping(len(models), fixed)
        self._journal = Journal(self.names, generations, ledger, run)
        self.steps, self._epoch, self._merges = 0, epoch, 0

    @property
    def groups(self) -> list[list[int]]:
        """Which members merge with each other now; one that probes is alone."""
        return [list(group) for group in self._grouping.groups]

    @property
    def bodies(self) -> list[list[int]]:
        """Which share all but their output layer: groups that learn the same features for other outputs."""
        return [list(body) for body in self._grouping.bodies]

    def step(self, batches: Sequence[Batch]) -> list[float | None]:
        """One step of each member that has a batch, and every ``policy.interval`` steps a decision.

        Args:
            batches: (inputs, targets) for each member, or ``None`` for one that has none now.

        Returns:
            The losses before the step. Raises ``InvalidValueError`` for another number of batches.
            O(a training step of each member), vectorised where possible.
        """
        if len(batches) != len(self.models):
            raise InvalidValueError(
                f"{len(batches)} batches for {len(self.models)} members; give one, or None, for each"
            )
        if self.steps == 0 and self._journal.generations is not None:
            states = {name: self._roster.state(i) for i, name in enumerate(self.names)}
            self._journal.generations.mark("start", states, step=0)
        losses = self._roster.step(batches)
        if self._epoch and self.steps % self._epoch == 0:
            self._merges = 0
        self.steps += 1
        if self.steps % self.policy.interval == 0:
            most = math.inf if self.policy.most_merges is None else self.policy.most_merges - self._merges
            decision = Decision(self.policy, self._roster, self._grouping, self._journal, self.steps)
            self._merges += decision.take(most)
        return losses

    @torch.no_grad()
    def predict(self, x: Any, *, member: int | None = None, group_of: int | None = None) -> Tensor:
        """Outputs of one member, the mean outputs of the group that a member is in, or of all; in evaluation mode.

        Where members learn conflicting things, the mean over all is of no use: ask a member or a group.
        """
        chosen = list(range(len(self.models)))
        if member is not None:
            chosen = [member]
        elif group_of is not None:
            chosen = next(group for group in self.groups if group_of in group)
        outputs = []
        for model in (self.models[i] for i in chosen):
            with evaluating(model):
                outputs.append(model(x))
        return torch.stack(outputs).mean(0)

    def export(self, member: int) -> nn.Module:
        """A copy of a member as a plain model: tethers baked in, memory of its own. O(weights)."""
        model = copy.deepcopy(self.models[member])
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return detach(model)

    def restore(self, number: int) -> None:
        """Put the weights of a bookmark back into the members it holds; all of them probe anew."""
        generations = self._journal.generations
        if generations is None:
            raise InvalidStateError("this population keeps no bookmarks; pass generations=")
        for name, tensors in generations.restore(number).items():
            member = self.names.index(name)
            copy_tensors(tensors, [self.models[member]], tensors)
            self._roster.begin_probe(member)
        self._grouping = Grouping(len(self.models), self._fixed)

    def state_dict(self) -> dict[str, Any]:
        """All that decides how training goes on: a copy, of plain values and tensors only.

        That is weights, buffers and optimisers, groups and those that probe, losses and batches that were kept, steps
        and merges. Not in it are the models, the loss and the policy themselves, modes of modules, and generators of
        random numbers. ``tithe.tether.checkpoints`` writes it to a file, without pickle.

        Returns:
            Nested dicts, lists and tuples. Raises ``InvalidDTypeError`` where a batch, or what an optimiser remembers,
            is of another kind. O(entries).
        """
        state = {
            "names": self.names, "interval": self.policy.interval, "steps": self.steps, "merges": self._merges,
            "grouping": self._grouping.state_dict(), **self._roster.state_dict(),
        }  # fmt: skip
        return cast(dict[str, Any], copied(state, "state"))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another population was, bit by bit as it would have.

        Args:
            state: of ``state_dict``, on any device; it is copied. Batches go to the devices of their members.

        Raises ``InvalidValueError`` where it is of other models, optimisers, names, fixed groups or another interval,
        saying what was given and expected; nothing is changed then. O(entries).

        >>> models = [nn.Linear(2, 1) for _ in range(2)]
        >>> one, other = (
        ...     Population(copy.deepcopy(models), nn.functional.mse_loss, torch.optim.Adam, start_alike=True)
        ...     for _ in range(2)
        ... )
        >>> batches = [(torch.ones(4, 2), torch.ones(4, 1)), (torch.ones(4, 2), torch.zeros(4, 1))]
        >>> losses = one.step(batches)
        >>> other.load_state_dict(one.state_dict())
        >>> one.step(batches) == other.step(batches), other.steps
        (True, 2)
        """
        if lacking := [part for part in _PARTS if part not in state]:
            raise InvalidValueError(f"the state lacks {', '.join(lacking)}; pass what state_dict gave")
        for part, own in (("names", self.names), ("interval", self.policy.interval)):
            if state[part] != own:
                raise InvalidValueError(
                    f"the state has the {part} {state[part]}, this population has {own}; nothing was loaded"
                )
        grouping = Grouping(len(self.models), self._fixed)
        grouping.load_state_dict(state["grouping"])
        self._roster.load_state_dict(state, self.names)
        self._grouping, self.steps, self._merges = grouping, state["steps"], state["merges"]
