"""L3: an epoch runs every task, and sub-tasks on high waves can be pruned while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.formatting import show
from tithe.audit.statistics import interval

if TYPE_CHECKING:
    from tithe.lattice import Task

__all__ = ["ALL", "BY_COHERENCE", "BY_SOURCE", "CLAIM", "CLEAN", "NOISY", "RANDOM", "judge"]

ALL, BY_SOURCE = "none", "coherence below 0.3"
BY_COHERENCE, RANDOM = "the least coherent quarter", "a random quarter"
CLEAN, NOISY = "images", "images with noise on a quarter of the tiles"
_SHARE = 0.25  # of the sub-tasks that two of the policies prune
_RANK, _NOISE = 8, 1.0
_SCORED = 16  # images of a tile that are looked at: more would cost as much as is saved


def judge(found: Evidence) -> Finding:
    """Whether an epoch accounts for every task and sub-task, and what pruning by coherence leaves out was a waste.

    Pruning the least coherent quarter is worth it on data where the result is not worse than with all sub-tasks (an
    interval of 95 % over seeds reaches 0) and better than without a random quarter (one above 0), and scores take less
    time than the sub-tasks would have. The claim holds where every task ran, every sub-task ran or is reported as
    pruned, and pruning is worth it on all data; under a condition where it is on some; else it fails. It reads the
    table ``policies`` (data, policy, subtasks, pruned, unaccounted, kept, saved, scoring, and gains over no pruning
    and over random pruning).
    """
    rows, pruning = found.rows("policies"), found.rows("policies", policy=BY_COHERENCE)
    if not pruning:
        return Finding("unmeasured", "Nothing was measured.")
    reason = "\n".join(map(_sentence, rows))
    measured = "; ".join(
        f"{row['data']}: {show(row['over_all'], '+.0%')} of the detail for {show(row['saved'], '.0%')} of the sub-tasks"
        for row in pruning
    )
    if any(row["unaccounted"] for row in rows):
        return Finding("fails", "Tasks or sub-tasks are not accounted for.", measured, reason)
    worth = [row["data"] for row in pruning if _is_worth_it(row)]
    if len(worth) == len(pruning):
        return Finding("holds", "Everything runs or is reported, and what is pruned was a waste.", measured, reason)
    if worth:
        return Finding(
            "holds if", "Everything runs or is reported; what is least coherent is a waste on some data only.",
            measured, reason, condition=f"the data are {' or '.join(worth)}.",
        )  # fmt: skip
    return Finding(
        "fails", "Everything runs or is reported, but pruning by coherence is not worth it.", measured, reason
    )


def _is_worth_it(row: Row) -> bool:
    reaches = row["over_all"] if row["over_all_high"] is None else row["over_all_high"]
    above = row["over_random"] if row["over_random_low"] is None else row["over_random_low"]
    return bool(reaches >= 0 and above > 0 and row["scoring"] < row["saved"])


def _sentence(row: Row) -> str:
    return (
        f"{row['data']}, pruning {row['policy']}: {show(row['pruned'], '.0f')} of {row['subtasks']} sub-tasks are "
        f"reported as pruned and {row['unaccounted']} missing; {show(row['kept'], '.0%')} of the detail is kept; "
        f"scores take {show(row['scoring'], '.0%')} of the time of all sub-tasks."
    )


class _Scene(NamedTuple):
    """Tiles (blocks, 4, images, height, width) as they should be and as they are seen, and those picked at random."""

    clean: Any
    seen: Any
    picked: set[tuple[int, int]]


class _Ran(NamedTuple):
    """What an epoch did: sub-tasks pruned, tasks and sub-tasks missing, detail kept, seconds in tasks and scores."""

    pruned: int
    unaccounted: int
    kept: float
    worked: float
    scoring: float


def _measure(run: Run) -> Evidence:
    from tithe.audit.lattice_work import coherence_of, images

    coherence_of(images()[1][:1])  # imports torch, which is no part of scoring
    count, size = run.pick(quick=(12, 96), full=(48, 192))
    seeds = run.seeds(run.pick(quick=4, full=10))
    found: dict[tuple[str, str], list[_Ran]] = {}
    for number, seed in enumerate(seeds):
        run.progress(number / len(seeds), f"seed {seed}")
        for data in (CLEAN, NOISY):
            scene = _scene(count, size, seed, data == NOISY)
            for policy in (ALL, BY_SOURCE, BY_COHERENCE, RANDOM):
                found.setdefault((data, policy), []).append(_epoch(scene, policy))
    rows = [_row(found, data, policy, 4 * count) for data, policy in found]
    columns = (
        Column("data", "data"), Column("policy", "pruned"), Column("pruned", "sub-tasks pruned", ".0f"),
        Column("unaccounted", "missing"), Column("kept", "detail kept", ".0%", low="kept_low", high="kept_high"),
        Column("over_all", "less no pruning", "+.0%", low="over_all_low", high="over_all_high"),
        Column("over_random", "less a random quarter", "+.0%", low="over_random_low", high="over_random_high"),
        Column("saved", "sub-tasks saved", ".0%"), Column("scoring", "time for scores", ".0%"),
    )  # fmt: skip
    caption = (
        f"{count} tasks on {size} images of {images()[0]} each spawn four sub-tasks, one for each tile, which "
        f"approximate it at rank {_RANK}; {len(seeds)} seeds"
    )
    series = [
        Series(policy, [row["saved"] for row in rows if row["policy"] == policy],
               [row["kept"] for row in rows if row["policy"] == policy],
               role="baseline" if policy in (ALL, RANDOM) else "measured")
        for policy in (ALL, BY_SOURCE, BY_COHERENCE, RANDOM)
    ]  # fmt: skip
    plot = Plot("What pruning costs", Axis("sub-tasks saved", spec=".0%"), Axis("detail kept", spec=".0%"), series)
    return Evidence({"policies": Table(caption, rows, columns)}, [plot])


def _row(found: dict[tuple[str, str], list[_Ran]], data: str, policy: str, subtasks: int) -> Row:
    ran, plain, random = (found[data, name] for name in (policy, ALL, RANDOM))
    row: dict[str, Any] = {
        "data": data, "policy": policy, "subtasks": subtasks, "pruned": sum(r.pruned for r in ran) / len(ran),
        "unaccounted": sum(r.unaccounted for r in ran), "saved": sum(r.pruned for r in ran) / len(ran) / subtasks,
        "scoring": sum(r.scoring for r in ran) / sum(r.worked for r in plain),
    }  # fmt: skip
    for key, values in (
        ("kept", [r.kept for r in ran]),
        ("over_all", [a.kept - b.kept for a, b in zip(ran, plain, strict=True)]),
        ("over_random", [a.kept - b.kept for a, b in zip(ran, random, strict=True)]),
    ):
        row[key], row[f"{key}_low"], row[f"{key}_high"] = interval(values)
    return row


def _scene(count: int, size: int, seed: int, noisy: bool) -> _Scene:
    import numpy as np

    from tithe.audit.lattice_work import images

    _, x, y = images()
    rng = np.random.default_rng(seed)
    order = np.argsort(y, kind="stable")
    starts = rng.integers(0, len(x), count)
    half = x.shape[1] // 2
    parts = [(slice(i, i + half), slice(j, j + half)) for i in (0, half) for j in (0, half)]
    blocks = [x[np.take(order, range(start, start + size), mode="wrap")] for start in starts]
    clean = np.stack([[block[:, rows, columns] for rows, columns in parts] for block in blocks])
    tiles = [(block, tile) for block in range(count) for tile in range(4)]
    quarter = round(_SHARE * len(tiles))
    bad, picked = ({tiles[i] for i in rng.permutation(len(tiles))[:quarter]} for _ in range(2))
    seen = clean.copy()
    for tile in bad if noisy else ():
        seen[tile] += _NOISE * rng.standard_normal(seen[tile].shape).astype(np.float32)
    return _Scene(clean, seen, picked)


def _epoch(scene: _Scene, policy: str) -> _Ran:
    """Run a task for each block, which spawns one for each tile, and put together what they give."""
    import time

    import numpy as np

    from tithe.audit.lattice_work import coherence_of
    from tithe.lattice import Lattice, Spawn, Task

    scoring = 0.0

    def score(tile: Any) -> float:
        nonlocal scoring
        start = time.perf_counter()
        found = coherence_of(tile[:_SCORED])
        scoring += time.perf_counter() - start
        return found

    def split(block: int) -> Spawn:
        return Spawn(
            [Task(_approximate, tile, data=tile, name=f"{block} {i}") for i, tile in enumerate(scene.seen[block])]
        )

    with Lattice(score=score, prune=_policy(scene, policy)) as lattice:
        epoch = lattice.run_epoch([Task(split, block) for block in range(len(scene.seen))])
    made = np.broadcast_to(scene.seen.mean((3, 4), keepdims=True), scene.seen.shape).copy()
    ended = Counter(_place(outcome.task) for outcome in epoch.spawned if outcome.status in ("done", "pruned"))
    for outcome in epoch.spawned:
        if outcome.ok:
            made[_place(outcome.task)] += outcome.value
    coarse = scene.clean - scene.seen.mean((3, 4), keepdims=True)
    unaccounted = sum(ended[place] != 1 for place in np.ndindex(scene.clean.shape[:2]))
    unaccounted += sum(not outcome.ok for outcome in epoch.outcomes)
    kept = 1 - float(((scene.clean - made) ** 2).sum() / (coarse**2).sum())
    pruned = sum(outcome.status == "pruned" for outcome in epoch.spawned)
    return _Ran(pruned, unaccounted, kept, epoch.receipt.worked, scoring)


def _policy(scene: _Scene, policy: str) -> Callable[[Task, float | None], bool] | None:
    import numpy as np

    from tithe.audit.lattice_work import coherence_of
    from tithe.resolvent.measures import SOURCE_THRESHOLD

    if policy == ALL:
        return None
    if policy == RANDOM:
        return lambda task, score: _place(task) in scene.picked
    cut = SOURCE_THRESHOLD
    if policy == BY_COHERENCE:
        cut = float(np.quantile([coherence_of(tile[:_SCORED]) for block in scene.seen for tile in block], _SHARE))
    return lambda task, score: score is not None and score < cut


def _place(task: Task) -> tuple[int, int]:
    block, tile = str(task.name).split()
    return int(block), int(tile)


def _approximate(tile: Any) -> Any:
    """Images of a tile less their means, at the rank that holds most of them."""
    import numpy as np

    flat = tile.reshape(len(tile), -1)
    u, s, v = np.linalg.svd(flat - flat.mean(1, keepdims=True), full_matrices=False)
    return ((u[:, :_RANK] * s[:_RANK]) @ v[:_RANK]).reshape(tile.shape)


CLAIM = Claim(
    id="L3",
    title="An epoch runs the schedule; high waves can be pruned",
    says="An epoch executes the tasks of the schedule, coherent ones first, and may prune sub-tasks of high waves.",
    claimed="all tasks are executed; sub-tasks are pruned while it runs",
    baseline="no pruning; pruning as many sub-tasks at random",
    budget=5.0,
    measure=_measure,
    judge=judge,
)
