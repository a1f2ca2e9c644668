"""The order in which a ``Lattice`` begins tasks, and how long the incoherent ones wait: for L1, L2 and the bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tithe.errors import UnmeasurableError
from tithe.lattice import Lattice, Task

__all__ = ["HIGH", "LOW", "READY", "Waits", "begun_by_lattice", "is_low", "longest", "waits"]

READY = 240  # tasks: as many as a Lattice takes in before it hands out the first
LOW, HIGH = 0.1, 0.95  # coherence of a rare task, and of those that come all the time
_PAUSES = (0.1, 0.4, 1.6)  # seconds of work, of which scoring gets its share


def begun_by_lattice(
    scores: Sequence[float],
    data: Sequence[int],
    urgency: Sequence[int] | None = None,
    fn: Callable[[int], Any] = abs,
) -> tuple[list[int], list[Any]]:
    """Run one task for each entry of ``data`` with one worker, after an epoch in which their data were scored.

    Patience is 16 for each task, so that ageing has no say.

    Args:
        scores: of pieces of data.
        data: for each task, which of these it works on; at most ``READY``.
        urgency: of each task; 0 by default.
        fn: is given the number of the task.

    Returns:
        The numbers of the tasks in the order in which they begin, and their values in the order given,
        ``None`` for a task without one. Raises
        ``UnmeasurableError`` where the machine is too busy to score all data.

    >>> begun_by_lattice([0.4, 0.9], [0, 1, 0, 1], [0, 0, 1, 1])[0][::3]
    [3, 0]
    """
    pieces = [np.zeros(1) for _ in scores]
    by_piece = {id(piece): score for piece, score in zip(pieces, scores, strict=True)}
    for pause in _PAUSES:
        seen: set[int] = set()

        def score(piece: Any, seen: set[int] = seen) -> float:
            seen.add(id(piece))
            return by_piece[id(piece)]

        begun: list[int] = []

        def run(number: int, begun: list[int] = begun) -> Any:
            begun.append(number)
            return fn(number)

        with Lattice(1, score=score, patience=16 * len(data)) as lattice:
            lattice.run_epoch([Task(time.sleep, pause), *(Task(id, piece, data=piece) for piece in pieces)]).check()
            if len(seen) < len(pieces):
                continue
            tasks = [
                Task(run, number, data=pieces[piece], urgency=0 if urgency is None else urgency[number])
                for number, piece in enumerate(data)
            ]
            return begun, lattice.run_epoch(tasks).results
    raise UnmeasurableError("a machine that is less busy: data were not scored in time")


class Waits(NamedTuple):
    """The most tasks that begin while a rare one waits; of these, those that came later; and the stated bound of that.

    Attributes:
        waited: from when it was handed to the ``Lattice``.
        overtaken: tasks that came after it and began before it.
        overtaking: what ``Lattice.overtaking`` says that this is at most.
    """

    waited: int
    overtaken: int
    overtaking: int


def waits(workers: int, total: int, queue: int, fn: Callable[[int], Any] = abs) -> Waits:
    """A steady stream of coherent tasks on sixteen pieces of data, and now and then an incoherent one.

    Args:
        workers: threads.
        total: tasks.
        queue: of them that are ready at a time.
        fn: is given the number of the task.
    """
    coherent = [np.zeros(1) for _ in range(16)]
    known = {id(data) for data in coherent}
    begun: list[int] = []
    admitted: dict[int, int] = {}

    def run(number: int) -> Any:
        begun.append(number)
        return fn(number)

    def stream() -> Iterator[Task]:
        for number in range(total):
            if is_low(number):
                admitted[number] = len(begun)
            yield Task(run, number, data=np.zeros(1) if is_low(number) else coherent[number % len(coherent)])

    with Lattice(workers, score=lambda data: HIGH if id(data) in known else LOW, queue=queue) as lattice:
        for outcome in lattice.as_completed(stream()):
            assert outcome.ok
        return Waits(*longest(begun, admitted), lattice.overtaking)


def is_low(number: int) -> bool:
    """Whether the task with this number in a stream is an incoherent one."""
    return number % 500 == 100


def longest(begun: Sequence[int], admitted: dict[int, int]) -> tuple[int, int]:
    """How many tasks begin at most while one waits, and how many of them that came after it.

    Args:
        begun: numbers of tasks in the order in which they began.
        admitted: for the tasks that are looked at, how many had begun when they came.

    >>> longest([1, 0, 3, 4, 2], {2: 1, 0: 0})
    (3, 2)
    """
    place = {number: index for index, number in enumerate(begun)}
    waited = max(place[number] - before for number, before in admitted.items())
    return waited, max(sum(other > number for other in begun[: place[number]]) for number in admitted)
