"""The measurement of H3: what the law's formula gives, what real votes make of it, and the law beside its controls."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tithe.audit.claim import Run
from tithe.audit.claims.h3_capacity_law import CLAMPED, LAW, UNLIMITED
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.hashtron_pipelines import difference
from tithe.audit.hashtron_runs import Training, trainings
from tithe.audit.hashtron_tasks import COLUMNS, TASKS, present, split
from tithe.hashtron.backward.dampers import ExponentialSmoothing, FixedPercent, MovingAverage
from tithe.hashtron.backward.histories import History, Sums
from tithe.hashtron.backward.law import CapacityLaw, premodulo_of, regime
from tithe.hashtron.backward.policies import Constant, Policy, policy
from tithe.hashtron.fitting import UNCAPPED

__all__ = ["correlations", "formula", "measure", "swing"]

_LAWS = {
    UNLIMITED: CapacityLaw(most_change=None),
    CLAMPED: CapacityLaw(),
    "10× and the mean of 4 sums": CapacityLaw(damper=MovingAverage(4)),
    "10× and exponential smoothing": CapacityLaw(damper=ExponentialSmoothing(0.5)),
    "20% a step": CapacityLaw(damper=FixedPercent(20)),
}
_SWINGS = 24
_AFTER = 12  # swings until which windows are full


def measure(run: Run) -> Evidence:
    """The formula, then real votes under every damper, then accuracies under every policy."""
    tasks = list(present())[: run.pick(quick=3, full=len(TASKS))]
    notes = [] if len(present()) == len(TASKS) else [f"Only {', '.join(present())}: other data are not here."]
    run.progress(0.0, "checks the formula")
    facts = formula(run.seeds(1)[0], run.pick(quick=2_000, full=100_000))
    seeds = run.seeds(run.pick(quick=3, full=20))
    sweeps = run.pick(quick=3, full=6)
    adapted: list[Row] = []
    for number, (name, law) in enumerate(_LAWS.items()):
        run.progress(0.05 + 0.4 * number / len(_LAWS), f"real votes, {name}")
        chosen = [(t, seed) for t in tasks[: run.pick(quick=2, full=5)] for seed in seeds[: run.pick(quick=1, full=5)]]
        runs = [_run(task, law, seed, sweeps * COLUMNS) for task, seed in chosen]
        found = [correlations(each) for each in runs]
        adapted.append({
            "limits": name, "steps": sum(map(len, runs)),
            **{key: statistics.mean(each[key] for each in found) for key in found[0]},
            "least": min(each["r2"] for each in found),
            "moves": statistics.mean(_moves(each) for each in runs), "swing": swing(law),
        })  # fmt: skip
    policies, differences, counted = _policies(run, tasks, seeds)
    if (done := differences[0]["pairs"] // len(tasks)) < len(seeds):
        notes.append(f"Policies were compared on {done} of {len(seeds)} seeds, for want of time.")
    tables = {
        "adaptation": Table(f"What becomes of (V/(|S|+1))² in {sweeps} sweeps of real votes", adapted, (
            Column("limits", "limits"), Column("steps", "trainings", ","),
            Column("spearman", "Spearman, margin and premodulo", ".2f"), Column("r2", "R², logarithms", ".2f"),
            Column("least", "on the worst task", ".2f"), Column("linear", "R², as they are", ".2f"),
            Column("moves", "mean change a sweep, decades", ".2f"),
            Column("swing", "change while |S| alternates between 0 and 0.8 V, decades", ".2f"))),
        "policies": Table(f"One sweep of {COLUMNS} neurons, {done} seeds", policies, (
            Column("task", "task"), Column("policy", "premodulo"), Column("train", "train", ".1%"),
            Column("test", "test", ".1%"), Column("gap", "gap", ".1%"), Column("prior", "guessing", ".1%"),
            Column("premodulo", "median premodulo", ",.0f"))),
        "differences": Table(f"{LAW} over others, in pairs of task and seed", differences, (
            Column("control", "over"), Column("test", "points of test accuracy", "+.2f", "test_low", "test_high"),
            Column("gap", "points of gap", "+.2f", "gap_low", "gap_high"), Column("pairs", "pairs"))),
    }  # fmt: skip
    return Evidence(tables, [_plot(policies)], facts | counted, notes)


def formula(seed: int, count: int) -> dict[str, Any]:
    """How often the law leaves its bounds, rises with |S|, or changes more than it may; and where uint32 ends."""
    random, broken = np.random.default_rng(seed), 0
    sizes = (2.0 ** random.uniform(0, 31.9, count)).astype(np.int64).tolist()
    for most in sizes:
        below, above = sorted(random.integers(0, most + 1, 2).tolist())
        found, other = premodulo_of(below, most), premodulo_of(-above, most)
        exact = min(most * most // (below + 1) ** 2, UNCAPPED)
        broken += not (1 <= other <= found <= UNCAPPED and found == max(1, exact))
        broken += regime(below, most) != _regime(below, most)
    law, given = CapacityLaw(), None
    for most in sizes:
        total = int(random.integers(0, most + 1))
        wanted = law.step(History(given, (Sums(total, most, most),)), given)
        if given is not None:
            broken += not (given / 10 - 1 <= wanted <= max(given + 1, 10 * given) and 1 <= wanted <= UNCAPPED)
        given = wanted
    first = next(most for most in itertools.count(65_000) if most * most > UNCAPPED)
    return {"checked": 2 * count, "broken": broken, "overflows from": first, "wrapped": first * first % (1 << 32)}


def _regime(size: int, most: int) -> str:
    return "noisy" if size * size <= most else "gold" if 5 * size < 4 * most else "collapsed"


def correlations(steps: Iterable[Training]) -> dict[str, float]:
    """How the premodulos of trainings go with the margins (|S|+1)/V: by ranks, by logarithms, and as they are."""
    pairs = [((abs(each.sums.total) + 1) / each.sums.pivotal, each.premodulo) for each in steps if each.premodulo]
    margins, given = np.array(pairs, np.float64).T
    if min(margins.std(), given.std()) == 0:
        return {"spearman": 0.0, "r2": 0.0, "linear": 0.0}
    return {
        "spearman": float(spearmanr(margins, given).statistic),
        "r2": _r2(np.log(margins), np.log(given)),
        "linear": _r2(margins, given),
    }


def _r2(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _moves(steps: Iterable[Training]) -> float:
    """By how many decades the premodulo of a neuron changes from sweep to sweep, on average."""
    last: dict[int, int] = {}
    moves = []
    for each in steps:
        if each.premodulo and each.position in last:
            moves.append(abs(np.log10(each.premodulo / last[each.position])))
        last[each.position] = each.premodulo or last.get(each.position, 1)
    return float(np.mean(moves))


def swing(law: CapacityLaw, votes: int = 1000) -> float:
    """By how many decades a premodulo swings while |S| alternates between 0 and 0.8·V, once windows are full."""
    history, changes = History(), []
    for number in range(_SWINGS):
        history = history.after(Sums(number % 2 * 4 * votes // 5, votes, votes), keep=max(1, law.reads))
        given = law.premodulo((0, 0), {(0, 0): history})
        if number >= _AFTER and history.given:
            changes.append(abs(np.log10(given / history.given)))
        history = History(given, history.sums)
    return float(max(changes))


def _run(task: str, given: Policy, seed: int, count: int = COLUMNS) -> list[Training]:
    samples = split(task, seed)
    return list(trainings(samples.known, samples.test, given, seed=seed, count=count))


def _policies(run: Run, tasks: list[str], seeds: tuple[int, ...]) -> tuple[list[Row], list[Row], dict[str, Any]]:
    rows: list[Row] = []
    scores: dict[str, list[tuple[float, float]]] = {}
    laws: dict[str, list[Training]] = {LAW: [], "law_n": []}
    ended: dict[tuple[str, str], list[Training]] = {}
    given_by: dict[tuple[str, str], list[int]] = {}
    for number, (seed, task) in enumerate(itertools.product(seeds, tasks)):
        if number >= 2 * len(tasks) and number % len(tasks) == 0 and run.left() < 0:
            break
        run.progress(0.45 + 0.55 * number / len(tasks) / len(seeds), f"policies on {task}, seed {seed}")
        law = _run(task, policy("law"), seed)
        middle = max(1, round(statistics.median(each.premodulo for each in law if each.premodulo)))
        others: dict[str, Policy] = {
            "none": policy("none"), "constant, the law's median": Constant(middle), "law_n": policy("law_n"),
            "reversed": policy("reversed"), "shuffled": policy("shuffled", seed=seed),
        }  # fmt: skip
        for name, steps in ((LAW, law), *((name, _run(task, given, seed)) for name, given in others.items())):
            ended.setdefault((task, name), []).append(steps[-1])
            scores.setdefault(name, []).append((steps[-1].train, steps[-1].test))
            given_by.setdefault((task, name), []).extend(each.premodulo for each in steps)
            if name in laws:
                laws[name] += steps
    for (task, name), last in ended.items():
        y, test_y = (part[1] for part in (split(task, seeds[0]).known, split(task, seeds[0]).test))
        train, test = (statistics.mean(getattr(each, key) for each in last) for key in ("train", "test"))
        rows.append({
            "task": task, "policy": name, "train": train, "test": test, "gap": train - test,
            "prior": float((test_y == (y.mean() > 0.5)).mean()), "premodulo": statistics.median(given_by[task, name]),
        })  # fmt: skip
    differences = [difference(name, scores[LAW], found) for name, found in scores.items() if name != LAW]
    voted = [each for each in laws[LAW] if each.sums.pivotal]
    counted = {"pivotal": statistics.median(each.sums.pivotal / each.sums.samples for each in voted)} | {
        f"bound by {name}": statistics.mean(0 < each.premodulo < each.keys for each in steps if each.premodulo)
        for name, steps in laws.items()
    }
    return rows, differences, counted


def _plot(policies: list[Row]) -> Plot:
    names = list(dict.fromkeys(row["policy"] for row in policies))
    series = [
        Series(name, [row["gap"] for row in policies if row["policy"] == name],
               [row["test"] - row["prior"] for row in policies if row["policy"] == name],
               role="measured" if name == LAW else "baseline")
        for name in names
    ]  # fmt: skip
    return Plot("What a smaller gap costs", Axis("gap between train and test", spec=".0%"),
                Axis("test accuracy over guessing", spec=".0%"), series)  # fmt: skip
