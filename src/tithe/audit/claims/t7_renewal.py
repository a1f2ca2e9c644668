"""T7: re-normalisation lets a descent go on where it would stall, and what else does as much."""

from __future__ import annotations

import statistics
from typing import Any

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.formatting import show
from tithe.audit.statistics import interval

__all__ = ["CLAIM", "OURS", "PLAIN", "RIVALS", "judge"]

OURS, PLAIN = "renewal", "plain"
RIVALS = ("dormant resets", "shrink-and-perturb")
# Arms of the race, with settings beside those that were chosen; only a fresh start is told when a task begins.
_ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    PLAIN: ("plain", {}),
    "dormant resets": ("dormant", {}),
    OURS: ("renormalise", {}),
    "shrink-and-perturb": ("shrink-and-perturb", {}),
    "renewal at stalls": ("renormalise", {"when": "stall"}),
    "fresh start each task": ("fresh", {}),
}
_QUICK = (PLAIN, "dormant resets", OURS)
Race = dict[str, list[list[float]]]  # by arm, for each seed the accuracies at the ends of tasks, in percent


def judge(found: Evidence) -> Finding:
    """Whether renewal beats plain training on all data, the interval included, and whether it beats its best rival.

    It holds where it beats both; it holds if compared with plain training alone where the best rival is better or not
    told apart; it fails where it is worse than plain training, and is unmeasured where that is not told. It reads the
    table ``arms`` (data, arm, accuracy, points over plain and of ours over the arm, with their ends).
    """
    rows = found.rows("arms")
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    by_data: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_data.setdefault(row["data"], {})[row["arm"]] = row
    reason = "\n".join(map(_sentence, rows))
    measured = "; ".join(f"{data}: {_ends(arms[OURS], 'over')} points over plain" for data, arms in by_data.items())
    over = {data: _sign(arms[OURS], "over") for data, arms in by_data.items()}
    if min(over.values()) < 0:
        worse = " and ".join(data for data, sign in over.items() if sign < 0)
        return Finding("fails", f"Renewal is worse than plain training on {worse}.", measured, reason)
    if not all(over.values()):
        return Finding("unmeasured", "The seeds are too few to tell renewal from plain training.", measured, reason)
    rivals = {data: _best_rival(arms) for data, arms in by_data.items()}
    signs = {data: _sign(row, "less") for data, row in rivals.items()}
    summary = "With renewal a network goes on learning where plain training stalls"
    if min(signs.values()) > 0:
        return Finding("holds", f"{summary}, and better than with any rival.", measured, reason)
    better = [data for data, sign in signs.items() if sign < 0]
    summary += f"; a tuned rival is better on {' and '.join(better)}." if better else "; so it does with a tuned rival."
    words = {1: "worse", 0: "not told apart", -1: "better"}
    against = [
        f"{r['arm']}: {words[signs[data]]}, ours {_ends(r, 'less')} points, {data}" for data, r in rivals.items()
    ]
    condition = f"it is held against plain training, not its best rivals ({'; '.join(against)})."
    return Finding("holds if", summary, measured, reason, condition=condition)


def _best_rival(arms: dict[str, Row]) -> Row:
    return max((arms[name] for name in RIVALS if name in arms), key=lambda row: float(row["accuracy"]))


def _sign(row: Row, column: str) -> int:
    """1 or -1 where the interval lies wholly above or below 0, else 0."""
    low, high = (row[column] if end is None else end for end in (row[f"{column}_low"], row[f"{column}_high"]))
    return 1 if low > 0 else -1 if high < 0 else 0


def _ends(row: Row, column: str) -> str:
    mean, low, high = (show(row[f"{column}{end}"], "+.2f") for end in ("", "_low", "_high"))
    return f"{mean} [{low}, {high}]"


def _sentence(row: Row) -> str:
    text = f"{row['data']}, {row['arm']}: {show(row['accuracy'], '.2f')} %"
    if row["arm"] != PLAIN:
        text += f", {_ends(row, 'over')} points over plain"
    return text if row["arm"] in (PLAIN, OURS) else f"{text}; renewal: {_ends(row, 'less')} over this"


