"""The ready tasks in their order: coherent ones first, then urgent ones, and none is overtaken without end."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable

from tithe.errors import InvalidValueError
from tithe.lattice.jobs import Job

__all__ = ["ReadyQueue"]

_Entry = tuple[int, float, float, int, int, Job]  # age, less urgency, deadline, number; turn, job


class ReadyQueue:
    """A queue in which coherence moves a task forward by at most ``patience`` places, and like tasks leave together.

    Scores fall into ``levels``; below ``threshold`` all are the lowest. Within a level, and within about
    ``patience / levels`` admissions, urgency decides, then the deadline, then who came first. A task that has waited
    long is overtaken no more: at most ``overtaking`` tasks that came after it leave before it, whatever comes.

    Args:
        patience: by how many admissions a fully coherent task moves forward; 0 is first come, first served.
        threshold: scores below it count as none.
        levels: into which scores from 0 to 1 are divided.

    Every operation is O(log n). Source: MISSION L1, L2.
    """

    def __init__(self, patience: int = 1024, threshold: float = 0.3, levels: int = 16) -> None:
        if patience < 0 or levels < 1 or not 0 <= threshold <= 1:
            raise InvalidValueError(
                f"patience is {patience}, levels {levels}, threshold {threshold}; use at least 0, at least 1, 0 to 1"
            )
        self.patience, self.threshold, self.levels = patience, threshold, levels
        self._span = max(1, -(-patience // levels))
        self._heap: list[_Entry] = []
        self._groups: dict[Hashable, list[_Entry]] = {}  # heaps, too
        self._size, self._turns = 0, 0

    def __len__(self) -> int:
        return self._size

    @property
    def overtaking(self) -> int:
        """How many tasks that were admitted after a task may leave before it, at most."""
        return (self.levels + 1) * self._span + self.patience if self.patience else 0

    def level(self, score: float) -> int:
        """The level of a score from 0 to 1."""
        return 0 if score < self.threshold else min(self.levels, int(score * self.levels))

    def put(self, job: Job) -> None:
        """Add a job, or give one that is there another place, since its level has changed."""
        self._size += job.turn == 0
        self._turns += 1
        job.turn = self._turns
        task, age = job.task, job.number // self._span - job.level
        order = (age, -task.urgency, task.deadline, job.number) if self.patience else (job.number, 0.0, 0.0, 0)
        entry = (*order, job.turn, job)
        heapq.heappush(self._heap, entry)
        if job.group is not None and self.patience:
            heapq.heappush(self._groups.setdefault(job.group, []), entry)

    def raise_level(self, group: Hashable, level: int) -> None:
        """All ready jobs of a group get a level. O(jobs of the group · log n)."""
        for job in [entry[5] for entry in self._groups.get(group, ()) if entry[4] == entry[5].turn]:
            if job.level != level:
                job.level = level
                self.put(job)

    def take(self, budget: float, cost: Callable[[Job], float], last: Hashable = None, most: int = 512) -> list[Job]:
        """The next jobs for one worker, at least one if there is any, of which all but the last fit into a budget.

        The first in order goes first, or one of the group that the worker had last, then others of that group, and so
        on; only jobs that came at most ``patience`` after the first in order are taken early.

        Args:
            budget: seconds.
            cost: seconds that a job is likely to take.
            last: the group of the worker's last job.
            most: jobs.
        """
        taken: list[Job] = []
        spent = 0.0
        while len(taken) < most and (first := self._first()) is not None:
            lead = self._of_group(last, first.number + self.patience) if last is not None else None
            job = lead or first
            price = cost(job)
            if taken and (spent + price > budget or job.alone):
                break
            self._remove(job)
            taken.append(job)
            spent += price
            last = job.group if self.patience else None
            if job.alone:
                break
        return taken

    def clear(self) -> list[Job]:
        """Empty the queue and return what was in it, first come first."""
        rest = sorted({id(entry[5]): entry[5] for entry in self._heap if entry[5].turn}.values(), key=_number)
        for job in rest:
            job.turn = 0
        self._heap, self._groups, self._size = [], {}, 0
        return rest

    def _first(self) -> Job | None:
        while self._heap:
            entry = self._heap[0]
            if entry[4] == entry[5].turn:
                return entry[5]
            heapq.heappop(self._heap)  # it was taken, or has got another place
        return None

    def _of_group(self, group: Hashable, latest: int) -> Job | None:
        entries = self._groups.get(group)
        while entries:
            if entries[0][4] != entries[0][5].turn:
                heapq.heappop(entries)
            else:
                return entries[0][5] if entries[0][5].number <= latest else None
        self._groups.pop(group, None)
        return None

    def _remove(self, job: Job) -> None:
        job.turn = 0
        self._size -= 1
        if len(self._heap) > 4 * self._size + 1024:  # what was taken early leaves an entry behind
            self._heap = [entry for entry in self._heap if entry[4] == entry[5].turn]
            heapq.heapify(self._heap)
        if job.group is not None:
            self._of_group(job.group, -1)  # forgets a group of which nothing is left


def _number(job: Job) -> int:
    return job.number
