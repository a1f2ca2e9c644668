"""The measurement of H9: whole runs with every premodulo, the law beside its controls, and what they cost."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tithe.audit.claim import Run
from tithe.audit.claims.h9_generalisation import CONSTANT, FORWARD, LAW, NONE, SHUFFLED
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.hashtron_pipelines import Given, begins_with_the_last, difference, ended, overhead
from tithe.audit.hashtron_tasks import TASKS, all_images, present, split
from tithe.audit.statistics import interval
from tithe.hashtron.pipeline.pipeline import Run as Trained

__all__ = ["follows", "measure"]

_CONSTANTS = tuple(1 << power for power in range(3, 13))
_FOR_TIMES = 3.0  # seconds of a quick measurement
_SWEEPS = 3  # so that there are changes to be limited
_AT_FIRST = 1 / 3  # of a run, with which its end is compared


def measure(run: Run) -> Evidence:
    """All policies on all tasks and seeds, in pairs; then times."""
    tasks = list(present())[: run.pick(quick=2, full=len(TASKS))]
    seeds = run.seeds(run.pick(quick=2, full=20))
    constants = run.pick(quick=(8, 64, 1024), full=_CONSTANTS)
    arms: dict[str, Given] = {
        NONE: "none", LAW: "law", "law_n": "law_n", "reversed": "reversed",
        **{f"constant {each}": {"name": "constant", "premodulo": each} for each in constants},
    }  # fmt: skip
    runs: dict[tuple[str, str], list[Trained]] = {}
    pairs, done = list(itertools.product(seeds, tasks)), 0
    for number, (seed, task) in enumerate(pairs):
        if number >= len(tasks) and number % len(tasks) == 0 and run.left() < _FOR_TIMES:
            break
        run.progress(0.8 * number / len(pairs), f"{task}, seed {seed}")
        samples = split(task, seed)
        made = {
            name: ended(samples.known, seed, held_out=samples.test, policy=given)
            for name, given in (*arms.items(), (SHUFFLED, {"name": "shuffled", "seed": seed}))
        }
        given = [step.premodulo for step in made[LAW].steps if step.premodulo]
        middle = {"name": "constant", "premodulo": max(1, round(statistics.median(given or [1])))}
        made[CONSTANT] = ended(samples.known, seed, held_out=samples.test, policy=middle)
        made[FORWARD] = ended(samples.known, seed, held_out=samples.test, direction="forward")
        for name, each in made.items():
            runs.setdefault((name, task), []).append(each)
        done += 1
    rows = [_row(name, task, each) for (name, task), each in runs.items()]
    rivals = (NONE, CONSTANT, "law_n", "reversed", SHUFFLED, FORWARD)
    differences = [_difference(name, tasks, runs) for name in rivals]
    run.progress(0.85, "backward and forward, by turns")
    notes = [] if len(present()) == len(TASKS) else [f"Only {', '.join(present())}: other data are not here."]
    if done < len(pairs):
        notes.append(f"{done} of {len(pairs)} pairs of task and seed, for want of time.")
    facts = _facts(tasks, runs, constants) | _followed(tasks, seeds[: run.pick(quick=1, full=5)]) | _time(run)
    tables = {
        "policies": Table(f"One sweep backward, {done} pairs of task and seed", rows, (
            Column("task", "task"), Column("policy", "premodulo"), Column("train", "train", ".1%"),
            Column("test", "eval", ".1%"), Column("gap", "gap", ".1%"), Column("prior", "prior", ".1%"))),
        "differences": Table("The law over others, in pairs of task and seed", differences, (
            Column("control", "over"), Column("test", "points of eval", "+.2f", "test_low", "test_high"),
            Column("gap", "points of gap", "+.2f", "gap_low", "gap_high"), Column("pairs", "pairs"))),
    }  # fmt: skip
    return Evidence(tables, [_plot(tasks, rows, constants)], facts, notes)


def follows(runs: list[Trained]) -> tuple[float, float]:
    """Spearman's correlation of margin and premodulo in runs, and R² of their logarithms."""
    steps = [step for each in runs for step in each.steps if step.premodulo and not step.final and step.pivotal]
    margins = np.array([(abs(step.total) + 1) / step.pivotal for step in steps])
    given = np.array([step.premodulo for step in steps], np.float64)
    if len(set(given.tolist())) < 2 or len(set(margins.tolist())) < 2:
        return 0.0, 0.0
    r2 = np.corrcoef(np.log(margins), np.log(given))[0, 1] ** 2
    return float(spearmanr(margins, given).statistic), float(r2)


