"""M4: a trained digit classifier keeps its accuracy when all its products are approximated."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "LOST", "LOW_RANK", "RATIO", "judge"]

LOST = 0.05  # percentage points
RATIO = 0.3
LOW_RANK = "low-rank weights"


def judge(found: Evidence) -> Finding:
    """Whether some way stays within the ratio and loses no more accuracy than claimed, its interval included.

    It reads the table ``methods`` (method, role, share of the operations, accuracy, lost points and time with their
    ends) and the fact ``data``. A figure that only the mean over seeds reaches, only the share of the seconds, only
    another data set or only factors made beforehand makes the claim hold under that condition.
    """
    exact, rows = found.rows("methods", role="exact"), found.rows("methods")
    tried = [row for row in rows if row["role"] != "exact" and (_cheap(row) or _quick(row))]
    if not exact:
        return Finding("unmeasured", "Nothing was measured.")
    data, accuracy = found.facts["data"], show(exact[0]["accuracy"], ".2%")
    reason = _reason(rows)
    if not tried:
        summary = f"No method stays within {RATIO:g} of the exact product's cost."
        return Finding("fails", summary, f"{data}: {accuracy} exact", reason)
    best = min(tried, key=lambda row: (row["lost"] > LOST, len(_conditions(row, data)), _upper(row)))
    measured = f"{data}: {accuracy} → {show(best['accuracy'], '.2%')} by {best['method']}"
    lost, share, time = show(best["lost"], ".2f"), show(best["share"], ".0%"), show(best["time"], ".0%")
    cost = f"{share} of the multiply–adds" if _cheap(best) else f"{time} of the time"
    summary = f"{lost} points lost at {cost}, by {best['method']}"
    if best["lost"] > LOST and data != "MNIST":
        summary = f"Measured on {data} only, where the claim fails: {summary}."
        return Finding("unmeasured", summary, measured, reason)
    if best["lost"] > LOST:
        return Finding("fails", f"{summary}; nothing within {RATIO:g} of the cost loses less.", measured, reason)
    if conditions := _conditions(best, data):
        return Finding("holds if", f"{summary}.", measured, reason, condition=", and ".join(conditions) + ".")
    return Finding("holds", f"{summary}.", measured, reason)


def _conditions(row: Row, data: str) -> list[str]:
    conditions = []
    if row["method"] == LOW_RANK:
        conditions.append("the weights are known beforehand and factored to a low rank, all but the last layer's")
    if not _cheap(row):
        conditions.append("the cost is counted in seconds on this machine")
    elif row["time_low"] is not None and row["time_low"] > 1:
        conditions.append(
            f"the cost is counted in multiply–adds (it takes {show(row['time'], '.1f')} times as long here)"
        )
    if _upper(row) > LOST:
        conditions.append(f"one goes by the mean over seeds (its interval reaches {show(_upper(row), '.2f')} points)")
    if data != "MNIST":
        conditions.append(f"MNIST, which could not be had, behaves as {data} does")
    return conditions


def _cheap(row: Row) -> bool:
    return row["share"] is not None and round(row["share"], 2) <= RATIO


def _quick(row: Row) -> bool:
    return row["time_high"] is not None and row["time_high"] <= RATIO


def _upper(row: Row) -> float:
    return float(row["lost"] if row["lost_high"] is None else row["lost_high"])


def _reason(rows: list[Row]) -> str:
    others = [row for row in rows if row["role"] != "exact"]
    sentences = []
    for words, cheap in ((f"within {RATIO:g} of the multiply–adds", True), ("at a higher cost", False)):
        if part := [row for row in others if _cheap(row) == cheap]:
            figures = "; ".join(f"{row['method']} {show(row['lost'], '.2f')}{_in_time(row)}" for row in part)
            sentences.append(f"Points lost, mean over seeds, {words}: {figures}.")
    if any(row["method"] == LOW_RANK for row in others):
        sentences.append(
            "Low-rank weights are the plain way to spend that share: the factors are made once, from the weights and "
            "the layer's outputs on training images, and the last layer, with next to no work, stays exact."
        )
    return "\n".join(sentences)


def _in_time(row: Row) -> str:
    return "" if row["time"] is None else f" ({show(row['time'], '.0%')} of the time)"


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m4_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M4",
    title="A digit classifier with all products approximated",
    says=(
        "In a network of three layers, 784 → 512 → 256 → 10, trained on handwritten digits, every product is replaced "
        "by its approximation at a ratio of 0.3, and the accuracy falls by five hundredths of a point, where int8 is "
        "said to cost one to three points."
    ),
    claimed="96.39% → 96.34% at ratio 0.3",
    baseline="the exact product; sampling; weights factored beforehand; torch's dynamic int8 quantisation",
    budget=35.0,
    measure=_measure,
    judge=judge,
)
