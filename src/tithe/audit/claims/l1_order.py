"""L1: ready tasks are scored by the coherence of their data; coherent ones go first, then urgent ones."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Column, Evidence, Row, Table
from tithe.audit.formatting import show
from tithe.audit.statistics import interval

__all__ = ["CLAIM", "OURS", "SKETCH", "judge"]

SKETCH, OURS = "the sketch", "Lattice"
RIGHT = 0.95  # of the pairs, to say that an order is kept
_ALONE, _SHARED = "each its own image", "four on each image"
_LEVELS = 16  # that Lattice divides scores into: nearer ones count as like
_QUEUE, _STREAM = 256, 12_000  # tasks
_Order = Callable[[Sequence[float], Sequence[int], Sequence[int]], list[int]]


def judge(found: Evidence) -> Finding:
    """Whether more coherent tasks begin first, among like ones the more urgent, and every task some time.

    The rule was written before anything was measured. The claim holds where the sketch's own order puts the more
    coherent task first in 95 % of the pairs that differ, and the more urgent in 95 % of those that tie. It holds under
    a condition where ``Lattice`` does both for tasks with data of their own, and in a steady stream of coherent tasks
    begins an incoherent one within its stated bound. It reads the tables ``order`` (tasks, order, coherent, urgent:
    shares of pairs) and ``stream`` (order, waited and bound: tasks that begin while one waits).
    """
    rows, waits = found.rows("order"), found.rows("stream", order=OURS)
    if not rows or not waits:
        return Finding("unmeasured", "Nothing was measured.")
    sketch, ours = found.rows("order", order=SKETCH), found.rows("order", order=OURS, tasks=_ALONE)[0]
    tied = next(row for row in sketch if row["tasks"] == _SHARED)
    bounded = all(row["waited"] <= row["bound"] for row in waits)
    reason = "\n".join([*map(_sentence, rows), *map(_wait, found.rows("stream"))])
    measured = f"of tasks that tie, the more urgent first: {show(tied['urgent'], '.0%')} of pairs; Lattice, of like "
    measured += f"ones, {show(ours['urgent'], '.0%')}"
    if all(row["coherent"] >= RIGHT for row in sketch) and tied["urgent"] >= RIGHT:
        return Finding("holds", "Coherent tasks go first, then urgent ones.", measured, reason)
    if ours["coherent"] >= RIGHT and ours["urgent"] >= RIGHT and bounded:
        condition = "the urgent come first, near scores count as like, and who has waited long is overtaken no more"
        if found.rows("order", order=OURS, tasks=_SHARED)[0]["urgent"] < RIGHT:
            condition += "; tasks on the same data run together, whatever their urgency"
        return Finding(
            "holds if", "The sketch runs the least urgent first; turned round, and with ageing, the order is kept.",
            measured, reason, condition=f"{condition}.",
        )  # fmt: skip
    return Finding("fails", "The order is not kept, or tasks wait without bound.", measured, reason)


def _sentence(row: Row) -> str:
    return (
        f"{row['tasks']}, {row['order']}: the more coherent first in {show(row['coherent'], '.0%')} of the pairs that "
        f"differ by {1 / _LEVELS:.2f} or more, the more urgent in {show(row['urgent'], '.0%')} of those alike."
    )


def _wait(row: Row) -> str:
    bound = "has no bound" if row["bound"] is None else f"states at most {row['bound']:,} and {row['overtaking']:,}"
    return (
        f"A steady stream of coherent tasks, {row['order']}, workers: {row['workers']}. While an incoherent one waits, "
        f"{row['waited']:,} others begin at most, {row['overtaken']:,} of which came later; it {bound}."
    )


def _measure(run: Run) -> Evidence:
    import numpy as np
    import torch

    from tithe.audit.lattice_order import HIGH, LOW, READY
    from tithe.audit.lattice_work import images
    from tithe.resolvent import coherence

    (name, x, _), size = images(), READY
    seeds = run.seeds(run.pick(quick=3, full=20))
    shares: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, seed in enumerate(seeds):
        run.progress(0.7 * number / len(seeds), f"orders {size} tasks, seed {seed}")
        rng = np.random.default_rng(seed)
        picked = torch.from_numpy(x[rng.choice(len(x), size, replace=False)])
        known = coherence(picked, (1, 2)).double().numpy()
        for tasks, count in ((_ALONE, size), (_SHARED, size // 4)):
            data = rng.permutation(np.arange(size) % count)
            urgency = rng.integers(0, 10, size)
            for order, begin in _ORDERS.items():
                begun = begin(known[:count].tolist(), data.tolist(), urgency.tolist())
                shares.setdefault((tasks, order), []).append(_kept(begun, known[data], data, urgency, tasks == _SHARED))
    rows = []
    for (tasks, order), pairs in shares.items():
        row: dict[str, Any] = {"tasks": tasks, "order": order}
        for key, values in zip(("coherent", "urgent"), zip(*pairs, strict=True), strict=True):
            row[key], row[f"{key}_low"], row[f"{key}_high"] = interval(values)
        rows.append(row)
    run.progress(0.7, "a steady stream of coherent tasks")
    columns = (
        Column("tasks", "tasks"), Column("order", "order"),
        Column("coherent", "more coherent first", ".0%", low="coherent_low", high="coherent_high"),
        Column("urgent", "more urgent first, of those alike", ".0%", low="urgent_low", high="urgent_high"),
    )  # fmt: skip
    caption = f"Pairs of {size} tasks on images of {name}, urgencies 0 to 9, one worker, {len(seeds)} seeds"
    waits = [_in_sketch(), *map(_in_lattice, (1, 2))]
    stream = Table(f"{_STREAM:,} tasks of coherence {HIGH}, one of {LOW} now and then, {_QUEUE} ready", waits)
    notes = [
        f"Alike are tasks within one of {_LEVELS} levels of coherence, and those that share an image.",
        "In the first table patience is 16 for each task, so that ageing, which the second is about, has no say.",
    ]
    return Evidence({"order": Table(caption, rows, columns), "stream": stream}, notes=notes)


def _first_come(known: Sequence[float], data: Sequence[int], urgency: Sequence[int]) -> list[int]:
    return list(range(len(data)))


def _sketch(known: Sequence[float], data: Sequence[int], urgency: Sequence[int]) -> list[int]:
    """As the source sorts: descending by coherence, then by urgency with its sign turned."""
    return sorted(range(len(data)), key=lambda task: (known[data[task]], -urgency[task]), reverse=True)


def _mended(known: Sequence[float], data: Sequence[int], urgency: Sequence[int]) -> list[int]:
    return sorted(range(len(data)), key=lambda task: (-known[data[task]], -urgency[task]))


def _lattice(known: Sequence[float], data: Sequence[int], urgency: Sequence[int]) -> list[int]:
    from tithe.audit.lattice_order import begun_by_lattice

    return begun_by_lattice(known, data, urgency)[0]


_ORDERS: dict[str, _Order] = {
    "first come, first served": _first_come, SKETCH: _sketch, "the sketch, urgent first": _mended, OURS: _lattice,
}  # fmt: skip


def _kept(begun: list[int], known: Any, data: Any, urgency: Any, shared: bool) -> tuple[float, float]:
    """Shares of pairs in which the more coherent task begins first, and, of those alike, the more urgent."""
    import numpy as np

    place = np.argsort(begun)
    level = (known * _LEVELS).astype(int)
    first = place[:, None] < place
    differ = (level[:, None] > level) & (known[:, None] >= known + 1 / _LEVELS)
    alike = data[:, None] == data if shared else level[:, None] == level
    urgent = alike & (urgency[:, None] > urgency)
    return float(first[differ].mean()), float(first[urgent].mean())


def _in_sketch() -> Row:
    """As many tasks ready as in Lattice, the most coherent one begins, and another one comes."""
    from tithe.audit.lattice_order import HIGH, LOW, is_low, longest

    ready: list[tuple[float, int]] = []
    begun: list[int] = []
    admitted: dict[int, int] = {}
    for number in range(_STREAM):
        if is_low(number):
            admitted[number] = len(begun)
        heapq.heappush(ready, (-LOW if is_low(number) else -HIGH, number))
        if len(ready) > _QUEUE:
            begun.append(heapq.heappop(ready)[1])
    begun += [heapq.heappop(ready)[1] for _ in range(len(ready))]
    waited, overtaken = longest(begun, admitted)
    return {"order": SKETCH, "workers": 1, "waited": waited, "bound": None, "overtaken": overtaken, "overtaking": None}


def _in_lattice(workers: int) -> Row:
    from tithe.audit.lattice_order import waits

    found = waits(workers, _STREAM, _QUEUE)
    return {"order": OURS, "workers": workers, **found._asdict(), "bound": _QUEUE + found.overtaking}


CLAIM = Claim(
    id="L1",
    title="Coherent tasks first, then urgent ones",
    says=(
        "A scheduler scores each ready task by the coherence of its data and sorts by that score, and among equal "
        "scores by urgency."
    ),
    claimed="coherence first, urgency second",
    baseline="first come, first served; the source's own sort; pairs of tasks of which it is known who should be first",
    budget=3.0,
    measure=_measure,
    judge=judge,
)