def _measure(run: Run) -> Evidence:
    from tithe.audit import renewal  # imports torch: not needed to list the claim
    from tithe.parallel import threads

    protocols = run.pick(quick=("labels",), full=("labels", "permuted"))
    names = run.pick(quick=_QUICK, full=tuple(_ARMS))
    count, last = run.pick(quick=(10, 2), full=(renewal.TASKS, 5))
    seeds = [renewal.FIRST_SEED + seed for seed in run.seeds(run.pick(quick=3, full=6))]
    jobs = [(protocol, name, seed) for protocol in protocols for name in names for seed in seeds]
    races: dict[str, Race] = {protocol: {name: [] for name in names} for protocol in protocols}
    with threads(1):
        for number, (protocol, name, seed) in enumerate(jobs):
            run.progress(number / len(jobs), f"{name}, {renewal.NAMES[protocol]}, {count} tasks")
            arm, more = _ARMS[name]
            settings = {**renewal.CHOSEN[protocol].get(arm, {}), **more}
            accuracies = renewal.run(protocol, arm, seed, settings, count)
            races[protocol][name].append([100 * accuracy for accuracy in accuracies])
    rows = [_row(renewal.NAMES[protocol], name, races[protocol], last) for protocol in protocols for name in names]
    columns = (
        Column("data", "data"), Column("arm", "arm"), Column("accuracy", "accuracy, %", ".2f"),
        Column("over", "points over plain", "+.2f", low="over_low", high="over_high"),
        Column("less", "points of renewal over it", "+.2f", low="less_low", high="less_high"),
    )  # fmt: skip
    caption = (
        f"MNIST at 14×14, a perceptron 196→100→100→10: the last {last} of {count} tasks, {len(seeds)} seeds, paired"
    )
    notes = [
        "The rivals' settings are those that benchmarks/renormalizing.py chose from ten tries each; renewal has its "
        "defaults. It comes on a schedule or, at stalls, only where loss, rank or dormant nodes say so. No node is "
        "bookmarked here: all may be laid over.",
    ]
    if run.mode == "quick":
        left_out = ", ".join(name for name in _ARMS if name not in names)
        notes.append(f"Left out: permuted inputs; {left_out}. The first task of plain training is a fresh start, too.")
    plots = [_plot(renewal.NAMES[protocol], race) for protocol, race in races.items()]
    return Evidence({"arms": Table(caption, rows, columns)}, plots, {}, notes)


def _row(data: str, name: str, race: Race, last: int) -> Row:
    def scores(arm: str) -> list[float]:
        return [statistics.mean(accuracies[-last:]) for accuracies in race[arm]]

    row: dict[str, Any] = {"data": data, "arm": name, "accuracy": statistics.mean(scores(name))}
    for column, a, b in (("over", name, PLAIN), ("less", OURS, name)):
        difference = interval([x - y for x, y in zip(scores(a), scores(b), strict=True)])
        ends = difference if a != b else (None, None, None)
        row[column], row[f"{column}_low"], row[f"{column}_high"] = ends
    return row


def _plot(data: str, race: Race) -> Plot:
    series = []
    for name, runs in race.items():
        means = [statistics.mean(accuracies) for accuracies in zip(*runs, strict=True)]
        role: Any = "measured" if name == OURS else "baseline"
        series.append(Series(name, list(range(1, len(means) + 1)), means, role=role))
    return Plot(f"Accuracy at the end of each task, {data}", Axis("task"), Axis("accuracy, %"), series)


CLAIM = Claim(
    id="T7",
    title="Re-normalisation when the descent stalls",
    says=(
        "There comes a point where a descent over a matrix goes no further; then a new matrix is laid over the old "
        "one, trimmed to what was bookmarked and of the same shape, so that the descent goes on."
    ),
    claimed="a stalled descent goes on",
    baseline="plain training; tuned dormant resets (ReDo) and shrink-and-perturb; in hindsight a fresh start each task",
    budget=50.0,
    measure=_measure,
    judge=judge,
)
