"""Ways to run the same tasks on as many workers, and what each spends: for claim L4 and for benchmarks/lattice.py."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from tithe.audit.lattice_work import Work, coherence_of
from tithe.audit.statistics import Interval, interval
from tithe.lattice import Epoch, Lattice, Task
from tithe.lattice.cache_misses import CacheMisses
from tithe.lattice.libraries import limit_libraries
from tithe.lattice.usage import own_usage

__all__ = [
    "ARMS", "BY_HAND", "CHUNKED", "COHERENCE", "FIFO", "IDENTITY", "JOBLIB", "KNOWN", "MAPPED", "ONE_BY_ONE", "ORDERED",
    "PLAIN", "THREADS", "UNITS", "WAITED", "Spent", "race", "saved",
]  # fmt: skip

_CHUNK = 8  # calls that arms without a scheduler hand out at once
_ENOUGH = 4  # repeats
UNITS = ("switches", "cache_misses", "cpu_seconds", "seconds")
_LEAST = {"switches": 1, "cache_misses": 1, "cpu_seconds": 1e-6, "seconds": 1e-6}  # what is less counts as this much

THREADS, FIFO, WAITED = "one thread per task", "FIFO pool", "FIFO pool, one wait for all"
MAPPED = f"pool.map, chunksize={_CHUNK}"
CHUNKED, ORDERED = f"FIFO pool, chunks of {_CHUNK}", "sorted by coherence, FIFO pool"
BY_HAND, JOBLIB = f"sorted by block, chunks of {_CHUNK}", "joblib, threads"
PLAIN, ONE_BY_ONE = "Lattice, first come first served", "Lattice, one call at a time"
IDENTITY, COHERENCE, KNOWN = "Lattice, by identity", "Lattice, by coherence", "Lattice, coherence known beforehand"

Go = Callable[[], "Epoch | list[Any]"]
Arm = Callable[[Work, int], AbstractContextManager[Go]]


class Spent(NamedTuple):
    """What running all tasks once took this process.

    Attributes:
        seconds: on the clock.
        cpu_seconds: of all threads.
        switches: voluntary and involuntary ones of context.
        cache_misses: of the last level; ``None`` where the kernel does not let them be counted.
        scoring: seconds that went into scores.
    """

    seconds: float
    cpu_seconds: float
    switches: int
    cache_misses: int | None = None
    scoring: float = 0.0


def race(
    work: Work,
    names: Sequence[str],
    repeats: int,
    workers: int,
    *,
    seed: int = 0,
    tell: Callable[[float], None] = lambda done: None,
    left: Callable[[], float] = lambda: math.inf,
) -> dict[str, list[Spent]]:
    """Run the tasks in every way, ``repeats`` times, the ways in another order each time.

    Workers are started before the clock is. Numerical libraries use one thread in each, in all ways.

    Args:
        work: the tasks.
        names: of ``ARMS``.
        repeats: so many, after one that does not count.
        workers: threads at a time; ``THREADS`` has more.
        seed: of the orders.
        tell: is given the share that is done.
        left: seconds; where there are none, four repeats are enough.

    Returns:
        For each name as many readings; those at the same place were taken shortly one after the other.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[Spent]] = {name: [] for name in names}
    coherence_of(work.blocks[0][:1])  # imports torch
    undo = limit_libraries(1)
    try:
        for repeat in range(repeats + 1):
            for name in rng.permutation(list(names)).tolist():
                with ARMS[name](work, workers) as go:
                    spent = _measured(go)
                if repeat:
                    found[name].append(spent)
            tell((repeat + 1) / (repeats + 1))
            if repeat >= _ENOUGH and left() < 0:
                break
    finally:
        undo()
    return found


def saved(ours: Sequence[Spent], theirs: Sequence[Spent], unit: str) -> Interval | None:
    """The share of ``theirs`` that ``ours`` does without, with its 95 % interval; ``None`` where it was not counted.

    It is one less the geometric mean of the ratios of what was read at the same place, so that turning a ratio round
    turns its logarithm's sign, and one reading that another process has disturbed does not outweigh the rest.

    >>> round(saved([Spent(1.0, 1.0, 30)] * 3, [Spent(1.0, 2.0, 40)] * 3, "switches").mean, 2)
    0.25
    """
    pairs = [(getattr(a, unit), getattr(b, unit)) for a, b in zip(ours, theirs, strict=True)]
    if any(reading is None for pair in pairs for reading in pair):
        return None
    least = _LEAST[unit]
    mean, low, high = interval([math.log(max(a, least) / max(b, least)) for a, b in pairs])
    ends = (None, None) if low is None or high is None else (1 - math.exp(high), 1 - math.exp(low))
    return Interval(1 - math.exp(mean), *ends)


