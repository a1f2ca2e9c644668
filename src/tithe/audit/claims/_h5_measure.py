"""The measurement of H5: the order of runs, what kills leave of one, and what going backward brings."""

from __future__ import annotations

import itertools
import os
import statistics
from typing import Any, Literal

from tithe.audit.claim import Run
from tithe.audit.claims._h5_kills import in_a_process
from tithe.audit.claims.h5_backward_order import BACKWARD
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.hashtron_pipelines import DEEP, begins_with_the_last, ended, goes_back
from tithe.audit.hashtron_tasks import TASKS, present, split
from tithe.audit.statistics import interval

__all__ = ["measure"]

_FOR_KILLS = 4.0  # seconds of a quick measurement
_KINDS: tuple[tuple[Literal["majority", "votes"], str], ...] = (
    ("majority", "law"), ("majority", "none"), ("votes", "law"),
)  # fmt: skip
_WAYS: tuple[Literal["backward", "forward"], ...] = ("backward", "forward")


def measure(run: Run) -> Evidence:
    """Orders and accuracies in pairs, then kills."""
    tasks = list(present())[: run.pick(quick=2, full=len(TASKS))]
    seeds = run.seeds(run.pick(quick=3, full=20))
    scores: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    begun = back = runs = logged = 0
    done = 0
    pairs = list(itertools.product(seeds, tasks))
    for number, (seed, task) in enumerate(pairs):
        if number >= 2 * len(tasks) and number % len(tasks) == 0 and run.left() < _FOR_KILLS:
            break
        run.progress(0.7 * number / len(pairs), f"{task}, seed {seed}")
        samples = split(task, seed)
        for (final, policy), way in itertools.product(_KINDS, _WAYS):
            made = ended(samples.known, seed, held_out=samples.test, policy=policy, direction=way, final=final)
            last = made.steps[-1]
            scores.setdefault((way, policy, final), []).append((last.train, last.eval or 0.0))
            if way == BACKWARD:
                begun, back = begun + begins_with_the_last(made.steps), back + goes_back(made.steps)
                runs += 1
        deep = ended(samples.known, seed, sweeps=2, topology=DEEP).steps
        begun, back, runs = begun + begins_with_the_last(deep), back + goes_back(deep), runs + 1
        logged += sum(step.kind == "forward" for step in deep)
        done += 1
    run.progress(0.7, "kill -9, again and again")
    kills = {"kills": 0, "trainings": 0, "again": 0, "equal": 0}
    if hasattr(os, "fork"):
        kills = in_a_process(tasks[0], run.pick(quick=5, full=60), run.seeds(1)[0])
    rows: list[Row] = [
        {"final": final, "policy": policy, "way": way, "train": statistics.mean(a for a, _ in each),
         "test": statistics.mean(b for _, b in each)}
        for (way, policy, final), each in scores.items()
    ]  # fmt: skip
    tables = {
        "accuracies": Table(f"{done} pairs of task and seed, one sweep", rows, (
            Column("final", "final neuron"), Column("policy", "premodulo"), Column("way", "order"),
            Column("train", "train", ".1%"), Column("test", "test", ".1%"))),
        "differences": Table("Backward over forward, as many trainings, points of test accuracy",
            [_difference(policy, final, scores) for final, policy in _KINDS], (
            Column("final", "final neuron"), Column("policy", "premodulo"),
            Column("test", "backward over forward", "+.2f", "test_low", "test_high"), Column("pairs", "pairs"))),
    }  # fmt: skip
    facts: dict[str, Any] = {"runs": runs, "begun": begun, "back": back, "logged": logged} | kills
    facts["prior"] = statistics.mean(_prior(task, seeds[0]) for task in tasks)
    notes = [] if len(present()) == len(TASKS) else [f"Only {', '.join(present())}: other data are not here."]
    if not kills["kills"]:
        notes.append("Nothing was killed: that needs a system with fork.")
    if done < len(pairs):
        notes.append(f"{done} of {len(pairs)} pairs of task and seed, for want of time.")
    return Evidence(tables, [_plot(rows)], facts, notes)


def _difference(policy: str, final: str, scores: dict[tuple[str, str, str], list[tuple[float, float]]]) -> Row:
    ours, theirs = scores[BACKWARD, policy, final], scores["forward", policy, final]
    found = interval([100 * (a[1] - b[1]) for a, b in zip(ours, theirs, strict=True)])
    row: dict[str, Any] = {"policy": policy, "final": final, "pairs": len(ours)}
    row["test"], row["test_low"], row["test_high"] = found
    return row


def _prior(task: str, seed: int) -> float:
    samples = split(task, seed)
    return float((samples.test[1] == (samples.known[1].mean() > 0.5)).mean())


def _plot(rows: list[Row]) -> Plot:
    series = [
        Series(f"{row['way']}, {row['policy']}, {row['final']}", [row["train"]], [row["test"]],
               role="measured" if row["way"] == BACKWARD else "baseline")
        for row in rows
    ]  # fmt: skip
    return Plot("Backward and forward", Axis("train accuracy", spec=".0%"), Axis("test accuracy", spec=".0%"), series)
