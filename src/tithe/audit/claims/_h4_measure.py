"""The measurement of H4: the same neurons trained in other orders, and how accurate the network is on the way."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import numpy as np

from tithe.audit.claim import Run
from tithe.audit.claims.h4_selection import FRESH, GOLD, OPPOSITE, RANDOM
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.hashtron_runs import ORDERS, partners_of, trainings
from tithe.audit.hashtron_tasks import BALANCED, COLUMNS, TASKS, Split, majority_network, present, split
from tithe.audit.statistics import interval
from tithe.hashtron.backward.margin import in_gold_zone
from tithe.hashtron.backward.policies import policy
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import learn

__all__ = ["measure"]

_CUTS = (COLUMNS // 4, COLUMNS // 2, COLUMNS)
_COMPARED = ((GOLD, RANDOM), (GOLD, OPPOSITE), (FRESH, RANDOM))


def measure(run: Run) -> Evidence:
    """One sweep in every order, in pairs of task and seed; test accuracy after every training."""
    tasks = list(present())[: run.pick(quick=3, full=len(TASKS))]
    seeds = run.seeds(run.pick(quick=5, full=20))
    orders = [name for name in ORDERS if run.mode == "full" or name != FRESH]
    courses: dict[str, list[list[float]]] = {name: [] for name in orders}
    found = []
    for number, (seed, task) in enumerate(itertools.product(seeds, tasks)):
        if number >= 3 * len(tasks) and number % len(tasks) == 0 and run.left() < 0:
            break
        run.progress(number / len(seeds) / len(tasks), f"{task}, seed {seed}")
        samples = split(task, seed)
        if number < run.pick(quick=6, full=25):
            found.append(_beforehand(samples, seed))
        for name in orders:
            steps = trainings(samples.known, samples.test, policy("law"), seed=seed, count=COLUMNS, order=ORDERS[name])
            courses[name].append([each.test for each in steps])
    notes = [] if len(present()) == len(TASKS) else [f"Only {', '.join(present())}: other data are not here."]
    if len(courses[RANDOM]) < len(seeds) * len(tasks):
        notes.append(f"{len(courses[RANDOM])} of {len(seeds) * len(tasks)} pairs of task and seed, for want of time.")
    tables = {
        "orders": Table(f"Test accuracy on the way, {len(tasks)} tasks", [_row(*each) for each in courses.items()], (
            Column("order", "next is"), Column("mean", "mean of the sweep", ".2%"),
            *(Column(f"after {cut}", f"after {cut} trainings", ".2%") for cut in _CUTS))),
        "differences": Table(
            "Points of test accuracy, in pairs of task and seed",
            [_difference(a, b, courses) for a, b in _COMPARED if a in courses and b in courses],
            (Column("order", "next is"), Column("over", "over"),
             Column("mean", "mean of the sweep", "+.2f", "mean_low", "mean_high"),
             Column("end", "at its end", "+.2f", "end_low", "end_high"), Column("pairs", "pairs"))),
    }  # fmt: skip
    facts = {"gold": statistics.mean(each[0] for each in found), "networks": len(found)}
    facts |= {f"pairs, {final}": sum(each[i] for each in found) for i, final in ((1, "majority"), (2, "trained"))}
    return Evidence(tables, [_plot(courses)], facts, notes)


def _beforehand(samples: Split, seed: int) -> tuple[float, int, int]:
    """The share of neurons in the gold zone before any is trained; pairs under a majority, and a trained final one."""
    trainee = Trainee(majority_network(seed), *samples.known)
    votes = [trainee.tally(position, balanced=BALANCED) for position in range(COLUMNS)]
    golden = in_gold_zone(np.array([each.total for each in votes]), np.array([each.pivotal for each in votes]))
    alike = len(partners_of(trainee, samples.known[0])) // 2
    trainee.take(COLUMNS, learn(trainee.tally(COLUMNS, balanced=BALANCED), ((seed, len(samples.groups)),)))
    return float(golden.mean()), alike, len(partners_of(trainee, samples.known[0])) // 2


def _row(order: str, courses: list[list[float]]) -> Row:
    row: dict[str, Any] = {"order": order, "mean": float(np.mean(courses))}
    return row | {f"after {cut}": float(np.mean([course[cut - 1] for course in courses])) for cut in _CUTS}


def _difference(order: str, over: str, courses: dict[str, list[list[float]]]) -> Row:
    row: dict[str, Any] = {"order": order, "over": over, "pairs": len(courses[order])}
    apart = 100 * (np.array(courses[order]) - np.array(courses[over]))
    for key, values in (("mean", apart.mean(1)), ("end", apart[:, -1])):
        row[key], row[f"{key}_low"], row[f"{key}_high"] = interval(values.tolist())
    return row


def _plot(courses: dict[str, list[list[float]]]) -> Plot:
    series = [
        Series(name, list(range(1, COLUMNS + 1)), np.mean(course, 0).tolist(),
               role="measured" if name in (GOLD, FRESH) else "baseline")
        for name, course in courses.items()
    ]  # fmt: skip
    return Plot("Which neuron next", Axis("trainings"), Axis("test accuracy, mean of the tasks", spec=".0%"), series)
