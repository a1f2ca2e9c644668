"""T4: at plateaus, models merge if they are compatible, and drift apart if not."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.formatting import show

__all__ = ["CLAIM", "judge"]

SOURCE, OURS = "Σ T∘T′ > 50", "transfer ≥ 0.1"
_TESTS = {SOURCE: 50.0, "cosine of updates ≥ 0.1": 0.1, "cosine of the output's update ≥ 0.1": 0.1, OURS: 0.1}
RIGHT = 0.95  # of the pairs, to call a test a test
_STEPS, _RATE = 75, 0.03
_GROUPS = [[0, 1], [2, 3]]


def judge(found: Evidence) -> Finding:
    """Whether the source's test tells members of one task from those under conflicting labels, and which test does.

    It reads the table ``tests`` (test, right, together, apart: shares of pairs) and the fact ``plateaus``.
    """
    rows = found.rows("tests")
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    by_name = {row["test"]: row for row in rows}
    source, ours = by_name[SOURCE], by_name[OURS]
    reason = "\n".join(map(_sentence, rows))
    reason += f"\nThe source's plateau is true on {show(found.facts['plateaus'], '.0%')} of batches of digits."
    measured = f"right on {show(source['right'], '.0%')} of pairs; by what was learned, {show(ours['right'], '.0%')}"
    if source["right"] >= RIGHT:
        return Finding("holds", "The source's test tells who goes together.", measured, reason)
    if ours["right"] >= RIGHT:
        return Finding("holds if", "The source's test merges everything; trying weights on tells who goes together.",
                       measured, reason, condition="compatibility is how well the other's weights serve.")  # fmt: skip
    return Finding("fails", "No test tells who goes together.", measured, reason)


def _sentence(row: Row) -> str:
    right, together, apart = (show(row[name], ".0%") for name in ("right", "together", "apart"))
    return f"{row['test']}: right on {right} of pairs; merges {together} of one task, {apart} under conflicting labels"


def _measure(run: Run) -> Evidence:
    from tithe.audit.populations import SETTINGS, images, shards  # imports torch: not needed to list the claim
    from tithe.errors import DataUnavailableError
    from tithe.parallel import threads

    try:
        data = images("mnist", "held out")
    except DataUnavailableError:
        run.need(False, "the MNIST images, which are not on this machine and could not be fetched")
    seeds = run.seeds(run.pick(quick=3, full=10))
    scores: dict[str, list[tuple[bool, float]]] = {}
    truth = {pair: pair[0] // 2 == pair[1] // 2 for pair in itertools.combinations(range(4), 2)}
    with threads(1):
        for number, seed in enumerate(seeds):
            run.progress(number / len(seeds), f"seed {seed}")
            for test, found in _scores(shards(data, [0, 0, 1, 1], seed), seed, SETTINGS["sgd"]).items():
                scores.setdefault(test, []).extend((truth[pair], found[pair]) for pair in truth)
        plateaus = _plateaus(run)
    rows: list[Row] = []
    for test, pairs in scores.items():
        merged = [(same, score >= _TESTS[test]) for same, score in pairs]
        row: dict[str, Any] = {"test": test, "right": sum(same == done for same, done in merged) / len(merged)}
        row["hindsight"] = max(
            statistics.mean(same == (score >= cut) for same, score in pairs) for _, cut in [*pairs, (False, math.inf)]
        )
        for kind, name in ((True, "together"), (False, "apart")):
            row[name] = statistics.mean(done for same, done in merged if same is kind)
            row[f"mean_{name}"] = statistics.mean(score for same, score in pairs if same is kind)
        rows.append(row)
    columns = (
        Column("test", "test"), Column("right", "right", ".0%"), Column("together", "merges of one task", ".0%"),
        Column("apart", "merges under conflicting labels", ".0%"),
        Column("hindsight", "right at the best threshold in hindsight", ".0%"),
        Column("mean_together", "mean, one task", ".2f"), Column("mean_apart", "mean, conflicting labels", ".2f"),
    )  # fmt: skip
    caption = f"Pairs of four members after {_STEPS} steps alone, two of them under other labels, {len(seeds)} seeds"
    series = [Series(row["test"], [row["together"]], [row["apart"]]) for row in rows]
    axes = Axis("merges of one task", spec=".0%"), Axis("merges under conflict", spec=".0%")
    return Evidence({"tests": Table(caption, rows, columns)}, [Plot("Who merges", *axes, series)],
                    {"plateaus": plateaus})  # fmt: skip


def _scores(tasks: Any, seed: int, setting: Any) -> dict[str, dict[tuple[int, int], float]]:
    """For each test and pair of members, what it compares with its threshold."""
    import torch
    from torch.nn.functional import cross_entropy

    from tithe.audit.populations import network, trained
    from tithe.tether import compatibility
    from tithe.tether.members import tensors_of
    from tithe.tether.policy import transfer
    from tithe.tether.trials import loss_on

    alone = [[i] for i in range(len(tasks))]
    population = trained(tasks, seed, setting, _RATE, fixed=alone, steps=_STEPS)
    start = network(seed, setting.hidden)
    own = [(task.x, task.y) for task in tasks]
    first = torch.tensor([loss_on(start, cross_entropy, [batch]) for batch in own])
    losses = torch.tensor([[loss_on(m, cross_entropy, [batch]) for batch in own] for m in population.models])
    tried, before = transfer(losses, first), tensors_of(start)
    changes = [{n: t - before[n] for n, t in tensors_of(m).items()} for m in population.models]
    generator = torch.Generator().manual_seed(seed)
    random_tethers = [torch.rand(64, 64, generator=generator) for _ in tasks]
    found: dict[str, dict[tuple[int, int], float]] = {}
    for i, j in itertools.combinations(range(len(tasks)), 2):
        values = (
            compatibility(random_tethers[i], random_tethers[j], "dot"),
            compatibility(changes[i], changes[j], "update"),
            compatibility(changes[i], changes[j], part="output"),
            float(tried[i, j]),
        )
        for test, value in zip(_TESTS, values, strict=True):
            found.setdefault(test, {})[i, j] = value
    return found


def _plateaus(run: Run) -> float:
    """The share of batches of digits on which the source's test for a plateau is true: |Δ loss| or gradient < 0.1."""
    import torch
    from torch import nn

    from tithe.data import load

    digits = load("digits")
    x, y = torch.as_tensor(digits.train_x).float().flatten(1) / 16, torch.as_tensor(digits.train_y).long()
    generator = torch.Generator().manual_seed(run.seed)
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer, before, met = torch.optim.Adam(model.parameters()), float("inf"), []
    for _ in range(10):
        order = torch.randperm(len(x), generator=generator)
        for rows in (order[start : start + 32] for start in range(0, len(x), 32)):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            steep = sum(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)
            optimizer.step()
            met.append(abs(before - float(loss.detach())) < 0.1 or steep < 0.1)
            before = float(loss.detach())
    return sum(met) / len(met)


CLAIM = Claim(
    id="T4",
    title="Merge if compatible, drift apart if not",
    says=(
        "When the descent of a model is on a plateau, it compares its tethers with another model's and merges with it "
        "where their product sums up to more than a threshold."
    ),
    claimed="models merge when they are compatible",
    baseline="pairs of which it is known whether they learn one task or conflicting labels",
    budget=6.0,
    measure=_measure,
    judge=judge,
)
