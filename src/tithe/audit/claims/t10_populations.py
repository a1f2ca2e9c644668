"""T10: an ensemble that connects and disconnects is better than the same models trained alone."""

from __future__ import annotations

from typing import Any

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.formatting import show
from tithe.audit.statistics import interval

__all__ = ["CLAIM", "OURS", "POOLED", "judge"]

OURS, ALONE, ALWAYS, KNOWN = "population", "independent", "always merge", "known groups"
POOLED = "pooled, known groups, 4× steps"  # of as much work as all members together
KINDS = {"alike": [0, 0, 0, 0], "conflict": [0, 0, 1, 1]}
_QUICK_RATE = 0.03


def judge(found: Evidence) -> Finding:
    """Whether the population beats independent members in both scenes, the interval included, and what beats it.

    It reads the table ``arms`` (scene, arm, accuracy, over with its ends, in points).
    """
    rows = {(row["scene"], row["arm"]): row for row in found.rows("arms")}
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    reason = "\n".join(_sentence(row) for row in rows.values())
    ours = {scene: rows[scene, OURS] for scene in KINDS}
    measured = "; ".join(f"{scene}: {_over(row)} points over independent members" for scene, row in ours.items())
    if min(_lower(row) for row in ours.values()) <= 0:
        return Finding("fails", "A population is no better than independent members.", measured, reason)
    harm = show(rows["conflict", ALWAYS]["over"], "+.0f")
    summary = f"A population is better than its members alone; merging always would give {harm} points under conflict."
    better = rows["alike", POOLED]["accuracy"] - ours["alike"]["accuracy"]
    if better > 0:
        points = show(better, ".1f")
        condition = f"their data cannot be pooled: one model on all of it, at as much work, is {points} points better."
        return Finding("holds if", summary, measured, reason, condition=condition)
    return Finding("holds", summary, measured, reason)


def _over(row: Row) -> str:
    return f"{show(row['over'], '+.1f')} [{show(row['over_low'], '+.1f')}, {show(row['over_high'], '+.1f')}]"


def _sentence(row: Row) -> str:
    return f"{row['scene']}, {row['arm']}: {show(row['accuracy'], '.1f')} %, {_over(row)} points over independent"


def _lower(row: Row) -> float:
    return float(row["over"] if row["over_low"] is None else row["over_low"])


def _measure(run: Run) -> Evidence:
    from tithe.audit.populations import SETTINGS, images  # imports torch: not needed to list the claim
    from tithe.errors import DataUnavailableError
    from tithe.parallel import threads

    try:
        data = {part: images("mnist", part) for part in ("held out", "test")}
    except DataUnavailableError:
        run.need(False, "the MNIST images, which are not on this machine and could not be fetched")
    names = (ALONE, OURS, ALWAYS, KNOWN, POOLED)
    pairs = [(scene, name) for scene in KINDS for name in names]
    scores = {}
    with threads(1):
        for number, (scene, name) in enumerate(pairs):
            run.progress(number / len(pairs), f"{name}, {scene}")
            scores[scene, name] = _scores(run, data, scene, name)
    rows = [_row(scene, name, values, scores[scene, ALONE]) for (scene, name), values in scores.items()]
    columns = (
        Column("scene", "data"), Column("arm", "arm"), Column("accuracy", "accuracy, %", ".1f"),
        Column("over", "points over independent", "+.1f", low="over_low", high="over_high"),
    )  # fmt: skip
    seeds = len(next(iter(scores.values())))
    caption = f"Four members, 200 images of MNIST each, {SETTINGS['sgd'].name}, 400 steps, {seeds} seeds"
    notes = ["The rate is that which benchmarks/populations.py chose for most arms."] if run.mode == "quick" else []
    return Evidence({"arms": Table(caption, rows, columns)}, [_plot(rows)], {}, notes)


def _scores(run: Run, data: Any, scene: str, name: str) -> list[float]:
    """Accuracies of one arm by seed, in full mode at the rate that is best on held-out images."""
    from tithe.audit.populations import SETTINGS, arms, shards

    setting, groups = SETTINGS["sgd"], [[0, 1], [2, 3]] if scene == "conflict" else [[0, 1, 2, 3]]

    def score(part: str, seed: int, rate: float) -> float:
        return dict(arms(shards(data[part], KINDS[scene], seed), groups, seed, setting, rate))[name]()

    best = _QUICK_RATE
    if run.mode == "full":
        best = max(setting.rates, key=lambda rate: sum(score("held out", seed, rate) for seed in range(3)))
    return [score("test", 10 + seed, best) for seed in run.seeds(run.pick(quick=3, full=6))]


def _row(scene: str, arm: str, scores: list[float], alone: list[float]) -> Row:
    over = interval([a - b for a, b in zip(scores, alone, strict=True)])
    ends = {"over": over.mean, "over_low": over.low, "over_high": over.high}
    return {"scene": scene, "arm": arm, "accuracy": sum(scores) / len(scores), **ends}


def _plot(rows: list[Row]) -> Plot:
    series = []
    for name in dict.fromkeys(row["arm"] for row in rows):
        points = [row["accuracy"] for row in rows if row["arm"] == name]
        series.append(Series(name, list(range(len(points))), points, role="measured" if name == OURS else "baseline"))
    return Plot("Accuracy, all alike (0) and under conflict (1)", Axis("scene"), Axis("accuracy, %"), series)


CLAIM = Claim(
    id="T10",
    title="An ensemble that connects and disconnects",
    says=(
        "Models whose tether nodes connect where they agree and disconnect where they do not form an ensemble that "
        "adapts in real time and keeps what repeated similar inputs would wash out."
    ),
    claimed="better than the same models trained alone",
    baseline="independent members, merging always, known groups, one model on the pooled data at as much work",
    budget=45.0,
    measure=_measure,
    judge=judge,
)