def _last(each: Trained) -> tuple[float, float]:
    step = each.steps[-1]
    return step.train, step.eval or 0.0


def _row(policy: str, task: str, runs: list[Trained]) -> Row:
    train, test = (statistics.mean(values) for values in zip(*map(_last, runs), strict=True))
    prior = runs[0].steps[-1].prior
    return {"task": task, "policy": policy, "train": train, "test": test, "gap": train - test, "prior": prior}


def _difference(control: str, tasks: list[str], runs: dict[tuple[str, str], list[Trained]]) -> Row:
    ours, theirs = ([_last(each) for task in tasks for each in runs[name, task]] for name in (LAW, control))
    return difference(control, ours, theirs)


def _facts(tasks: list[str], runs: dict[tuple[str, str], list[Trained]], constants: tuple[int, ...]) -> dict[str, Any]:
    laws = [each for task in tasks for each in runs[LAW, task]]
    everything = [each for found in runs.values() for each in found]
    backward = [each for (name, _), found in runs.items() if name != FORWARD for each in found]
    rises = [100 * ((each.steps[-1].eval or 0.0) - _early(each)) for each in laws]
    rise = interval(rises)
    dials = []
    for task in tasks:
        gaps = [statistics.mean(a - b for a, b in map(_last, runs[f"constant {each}", task])) for each in constants]
        dials.append(float(spearmanr(constants, gaps).statistic))
    return {
        "dial": min(dials),
        "saturated": statistics.mean(0.6 <= each.steps[-1].train <= 0.8 for each in laws),
        "train": statistics.median(each.steps[-1].train for each in laws),
        "rise": rise.mean, "rise_low": rise.low, "rise_high": rise.high,
        "runs": len(backward), "begun": sum(begins_with_the_last(each.steps) for each in backward),
        "stuck": sum(bool(each.stopped) for each in everything),
    }  # fmt: skip


def _followed(tasks: list[str], seeds: tuple[int, ...]) -> dict[str, float]:
    """How premodulos go with margins in several sweeps, with the limit of 10× a step and without, on the worst task."""
    found: dict[str, float] = {}
    for name, most in (("", 10), (", lifted", None)):
        law = {"name": "law", "most_change": most}
        each = [
            follows([ended(split(task, seed).known, seed, policy=law, sweeps=_SWEEPS) for seed in seeds])
            for task in tasks
        ]
        found |= {f"spearman{name}": max(s for s, _ in each), f"r2{name}": min(r for _, r in each)}
    return found


def _early(each: Trained) -> float:
    return each.steps[int(len(each.steps) * _AT_FIRST)].eval or 0.0


def _time(run: Run) -> dict[str, Any]:
    known = all_images(run.seeds(1)[0]).known if "MNIST 4 or 9" in present() else split("breast cancer", 0).known
    cost = overhead(known, run.pick(quick=6, full=31))
    return {"samples": len(known[1]), "overhead": cost.ratio, "overhead_low": cost.low, "overhead_high": cost.high}


def _plot(tasks: list[str], rows: list[Row], constants: tuple[int, ...]) -> Plot:
    by = {(row["policy"], row["task"]): row["gap"] for row in rows}
    series = [
        Series(f"constant, {task}", list(constants), [by[f"constant {each}", task] for each in constants],
               role="measured")
        for task in tasks
    ]  # fmt: skip
    return Plot("Premodulo as a dial of the gap", Axis("premodulo", log=True), Axis("train − eval", spec=".0%"), series)