def _measured(go: Go) -> Spent:
    with CacheMisses() as misses:
        before, start = own_usage(), time.perf_counter()
        done = go()
        seconds, used = time.perf_counter() - start, own_usage().since(before)
    assert used.cpu_seconds is not None and used.voluntary is not None and used.involuntary is not None
    scoring = done.receipt.scoring if isinstance(done, Epoch) else 0.0
    return Spent(seconds, used.cpu_seconds, used.voluntary + used.involuntary, misses.count, scoring)


@contextmanager
def _threads(work: Work, workers: int) -> Iterator[Go]:
    def go() -> list[Any]:
        values: list[Any] = [None] * len(work.tasks)

        def run(place: int) -> None:
            values[place] = _call(work.tasks[place])

        threads = [Thread(target=run, args=(place,)) for place in range(len(values))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return values

    yield go


@contextmanager
def _pool(run: Callable[[ThreadPoolExecutor, list[Task]], list[Any]], work: Work, workers: int) -> Iterator[Go]:
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(time.sleep, [0.001] * workers))  # starts its threads
        yield lambda: run(pool, work.tasks)


@contextmanager
def _sorted(key: Callable[[Work], dict[int, float]], arm: Arm, work: Work, workers: int) -> Iterator[Go]:
    """Another arm with the tasks in an order that costs nothing."""
    keys = key(work)
    places = sorted(range(len(work.tasks)), key=lambda place: keys[id(work.tasks[place].data)])
    with arm(Work(work.name, [work.tasks[place] for place in places], work.blocks), workers) as go:

        def back() -> list[Any]:
            done = go()
            assert isinstance(done, list)
            values = dict(zip(places, done, strict=True))
            return [values[place] for place in range(len(places))]

        yield back


@contextmanager
def _joblib(work: Work, workers: int) -> Iterator[Go]:
    from joblib import Parallel, delayed  # type: ignore[import-untyped]  # comes with scikit-learn

    with Parallel(workers, prefer="threads") as parallel:
        parallel(delayed(time.sleep)(0.001) for _ in range(workers))
        yield lambda: parallel(delayed(task.fn)(*task.args) for task in work.tasks)


@contextmanager
def _lattice(settings: Callable[[Work], dict[str, Any]], work: Work, workers: int) -> Iterator[Go]:
    with Lattice(workers, **settings(work)) as lattice:
        lattice.run_epoch([Task(time.sleep, 0.001) for _ in range(workers)])  # starts its threads
        yield lambda: lattice.run_epoch(work.tasks).check()


def _submitted(pool: ThreadPoolExecutor, tasks: list[Task]) -> list[Any]:
    return [future.result() for future in [pool.submit(task.fn, *task.args) for task in tasks]]


def _waited_for(pool: ThreadPoolExecutor, tasks: list[Task]) -> list[Any]:
    futures = [pool.submit(task.fn, *task.args) for task in tasks]
    wait(futures)
    return [future.result() for future in futures]


def _mapped(pool: ThreadPoolExecutor, tasks: list[Task]) -> list[Any]:
    return list(pool.map(_call, tasks, chunksize=_CHUNK))


def _in_chunks(pool: ThreadPoolExecutor, tasks: list[Task]) -> list[Any]:
    parts = [tasks[start : start + _CHUNK] for start in range(0, len(tasks), _CHUNK)]
    return [value for future in [pool.submit(_calls, part) for part in parts] for value in future.result()]


def _call(task: Task) -> Any:
    return task.fn(*task.args)


def _calls(tasks: list[Task]) -> list[Any]:
    return [_call(task) for task in tasks]


def _places(work: Work) -> dict[int, float]:
    return {id(block): place for place, block in enumerate(work.blocks)}


def _incoherences(work: Work) -> dict[int, float]:
    return {block: -coherence for block, coherence in work.coherences.items()}


ARMS: dict[str, Arm] = {
    THREADS: _threads,
    FIFO: partial(_pool, _submitted),
    WAITED: partial(_pool, _waited_for),
    MAPPED: partial(_pool, _mapped),
    JOBLIB: _joblib,
    CHUNKED: partial(_pool, _in_chunks),
    ORDERED: partial(_sorted, _incoherences, partial(_pool, _submitted)),
    BY_HAND: partial(_sorted, _places, partial(_pool, _in_chunks)),
    PLAIN: partial(_lattice, lambda work: {"patience": 0}),
    ONE_BY_ONE: partial(_lattice, lambda work: {"score": work.known, "chunk": 1}),
    IDENTITY: partial(_lattice, lambda work: {}),
    COHERENCE: partial(_lattice, lambda work: {"score": coherence_of}),
    KNOWN: partial(_lattice, lambda work: {"score": work.known}),
}
