"""Who merges with whom: groups share everything, bodies share all but their outputs, and some still probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tithe.errors import InvalidValueError

__all__ = ["Grouping"]


class Grouping:
    """The members of a population in groups, and the groups in bodies.

    Attributes:
        groups: lists of members, ascending, by their first one; one that probes is alone.
        bodies: likewise; each is one group or several.
        settled: members that are through their probe.
        fixed: whether nobody probes or leaves.

    Args:
        count: of the members.
        fixed: groups that are known; otherwise all begin alone.

    Raises ``InvalidValueError`` where ``fixed`` does not hold every member once.

    >>> grouping = Grouping(4)
    >>> grouping.settle([[0, 1], [2]], [[0, 1, 2]])
    True
    >>> grouping.groups, grouping.bodies, grouping.speakers([3])
    ([[0, 1], [2], [3]], [[0, 1, 2], [3]], [0, 2, 3])
    """

    def __init__(self, count: int, fixed: Sequence[Sequence[int]] | None = None) -> None:
        self._count, self.fixed = count, fixed is not None
        self.groups = [[i] for i in range(count)] if fixed is None else sorted(sorted(group) for group in fixed)
        if sorted(i for group in self.groups for i in group) != list(range(count)):
            raise InvalidValueError(f"fixed is {fixed}; put each of members 0 to {count - 1} in one group")
        self.bodies = [list(group) for group in self.groups]
        self.settled = set(range(count)) if self.fixed else set[int]()

    @property
    def settled_groups(self) -> list[list[int]]:
        """The groups that do not probe."""
        return [group for group in self.groups if group[0] in self.settled]

    def speakers(self, ready: Sequence[int]) -> list[int]:
        """Who is compared: one for each settled group, whose weights are all the same, and those that are ready."""
        return [group[0] for group in self.settled_groups] + list(ready)

    def united(self, cluster: Sequence[int]) -> list[int]:
        """The members of all settled groups whose speakers are in a cluster, and the others of the cluster."""
        old = [group for group in self.settled_groups if group[0] in cluster]
        return sorted({member for group in old for member in group} | set(cluster))

    def share_a_body(self, one: int, other: int) -> bool:
        """Whether two members share all but their outputs."""
        return any(one in body and other in body for body in self.bodies)

    def settle(self, groups: Sequence[Sequence[int]], bodies: Sequence[Sequence[int]]) -> bool:
        """Take over what was decided of some members; the others probe. Whether anything is another way than before."""
        self.settled = {member for group in groups for member in group}
        probing = [[i] for i in range(self._count) if i not in self.settled]
        before = self.groups, self.bodies
        self.groups, self.bodies = (sorted([*map(sorted, new), *probing]) for new in (groups, bodies))
        return (self.groups, self.bodies) != before

    def leave(self, member: int) -> None:
        """A member probes, alone."""
        self.settled.discard(member)
        self.groups, self.bodies = (
            sorted([*filter(None, ([i for i in group if i != member] for group in old)), [member]])
            for old in (self.groups, self.bodies)
        )

    def state_dict(self) -> dict[str, Any]:
        """All of it, in lists."""
        groups, bodies = ([list(part) for part in parts] for parts in (self.groups, self.bodies))
        return {"groups": groups, "bodies": bodies, "settled": sorted(self.settled), "fixed": self.fixed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave.

        Raises ``InvalidValueError`` where it is of other members, or groups are fixed here or there and not the same;
        nothing is changed then.
        """
        if state["fixed"] != self.fixed or (self.fixed and state["groups"] != self.groups):
            there, here = (f"{'fixed' if fixed else 'free'} groups {groups}" for fixed, groups in (
                (state["fixed"], state["groups"]), (self.fixed, self.groups)))  # fmt: skip
            raise InvalidValueError(f"the state has {there}, this population has {here}; nothing was loaded")
        for name in ("groups", "bodies"):
            if sorted(i for part in state[name] for i in part) != list(range(self._count)):
                raise InvalidValueError(f"{name} are {state[name]}; expected each of {self._count} members once")
        self.groups, self.bodies = ([list(part) for part in state[name]] for name in ("groups", "bodies"))
        self.settled = set(state["settled"])
