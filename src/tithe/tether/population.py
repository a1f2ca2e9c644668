"""Several models, each with its own data, that merge where they agree and stay apart where they do not."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.ledger import Ledger
from tithe.tether.compatibility import compatibility
from tithe.tether.forming import copy_tensors, first_difference, formed, shared_tensors
from tithe.tether.generations import Generations
from tithe.tether.grouping import Grouping
from tithe.tether.members import Batch, Loss, MakeOptimizer, tensors_of
from tithe.tether.merging import adopt, distance, merge, repel
from tithe.tether.modes import evaluating
from tithe.tether.parametrization import detach, tethers
from tithe.tether.policy import MergePolicy, Plateau, clusters, transfer
from tithe.tether.trials import agreement_of_features, loss_on, output_layer
from tithe.tether.watch import Watch

__all__ = ["Population"]

_SYSTEM = "tether"


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
        generations: where every merge is bookmarked; ``None`` keeps none.
        ledger: where losses, compatibilities, groups and merges are written; ``None`` for nowhere.
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
        ledger: Ledger | None = None,
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
        outputs = {output_layer(model) for model in models}
        self._outer = {
            name for name in self.shared if any(name.startswith(f"{out}." if out else "") for out in outputs)
        }
        self._inner = set(self.shared) - self._outer
        self._members = formed(models, loss, optimizer, vectorised)
        self.models, self._loss = self._members.models, loss
        self._probes: list[list[Any]] = [[] for _ in models]
        self._kept = probes
        self.steps = 0
        self._grouping = Grouping(len(models), fixed)
        self._generations, self._ledger, self._run, self._epoch = generations, ledger, run, epoch
        self._merges = 0
        self._watch = [Watch() for _ in models]
        for member in range(len(models)):
            self._begin_probe(member)
        if generations is not None:
            generations.mark("start", {self.names[i]: self._state(i) for i in range(len(models))}, step=0)

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
        for member, batch in enumerate(batches):
            if batch is not None:
                self._probes[member] = [*self._probes[member][1 - self._kept :], batch] if self._kept > 1 else [batch]
                if math.isnan(self._watch[member].first):
                    self._watch[member].first = loss_on(self.models[member], self._loss, self._probes[member])
        losses = self._members.step(batches)
        for watch, loss in zip(self._watch, losses, strict=True):
            watch.add(loss)
        if self._epoch and self.steps % self._epoch == 0:
            self._merges = 0
        self.steps += 1
        if self.steps % self.policy.interval == 0:
            self._decide()
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
        if self._generations is None:
            raise InvalidStateError("this population keeps no bookmarks; pass generations=")
        for name, tensors in self._generations.restore(number).items():
            copy_tensors(tensors, [self.models[self.names.index(name)]], tensors)
            self._begin_probe(self.names.index(name))
        self._grouping = Grouping(len(self.models))

    def _decide(self) -> None:
        """Who leaves, who is through its probe, who goes with whom, and the merges."""
        policy, grouping = self.policy, self._grouping
        for watch in self._watch:
            watch.close()
        if not grouping.fixed:
            for member in sorted(grouping.settled):
                if self._watch[member].alarmed(policy.alarm):
                    grouping.leave(member)
                    self._begin_probe(member)
                    self._mark("regroup", [member])
            ready = [i for i, w in enumerate(self._watch) if i not in grouping.settled and w.intervals >= policy.probe]
            again = policy.recheck is not None and self.steps // policy.interval % policy.recheck == 0
            if ready or (again and len(grouping.settled_groups) > 1):
                self._regroup(ready)
        self._tell("loss", losses=[watch.last for watch in self._watch], members=self.names)
        self._tell("groups", groups=self.groups, bodies=self.bodies, members=self.names)
        for body in self.bodies:
            limited = policy.most_merges is not None and self._merges >= policy.most_merges
            if len(body) > 1 and not limited and self._due(body):
                self._merge(body)
        if policy.when == "plateau":
            for member, watch in enumerate(self._watch):
                watch.before = self._state(member, clone=True)

    def _due(self, members: list[int]) -> bool:
        """Whether some members may merge now: always, or where one of them is on a plateau."""
        if self.policy.when == "interval":
            return True
        plateau = self.policy.plateau or Plateau()
        moved = (distance(self._state(i), self._watch[i].before) / self.policy.interval for i in members)
        return any(plateau.reached(self._watch[i].losses, change) for i, change in zip(members, moved, strict=True))

    def _regroup(self, ready: list[int]) -> None:
        """Settled groups that go together unite, members that are through their probe join one or form new ones."""
        grouping = self._grouping
        speakers = grouping.speakers(ready)
        found = self._compatibility(speakers)
        self._tell(
            "compatibility", measure=self.policy.measure, values=found.tolist(),
            members=[self.names[i] for i in speakers],
        )  # fmt: skip
        named = [[speakers[i] for i in cluster] for cluster in clusters(found, self.policy.threshold)]
        for cluster in named:
            teachers = [i for i in cluster if i not in ready]
            for member in ready:
                if teachers and member in cluster:  # it was shaped by something else: it takes over what they have
                    adopt(self._whole(member), self._whole(teachers[0]))
        groups = [grouping.united(cluster) for cluster in named]
        if ready and self.policy.drift == "repel":
            self._repel(groups, ready)
        if grouping.settle(groups, self._bodies(groups, ready)):
            self._mark("regroup", sorted(ready))

    def _bodies(self, groups: list[list[int]], ready: list[int]) -> list[list[int]]:
        """Groups that have learned the same features, if not the same task, united; all but outputs can merge."""
        if self.policy.features is None or len(groups) < 2:
            return groups
        speakers = [next((i for i in group if i in ready), group[0]) for group in groups]
        found = agreement_of_features(
            [self.models[i] for i in speakers], [self._watch[i].before for i in speakers],
            [self._probes[i] for i in speakers],
        )  # fmt: skip
        for i, j in itertools.combinations(range(len(speakers)), 2):
            if not {speakers[i], speakers[j]} & set(ready):  # what was decided stays until one of them probes again
                found[i, j] = found[j, i] = float(self._grouping.share_a_body(speakers[i], speakers[j]))
        self._tell("features", values=found.tolist(), members=[self.names[i] for i in speakers])
        return [sorted(i for c in cluster for i in groups[c]) for cluster in clusters(found, self.policy.features)]

    def _compatibility(self, members: list[int]) -> Tensor:
        """The policy's measure for each pair of some members, (k, k)."""
        if self.policy.measure == "transfer":
            losses = [[loss_on(self.models[i], self._loss, self._probes[j]) for j in members] for i in members]
            return transfer(torch.tensor(losses), torch.tensor([self._watch[i].first for i in members]))
        states = []
        for member in members:
            now = self._state(member)
            if self.policy.measure == "update":
                before = self._watch[member].before
                states.append({n: t - before[n] for n, t in now.items() if t.is_floating_point()})
            else:
                states.append(tethers(self.models[member]) or now)
        return torch.tensor([[compatibility(a, b, self.policy.measure) for b in states] for a in states])

    def _merge(self, body: list[int]) -> None:
        """Merge the groups of a body: outputs group by group, all else over the whole body."""
        before = self._losses(body)
        groups = [group for group in self.groups if group[0] in body]
        whole = {i: self._whole(i) for i in body}
        for members, chosen in [(body, self._inner), *((group, self._outer) for group in groups if len(group) > 1)]:
            weights = [1 / max(self._watch[i].last, 1e-6) for i in members] if self.policy.weighted else None
            parts = [{n: t for n, t in whole[i].items() if n.partition("/")[0] in chosen} for i in members]
            merge(parts, weights, self.policy.merge)
        self._merges += 1
        self._mark("merge", body, before)

    def _repel(self, groups: list[list[int]], ready: list[int]) -> None:
        """Members that are through their probe are pushed away from those of other groups."""
        for group in groups:
            others = [self._state(other[0], clone=True) for other in groups if other is not group]
            pushed = [i for i in group if i in ready]
            before = self._losses(pushed)
            for member in pushed if others else []:
                repel(self._state(member), others, self.policy.repulsion, self.policy.most_distance)
            if pushed and others:
                self._mark("drift", pushed, before)

    def _begin_probe(self, member: int) -> None:
        self._watch[member].restart()
        self._watch[member].before = self._state(member, clone=True)

    def _state(self, member: int, *, clone: bool = False) -> dict[str, Tensor]:
        """The tensors of a member that take part, as they are or copied."""
        tensors = tensors_of(self.models[member])
        return {name: tensors[name].clone() if clone else tensors[name] for name in self.shared}

    def _whole(self, member: int) -> dict[str, Tensor]:
        """The tensors of a member that take part, and what its optimiser remembers of them."""
        if not self.policy.optimizer_state:
            return self._state(member)
        moments = self._members.moments(member)
        return self._state(member) | {n: t for n, t in moments.items() if n.partition("/")[0] in self.shared}

    def _losses(self, members: Sequence[int]) -> dict[str, float]:
        """Of some members on what they saw last, where somebody wants to know."""
        if self._generations is None and self._ledger is None:
            return {}
        return {self.names[i]: loss_on(self.models[i], self._loss, self._probes[i]) for i in members}

    def _mark(
        self, what: Literal["merge", "drift", "regroup"], members: Sequence[int], before: dict[str, float] | None = None
    ) -> None:
        """Bookmark what was done, and write it to the ledger."""
        after, number = self._losses(members), None
        if self._generations is not None:
            states = {self.names[i]: self._state(i) for i in members}
            number = self._generations.mark(what, states, step=self.steps, before=before, after=after).number
        losses = {"before": list((before or {}).values()), "after": list(after.values())}
        self._tell(what, members=list(members), generation=number, **losses)

    def _tell(self, kind: str, **payload: Any) -> None:
        if self._ledger is not None:
            self._ledger.append(self._run, _SYSTEM, kind, {"step": self.steps, **payload})
