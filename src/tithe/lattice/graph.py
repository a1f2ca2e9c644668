"""What waits for what: tasks become ready when all they need has succeeded, and a circle is named."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from tithe.errors import InvalidValueError
from tithe.lattice.task import Task, summary

__all__ = ["Needs", "find_cycle", "refuse_cycles"]


class Needs:
    """Counts, for everything that waits, what it still needs; knows who waits for whom.

    >>> needs = Needs()
    >>> needs.add("roof", ["wall", "beam"])
    >>> needs.met("wall"), needs.met("beam")
    ([], ['roof'])
    """

    def __init__(self) -> None:
        self._open: dict[Hashable, set[Hashable]] = {}
        self._waiting: dict[Hashable, list[Hashable]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, who: Hashable, needs: Iterable[Hashable]) -> None:
        """Someone waits for all of these."""
        self._open[who] = set(needs)
        for need in self._open[who]:
            self._waiting.setdefault(need, []).append(who)

    def met(self, need: Hashable) -> list[Hashable]:
        """Something is there now; who has all it needs by that. O(those who wait for it)."""
        ready = []
        for who in self._waiting.pop(need, ()):
            if who in self._open:
                self._open[who].discard(need)
                if not self._open[who]:
                    del self._open[who]
                    ready.append(who)
        return ready

    def failed(self, need: Hashable) -> list[Hashable]:
        """Something will never be there; who waits for it in vain (not those who wait for these)."""
        lost = [who for who in self._waiting.pop(need, ()) if who in self._open]
        for who in lost:
            del self._open[who]
        return lost

    def forget(self, who: Hashable) -> None:
        """Someone waits no more."""
        self._open.pop(who, None)

    def open(self) -> dict[Hashable, set[Hashable]]:
        """Who waits for what."""
        return self._open


def find_cycle(edges: Mapping[Hashable, Iterable[Hashable]]) -> list[Hashable]:
    """A circle in a graph, as its nodes in order; empty where there is none. O(nodes + edges).

    >>> find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}), find_cycle({"a": ["b"]})
    (['b', 'c'], [])
    """
    done: set[Hashable] = set()
    for start in edges:
        path: list[Hashable] = []
        on_path: set[Hashable] = set()
        stack = [(start, iter(edges.get(start, ())))]
        if start in done:
            continue
        path.append(start)
        on_path.add(start)
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n not in done), None)
            if following is None:
                stack.pop()
                path.pop()
                on_path.discard(node)
                done.add(node)
            elif following in on_path:
                return path[path.index(following) :]
            else:
                path.append(following)
                on_path.add(following)
                stack.append((following, iter(edges.get(following, ()))))
    return []


def refuse_cycles(tasks: Iterable[Task]) -> None:
    """Raise ``InvalidValueError`` where tasks need each other in a circle, naming it. O(tasks + needs)."""
    waiting = [task for task in tasks if isinstance(task, Task) and task.waits_for]
    names: dict[Hashable, Task] = {id(task): task for task in waiting}
    names |= {task.key: task for task in waiting if task.key}
    edges: dict[Hashable, list[Hashable]] = {}
    for task in waiting:
        found = [names.get(need if isinstance(need, str) else id(need)) for need in task.waits_for]
        edges[id(task)] = [id(other) for other in found if other is not None]
    if cycle := find_cycle(edges):
        shown = " needs ".join(summary(names[who]) for who in [*cycle, cycle[0]])
        raise InvalidValueError(f"tasks need each other in a circle: {shown}; take one of these needs away")
