"""What a population decides at the end of an interval: who leaves, who goes with whom, who merges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tithe.tether.bookmarks import Reason
from tithe.tether.compatibility import compatibility
from tithe.tether.grouping import Grouping
from tithe.tether.journal import Journal
from tithe.tether.merging import adopt, distance, merge, repel
from tithe.tether.parametrization import tethers
from tithe.tether.policy import MergePolicy, Plateau, clusters, transfer
from tithe.tether.roster import Roster
from tithe.tether.trials import agreement_of_features

__all__ = ["Decision"]


@dataclass(frozen=True)
class Decision:
    """One decision, to be taken once.

    Attributes:
        policy: by which it is taken.
        roster: whose members merge.
        grouping: of these; it is changed.
        journal: where it is written down.
        step: after which it is taken.
    """

    policy: MergePolicy
    roster: Roster
    grouping: Grouping
    journal: Journal
    step: int

    def take(self, most: float = math.inf) -> int:
        """Who leaves, who is through its probe, who goes with whom, and at most so many merges; the number of these."""
        watches, names, merges = self.roster.watches, list(self.journal.names), 0
        for watch in watches:
            watch.close()
        if not self.grouping.fixed:
            self._regroup()
        groups, bodies = ([list(part) for part in parts] for parts in (self.grouping.groups, self.grouping.bodies))
        self.journal.tell("loss", self.step, losses=[watch.last for watch in watches], members=names)
        self.journal.tell("groups", self.step, groups=groups, bodies=bodies, members=names)
        for body in bodies:
            if len(body) > 1 and merges < most and self._due(body):
                self._merge(body)
                merges += 1
        if self.policy.when == "plateau":
            for member, watch in enumerate(watches):
                watch.before = self.roster.state(member, clone=True)
        return merges

    def _regroup(self) -> None:
        """Those that were alarmed leave; those that are through their probe join, and now and then groups unite."""
        policy, grouping, watches = self.policy, self.grouping, self.roster.watches
        for member in sorted(grouping.settled):
            if watches[member].alarmed(policy.alarm):
                grouping.leave(member)
                self.roster.begin_probe(member)
                self._mark("regroup", [member])
        ready = [i for i, w in enumerate(watches) if i not in grouping.settled and w.intervals >= policy.probe]
        again = policy.recheck is not None and self.step // policy.interval % policy.recheck == 0
        if ready or (again and len(grouping.settled_groups) > 1):
            self._settle(ready)

    def _settle(self, ready: list[int]) -> None:
        """Settled groups that go together unite, members that are through their probe join one or form new ones."""
        grouping = self.grouping
        speakers = grouping.speakers(ready)
        found = self._compatibility(speakers)
        named = [self.journal.names[i] for i in speakers]
        self.journal.tell("compatibility", self.step, measure=self.policy.measure, values=found.tolist(), members=named)
        together = [[speakers[i] for i in cluster] for cluster in clusters(found, self.policy.threshold)]
        for cluster in together:
            teachers = [i for i in cluster if i not in ready]
            for member in ready:
                if teachers and member in cluster:  # it was shaped by something else: it takes over what they have
                    adopt(self._whole(member), self._whole(teachers[0]))
        groups = [grouping.united(cluster) for cluster in together]
        if ready and self.policy.drift == "repel":
            self._repel(groups, ready)
        if grouping.settle(groups, self._bodies(groups, ready)):
            self._mark("regroup", sorted(ready))

    def _compatibility(self, members: list[int]) -> Tensor:
        """The policy's measure for each pair of some members, (k, k)."""
        roster, measure = self.roster, self.policy.measure
        if measure == "transfer":
            losses = [[roster.loss_of(i, on=j) for j in members] for i in members]
            return transfer(torch.tensor(losses), torch.tensor([roster.watches[i].first for i in members]))
        states = []
        for member in members:
            now = roster.state(member)
            if measure == "update":
                before = roster.watches[member].before
                states.append({n: t - before[n] for n, t in now.items() if t.is_floating_point()})
            else:
                states.append(tethers(roster.models[member]) or now)
        return torch.tensor([[compatibility(a, b, measure) for b in states] for a in states])

    def _bodies(self, groups: list[list[int]], ready: list[int]) -> list[list[int]]:
        """Groups that have learned the same features, if not the same task, united; all but outputs can merge."""
        if self.policy.features is None or len(groups) < 2:
            return groups
        roster = self.roster
        speakers = [next((i for i in group if i in ready), group[0]) for group in groups]
        found = agreement_of_features(
            [roster.models[i] for i in speakers], [roster.watches[i].before for i in speakers],
            [roster.probes[i] for i in speakers],
        )  # fmt: skip
        for i, j in itertools.combinations(range(len(speakers)), 2):
            if not {speakers[i], speakers[j]} & set(ready):  # what was decided stays until one of them probes again
                found[i, j] = found[j, i] = float(self.grouping.share_a_body(speakers[i], speakers[j]))
        named = [self.journal.names[i] for i in speakers]
        self.journal.tell("features", self.step, values=found.tolist(), members=named)
        return [sorted(i for c in cluster for i in groups[c]) for cluster in clusters(found, self.policy.features)]

    def _due(self, members: list[int]) -> bool:
        """Whether some members may merge now: always, or where one of them is on a plateau."""
        if self.policy.when == "interval":
            return True
        plateau, watches = self.policy.plateau or Plateau(), self.roster.watches
        moved = (distance(self.roster.state(i), watches[i].before) / self.policy.interval for i in members)
        return any(plateau.reached(watches[i].losses, change) for i, change in zip(members, moved, strict=True))

    def _merge(self, body: list[int]) -> None:
        """Merge the groups of a body: outputs group by group, all else over the whole body."""
        roster, before = self.roster, self._losses(body)
        groups = [group for group in self.grouping.groups if group[0] in body]
        inner = set(roster.shared) - roster.outer
        whole = {i: self._whole(i) for i in body}
        for members, chosen in [(body, inner), *((group, roster.outer) for group in groups if len(group) > 1)]:
            weights = [1 / max(roster.watches[i].last, 1e-6) for i in members] if self.policy.weighted else None
            parts = [{n: t for n, t in whole[i].items() if n.partition("/")[0] in chosen} for i in members]
            merge(parts, weights, self.policy.merge)
        self._mark("merge", body, before)

    def _repel(self, groups: list[list[int]], ready: list[int]) -> None:
        """Members that are through their probe are pushed away from those of other groups."""
        for group in groups:
            others = [self.roster.state(other[0], clone=True) for other in groups if other is not group]
            pushed = [i for i in group if i in ready]
            before = self._losses(pushed)
            for member in pushed if others else []:
                repel(self.roster.state(member), others, self.policy.repulsion, self.policy.most_distance)
            if pushed and others:
                self._mark("drift", pushed, before)

    def _whole(self, member: int) -> dict[str, Tensor]:
        """The tensors of a member that take part, and what its optimiser remembers of them where that merges, too."""
        moments = self.roster.moments(member) if self.policy.optimizer_state else {}
        return self.roster.state(member) | moments

    def _losses(self, members: Sequence[int]) -> dict[str, float]:
        """Of some members on what they saw last, where somebody wants to know."""
        return {self.journal.names[i]: self.roster.loss_of(i) for i in members} if self.journal.kept else {}

    def _mark(self, what: Reason, members: Sequence[int], before: dict[str, float] | None = None) -> None:
        """Bookmark what was done with some members, and write it to the ledger."""
        states = {self.journal.names[i]: self.roster.state(i) for i in members}
        self.journal.mark(what, states, self.step, before or {}, self._losses(members))
